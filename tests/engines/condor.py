"""A real HTCondor on loopback: master, collector, negotiator, schedd and startd of one machine.

The release of Debian that most machines run has no HTCondor; ``install.sh`` unpacks a small tree of a later one, and
the pool runs in it: in a mount namespace of its own, with what jobs need of this machine bound in, and in a user
namespace, because HTCondor starts no jobs of root. Nothing is mounted outside, and nothing listens but on loopback.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.engines.processes import Daemons, free_ports
from tests.engines.sshd import SOURCE

TREE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dask-engines" / "htcondor"
_COMMANDS = ("condor_submit", "condor_q", "condor_rm", "condor_status", "condor_hold", "condor_history")

_CONFIG = """
RELEASE_DIR = /usr
LIBEXEC = /usr/libexec/condor
BIN = /usr/bin
SBIN = /usr/sbin
LIB = /usr/lib/condor
LOCAL_DIR = {folder}
LOG = {folder}/log
SPOOL = {folder}/spool
EXECUTE = {folder}/execute
RUN = {folder}/run
LOCK = {folder}/lock
MASTER_ADDRESS_FILE = {folder}/log/.master_address
PROCD_ADDRESS = {folder}/lock/procd
DAEMON_SOCKET_DIR = {folder}/lock/s
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
USE_SHARED_PORT = True
FULL_HOSTNAME = localhost
NETWORK_INTERFACE = 127.0.0.1
NETWORK_HOSTNAME = localhost
BIND_ALL_INTERFACES = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = loop
UID_DOMAIN = loop
FILESYSTEM_DOMAIN = loop
TRUST_UID_DOMAIN = True
DAEMON_LIST = MASTER SHARED_PORT COLLECTOR NEGOTIATOR SCHEDD STARTD
SEC_DEFAULT_AUTHENTICATION = OPTIONAL
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, CLAIMTOBE
SEC_DEFAULT_ENCRYPTION = OPTIONAL
SEC_DEFAULT_INTEGRITY = OPTIONAL
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_ADMINISTRATOR = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
NUM_CPUS = {cpus}
MEMORY = 16000
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
START = True
SUSPEND = False
PREEMPT = False
KILL = False
WANT_SUSPEND = False
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
PERIODIC_EXPR_INTERVAL = 5
RUNBENCHMARKS = 0
BASE_CGROUP =
DISCARD_SESSION_KEYRING_ON_STARTUP = False
"""

# pivot_root, not chroot: the kernel refuses user namespaces inside a chroot. Each step keeps the process id.
_ENTER_TREE = """
mount --bind "$TREE" "$TREE"
for d in /proc /sys /dev /tmp $BIND; do mkdir -p "$TREE$d"; mount --rbind "$d" "$TREE$d"; done
mkdir -p "$TREE/.old"
cp /etc/hosts "$TREE/etc/hosts"
cd "$TREE"
pivot_root . .old
cd /
umount -l /.old
exec unshare -U --map-user=1000 --map-group=1000 /usr/sbin/condor_master -f
"""
_COMMAND = """#!/bin/sh
exec nsenter -t {pid} -m -U -r --preserve-credentials -- env CONDOR_CONFIG={config} \\
    sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" /usr/bin/{command} "$@"
"""


def require_condor() -> None:
    """Skip where HTCondor's tree is not, or this Python cannot run in it."""
    if os.geteuid() or not (TREE / "usr" / "sbin" / "condor_master").exists():
        pytest.skip("needs HTCondor's tree and root (sh tests/engines/install.sh)")
    absent = [name for name in ("unshare", "nsenter", "pivot_root") if shutil.which(name) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    if sys.base_prefix == "/usr":
        pytest.skip("needs a Python outside /usr, which is another Debian's for HTCondor's jobs")


class HTCondor:
    """Running daemons; ``environment`` is what makes the commands find them."""

    stuck_state = "held"

    def __init__(self, folder: Path, cpus: int = 8) -> None:
        self.folder = folder
        for name in ("log", "spool", "execute", "run", "lock", "bin"):
            (folder / name).mkdir()
        config = folder / "condor_config"
        config.write_text(_CONFIG.format(folder=folder, port=free_ports(1)[0], cpus=cpus))
        if not TREE.joinpath("etc/passwd").read_text().count("runner:"):
            for file, line in (("passwd", "runner:x:1000:1000::/tmp:/bin/bash"), ("group", "runner:x:1000:")):
                with (TREE / "etc" / file).open("a") as opened:
                    opened.write(f"{line}\n")
        binds = {SOURCE, sys.prefix, sys.base_prefix, str(Path.home())}
        own = {"TREE": str(TREE), "BIND": " ".join(sorted(binds)), "CONDOR_CONFIG": str(config)}
        self._daemons = Daemons(folder, {**os.environ, **own})
        try:
            enter = ("unshare", "-m", "--propagation", "private", "bash", "-ec", _ENTER_TREE)
            self._daemons.start("master", *enter)
            self._write_commands(config)
            self.environment = {"PATH": f"{folder / 'bin'}:{os.environ.get('PATH', '')}"}
            self._daemons.wait_for(self.is_ready, "the pool has a slot and takes jobs")
        except BaseException:
            self.close()
            raise

    def _write_commands(self, config: Path) -> None:
        """The pool's commands, for those outside of its namespaces."""
        for name in _COMMANDS:
            file = self.folder / "bin" / name
            pid = self._daemons.pid("master")
            file.write_text(_COMMAND.format(pid=pid, config=shlex.quote(str(config)), command=name))
            file.chmod(0o755)

    def run(self, *command: str) -> str:
        """What a command of HTCondor prints."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout

    def is_ready(self) -> bool:
        return bool(self.run("condor_status", "-af", "Name")) and "Total for all users" in self.run("condor_q")

    def jobs(self) -> list[str]:
        """Ids of the jobs that wait or run."""
        rows = [line.split() for line in self.run("condor_q", "-af", "ClusterId", "ProcId", "JobStatus").splitlines()]
        return [f"{row[0]}.{row[1]}" for row in rows if row[2] not in ("3", "4")]

    def cancel(self, job_id: str) -> None:
        self.run("condor_rm", job_id)

    def close(self) -> None:
        """End all jobs, then the daemons and whatever is left of them."""
        self.run("condor_rm", "-all")
        family = psutil.Process(self._daemons.pid("master")).children(recursive=True)
        self._daemons.close()
        _, alive = psutil.wait_procs(family, 5)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, 5)
