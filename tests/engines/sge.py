"""A real Grid Engine on loopback: a queue master and one execution host with a queue of several slots."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.engines.processes import Daemons, free_ports

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROGRAMS = ("sge_qmaster", "sge_execd", "qsub", "qstat", "qdel", "qconf")
_SHARE, _LIBRARY = Path("/usr/share/gridengine"), Path("/usr/lib/gridengine")

_BOOTSTRAP = """
admin_user              none
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         {folder}/spool/db
binary_path             /usr/sbin
qmaster_spool_dir       {folder}/spool/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
_ENVIRONMENT_PE = """
pe_name smp
slots 999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""


def require_sge() -> None:
    """Skip where Grid Engine is not installed."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if absent or not _LIBRARY.is_dir():
        packages = "gridengine-master gridengine-exec gridengine-client"
        pytest.skip(f"needs {', '.join(absent) or _LIBRARY} (apt-get install {packages})")
    if os.geteuid():
        pytest.skip("Grid Engine's daemons run as root here")
    if not _SHARE.joinpath("default-configuration").exists():
        pytest.skip("needs Grid Engine as Debian packages it")


class GridEngine:
    """Running daemons; ``environment`` is what makes the commands find them."""

    def __init__(self, folder: Path, slots: int = 8) -> None:
        self.folder, self.slots = folder, slots
        folder.chmod(0o755)
        self.host = socket.gethostname().partition(".")[0]
        master, execd = free_ports(2)
        self.environment = {
            "SGE_ROOT": str(folder / "root"),
            "SGE_CELL": "default",
            "SGE_ARCH": "lx-amd64",
            "SGE_QMASTER_PORT": str(master),
            "SGE_EXECD_PORT": str(execd),
        }
        # SGE_ND: the daemons stay in the foreground.
        self._daemons = Daemons(folder, {**os.environ, **self.environment, "PATH": _PATH, "SGE_ND": "1"})
        try:
            self._lay_out()
            self._daemons.start("qmaster", "sge_qmaster")
            self._daemons.wait_for(lambda: self.answers("qconf", "-sh"), "the queue master answers")
            self.run("qconf", "-ah", self.host)
            self.run("qconf", "-as", self.host)
            self._daemons.start("execd", "sge_execd")
            self._make_queue()
            self._daemons.wait_for(self.is_ready, "the queue is ready")
        except BaseException:
            self.close()
            raise

    def _lay_out(self) -> None:
        root, spool = self.folder / "root", self.folder / "spool"
        common = root / "default" / "common"
        for directory in (common, spool / "qmaster" / "job_scripts", spool / "db", spool / "execd"):
            directory.mkdir(parents=True)
        (root / "util").symlink_to(_SHARE / "util")
        for name in ("bin", "utilbin", "lib"):
            (root / name).mkdir()
            (root / name / "lx-amd64").symlink_to(_LIBRARY)
        (common / "act_qmaster").write_text(f"{self.host}\n")
        # Loopback has several names; the daemons must agree on one.
        (common / "host_aliases").write_text(f"{self.host} localhost\n")
        (common / "bootstrap").write_text(_BOOTSTRAP.format(folder=self.folder).lstrip())
        text = _SHARE.joinpath("default-configuration").read_text()
        for name, value in {
            "execd_spool_dir": str(spool / "execd"), "min_uid": "0", "min_gid": "0", "load_report_time": "00:00:01",
            "mailer": "/bin/true", "loglevel": "log_info",
        }.items():  # fmt: skip
            text = _with(text, name, value)
        (self.folder / "configuration").write_text(text)
        resources = _SHARE / "util" / "resources"
        self._must(str(_LIBRARY / "spoolinit"), "berkeleydb", "libspoolb", str(spool / "db"), "init")
        for what in (("configuration", self.folder / "configuration"), ("complexes", resources / "centry"),
                     ("usersets", resources / "usersets"), ("managers", "root")):  # fmt: skip
            self._must(str(_LIBRARY / "spooldefaults"), *map(str, what))

    def _make_queue(self) -> None:
        self._configure("-Ap", _ENVIRONMENT_PE)
        self._configure("-Ahgrp", f"group_name @allhosts\nhostlist {self.host}\n")
        queue = self.run("qconf", "-sq")
        # Without limits on load, else a busy machine takes no jobs.
        for name, value in {
            "qname": "all.q", "hostlist": "@allhosts", "slots": str(self.slots), "pe_list": "smp",
            "shell": "/bin/sh", "shell_start_mode": "posix_compliant", "load_thresholds": "NONE", "notify": "00:00:01",
        }.items():  # fmt: skip
            queue = _with(queue, name, value)
        self._configure("-Aq", queue)
        scheduler = self.run("qconf", "-ssconf")
        for name, value in {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}.items():
            scheduler = _with(scheduler, name, value)
        self._configure("-Msconf", scheduler)

    def _configure(self, option: str, text: str) -> None:
        file = self.folder / f"qconf{option}"
        file.write_text(text.lstrip())
        self._must("qconf", option, str(file))

    def _must(self, *command: str) -> None:
        environment = {**os.environ, **self.environment, "PATH": _PATH}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout} {done.stderr}")

    def answers(self, *command: str) -> bool:
        return not subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, timeout=60
        ).returncode

    def run(self, *command: str) -> str:
        """What a command of Grid Engine prints."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout

    def is_ready(self) -> bool:
        """Whether the queue has its slots and its host is not out of order (no state letter at the line's end)."""
        return (
            re.search(rf"^all\.q@.* 0/\d+/{self.slots} +[0-9.]+ +lx-amd64 *$", self.run("qstat", "-f"), re.M)
            is not None
        )

    def jobs(self) -> list[str]:
        """Ids of the jobs that wait or run, tasks of arrays each by itself."""
        found = []
        for job in self.run("qstat", "-xml", "-g", "d", "-u", "*").split("</job_list>")[:-1]:
            parts = [re.search(f"<{tag}>(.*)</{tag}>", job) for tag in ("JB_job_number", "tasks")]
            found.append(".".join(part[1] for part in parts if part))
        return found

    def cancel(self, job_id: str) -> None:
        self.run("qdel", job_id)

    stuck_state = "Eqw"

    def close(self) -> None:
        """End all jobs, then the daemons."""
        if self.jobs():
            self.run("qdel", "-f", "-u", "*")
            self._daemons.wait_for(lambda: not self.jobs(), "all jobs have ended")
        self._daemons.close()


def _with(text: str, name: str, value: str) -> str:
    """The configuration with another value of ``name``."""
    changed, n = re.subn(rf"^{name}\s.*$", f"{name} {value}", text, flags=re.M)
    if not n:
        raise RuntimeError(f"no {name} in {text}")
    return changed
