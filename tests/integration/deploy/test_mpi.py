"""S60-S62: ``dask-mpi`` and ``distributed.mpi`` under a real mpirun."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distributed import Client
from distributed.testing import inc
from tests.engines.mpi import mpirun
from tests.integration.cli.test_programs import running

pytestmark = pytest.mark.engine

DASK_MPI = [sys.executable, "-m", "distributed.cli.dask_mpi"]

SCRIPT = """
import sys
from distributed import Client
import importlib
mpi = importlib.import_module(sys.argv[2])

def work(n):
    with Client() as client:
        client.wait_for_workers(n, timeout=30)
        names = sorted(worker["name"] for worker in client.scheduler_info()["workers"].values())
        print("answer", client.submit(sum, [1, 2]).result(), *names, flush=True)

options = dict(dashboard=False, worker_class="distributed.Worker", interface="lo")
if sys.argv[1] == "initialize":
    mpi.initialize(**options)
    work(1)
else:
    mpi.execute(work, (1,) if sys.argv[2] == "dask_mpi" else 1, **options)
"""


@pytest.fixture(autouse=True)
def private(private_places: None) -> None:
    """All tests of this file."""


def test_s60_s61_s62_scheduler_file_and_interface(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    options = ["--nthreads", "1", "--interface", "lo", "--no-dashboard", "--scheduler-file", str(path)]
    with running(mpirun(3, *DASK_MPI, *options)) as program:
        program.line(r"Registered to", timeout=60)
        program.line(r"Registered to", timeout=60)
        assert set(json.loads(path.read_text())) >= {"address", "id", "secret"}
        with Client(scheduler_file=str(path)) as client:
            client.wait_for_workers(2, timeout=20)
            assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
            workers = client.scheduler_info()["workers"]
            assert sorted(worker["name"] for worker in workers.values()) == ["dask_mpi-1", "dask_mpi-2"]
            assert all(address.startswith("tcp://127.0.0.1:") for address in workers)
            assert all(worker["nthreads"] == 1 for worker in workers.values())
            # A second job, of workers only, joins by the same file.
            more = [*DASK_MPI, "--no-scheduler", "--scheduler-file", str(path), "--name", "more", "--no-nanny"]
            with running(mpirun(2, *more)) as second:
                client.wait_for_workers(4, timeout=30)
                second.end(timeout=30)
        code, text = program.end(signal.SIGTERM, timeout=30)
    assert code == 128 + signal.SIGTERM, text
    assert not path.exists()


@pytest.mark.parametrize("package", ["distributed.mpi", "dask_mpi"])
@pytest.mark.parametrize("call", ["initialize", "execute"])
def test_a_script_is_one_rank_of_its_cluster(call: str, package: str, tmp_path: Path) -> None:
    """With our own functions, and with those of the package dask-mpi, unchanged."""
    if package == "dask_mpi":
        pytest.importorskip("dask_mpi", reason="needs the package dask-mpi (pip install dask-mpi)")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with running(mpirun(3, sys.executable, str(script), call, package)) as program:
        code, text = program.end_by_itself(timeout=60)
    assert code == 0, text
    assert re.search(r"^answer 3 (dask_mpi-)?2$", text, re.MULTILINE)


def test_the_command_of_the_package_dask_mpi(tmp_path: Path) -> None:
    pytest.importorskip("dask_mpi", reason="needs the package dask-mpi (pip install dask-mpi)")
    path = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "dask_mpi.cli", "--interface", "lo", "--no-dashboard", "--nthreads", "1"]
    with running(mpirun(3, *command, "--scheduler-file", str(path))) as program:
        program.line(r"Registered to", timeout=60)
        with Client(scheduler_file=str(path)) as client:
            client.wait_for_workers(2, timeout=30)
            assert client.gather(client.map(inc, range(10))) == list(range(1, 11))
        program.end(signal.SIGTERM, timeout=30)


def test_the_scheduler_works_too_and_errors_reach_every_rank() -> None:
    options = ["--inclusive-workers", "--scheduler-port", "0", "--no-dashboard", "--worker-class", "distributed.Worker"]
    with running(mpirun(1, *DASK_MPI, *options)) as program:
        address = program.line(r"Registered to: +(\S+)", timeout=60)
        with Client(address, timeout="10s") as client:
            assert client.submit(inc, 1).result(timeout=10) == 2
    done = subprocess.run(mpirun(2, *DASK_MPI, "--interface", "nowhere0"), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "rank 0 did not start: this machine has no network interface 'nowhere0'" in done.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--worker-options", "[1]"], "--worker-options must be a JSON object"),
        (["--no-scheduler"], "--no-scheduler needs"),
        (["--scheduler-rank", "7"], "the job has ranks 0 to 0"),
        ([], "a scheduler without workers: mpirun -n 2, or --inclusive-workers"),
    ],
)
def test_bad_options(args: list[str], text: str) -> None:
    done = subprocess.run(mpirun(1, *DASK_MPI, *args), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
