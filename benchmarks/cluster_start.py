"""Time until all workers of a cluster have registered that a real engine starts, from a bare program on.

``python -m benchmarks.cluster_start ssh --workers 4`` starts so many SSH servers, each a host on a loopback address,
and an ``SSHCluster`` on them; ``slurm --workers 100`` a Slurm, and so many workers as one array job. ``--python`` names
a Python in which another package of the name distributed is installed (for ssh with asyncssh, for slurm with
dask-jobqueue), to be measured beside; what it needs may be on ``PYTHONPATH``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.engines.slurm import Slurm
from tests.engines.sshd import SOURCE, SSHHosts

# Runs under either package: prints seconds until the class is imported, until it is made, until all have registered.
SSH = """
import json, sys, time
begin = time.monotonic()
from distributed import Client, SSHCluster
keywords, n = json.loads(sys.argv[1]), int(sys.argv[2])
if __name__ == "__main__":
    cluster = SSHCluster(**keywords)
    made = time.monotonic()
    with Client(cluster, timeout=60) as client:
        client.wait_for_workers(n)
        print(json.dumps([made - begin, time.monotonic() - begin]))
    cluster.close()
"""
SLURM = """
import json, sys, time
begin = time.monotonic()
from distributed import Client
try:
    from dask_jobqueue import SLURMCluster
except ImportError:
    from distributed.deploy import SLURMCluster
keywords, n = json.loads(sys.argv[1]), int(sys.argv[2])
if __name__ == "__main__":
    cluster = SLURMCluster(**keywords)
    made = time.monotonic()
    cluster.scale(n)
    with Client(cluster, timeout=60) as client:
        client.wait_for_workers(n)
        print(json.dumps([made - begin, time.monotonic() - begin]))
    cluster.close()
"""


@contextmanager
def ssh_hosts(folder: Path, n: int, python: str, source: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Environment of the program and keywords of its cluster."""
    hosts = SSHHosts(folder, [f"127.0.0.{i + 1}" for i in range(n)])
    hosts.python.write_text(_login(python, source, folder))
    try:
        yield (
            {},
            {
                "hosts": [hosts.hosts[0], *hosts.hosts],
                "connect_options": hosts.connect_options,
                "remote_python": str(hosts.python),
                "scheduler_options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
                "worker_options": {"nthreads": 1, "memory_limit": 0},
            },
        )
    finally:
        hosts.close()


@contextmanager
def slurm(folder: Path, n: int, python: str, source: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Environment of the program and keywords of its cluster."""
    engine = Slurm(folder, cpus=n // 3 + 1)
    try:
        yield (
            engine.environment,
            {
                "cores": 1,
                "memory": "100 MB",
                "python": python,
                "interface": "lo",
                "log_directory": str(folder / "logs"),
                "nanny": False,
                "job_script_prologue": [f"export {line}" for line in _exports(source, folder)],
                "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
            },
        )
    finally:
        engine.close()


def _exports(source: str, folder: Path) -> list[str]:
    return [f"PYTHONPATH={source}", f"DASK_DISTRIBUTED__AUTH_STORE={folder / 'store'}"]


def _login(python: str, source: str, folder: Path) -> str:
    return "#!/bin/sh\n" + "".join(f"export {line}\n" for line in _exports(source, folder)) + f'exec {python} "$@"\n'


ENGINES = {"ssh": (ssh_hosts, SSH), "slurm": (slurm, SLURM)}


def measure(engine: str, python: str, n: int, limit_s: float, source: str) -> list[float]:
    """Seconds until the cluster is made, and until all have registered."""
    bring_up, program = ENGINES[engine]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with bring_up(folder, n, python, source) as (environment, keywords):
            own = {"PYTHONPATH": source, "DASK_DISTRIBUTED__AUTH_STORE": str(folder / "store")}
            done = subprocess.run(
                [python, "-c", program, json.dumps(keywords), str(n)],
                env={**os.environ, **environment, **own}, cwd=folder, capture_output=True, text=True, timeout=limit_s,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=list(ENGINES))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds")
    options = parser.parse_args()
    source = SOURCE if options.python == sys.executable else os.environ.get("PYTHONPATH", "")
    for _ in range(options.rounds):
        begin = time.monotonic()
        made, registered = measure(options.engine, options.python, options.workers, options.limit, source)
        whole = time.monotonic() - begin
        print(
            f"{options.engine}: {options.workers} workers registered {registered:.1f} s after the program's first line"
            f" (cluster object made after {made:.1f} s); with the engine's own start and end {whole:.1f} s"
        )


if __name__ == "__main__":
    main()
