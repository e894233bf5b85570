"""A real Slurm on loopback: munged, slurmctld, and a slurmd for each of several "nodes", all on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.engines.processes import Daemons, free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

# Without NoInAddrAny the daemons listen on all interfaces; config_overrides lets one machine play several nodes.
_CONFIG = """
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_min_interval=0
KillWait=3
MinJobAge=300
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory=16000
PartitionName=debug Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n1 MaxTime=10:00 State=UP
"""


def require_slurm() -> None:
    """Skip where Slurm is not installed."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)} (apt-get install slurmctld slurmd slurm-client munge)")
    if os.geteuid():
        pytest.skip("Slurm's daemons run as root here")


class Slurm:
    """Running daemons; ``environment`` is what makes the commands find them."""

    def __init__(self, folder: Path, nodes: int = 3, cpus: int = 4) -> None:
        self.folder, self.nodes = folder, nodes
        folder.chmod(0o755)
        ports = free_ports(nodes + 1)
        config = folder / "slurm.conf"
        names = {
            "host": socket.gethostname().partition(".")[0],
            "user": "root",
            "folder": folder,
            "nodes": nodes,
            "cpus": cpus,
        }
        config.write_text(_CONFIG.format(**names, port=ports[0], first=ports[1], last=ports[-1]))
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for name in ("state", *(f"spool-n{i + 1}" for i in range(nodes))):
            (folder / name).mkdir()
        self.environment = {"SLURM_CONF": str(config)}
        self._daemons = Daemons(folder, {**os.environ, **self.environment, "PATH": _PATH})
        try:
            self._start_munge()
            self._daemons.start("slurmctld", "slurmctld", "-D", "-f", str(config))
            for i in range(nodes):
                self.start_node(f"n{i + 1}")
            self._daemons.wait_for(lambda: len(self.idle_nodes()) == nodes, "all nodes are idle")
        except BaseException:
            self.close()
            raise

    def _start_munge(self) -> None:
        key, socket_path = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key-file": key, "socket": socket_path, "pid-file": self.folder / "munged.pid",
                 "log-file": self.folder / "munged.log", "seed-file": self.folder / "munged.seed"}  # fmt: skip
        self._daemons.start("munged", "munged", "-F", "--force", *(f"--{name}={file}" for name, file in files.items()))
        self._daemons.wait_for(socket_path.exists, "munged listens")

    def start_node(self, name: str) -> None:
        self._daemons.start(name, "slurmd", "-D", "-N", name, "-f", self.environment["SLURM_CONF"])

    def run(self, *command: str) -> str:
        """What a command of Slurm prints."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout

    def idle_nodes(self) -> set[str]:
        return set(self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())

    def jobs(self) -> list[str]:
        """Ids of the jobs that wait or run."""
        return self.run("squeue", "-h", "-r", "-o", "%i").split()

    def close(self) -> None:
        """End all jobs, then the daemons; steps of jobs end only while these live."""
        if self.jobs():
            self.run("scancel", "--user=root")
            self._daemons.wait_for(lambda: not self.jobs(), "all jobs have ended")
        self._daemons.close()
