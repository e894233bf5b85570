"""S55-S59 beyond the first steps: an array job on one file, files of dead schedulers, who may read them."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest

from distributed import Client
from distributed.comm import secrets
from distributed.testing import inc
from tests.integration.cli.test_programs import SCHEDULER, WORKER, Program, running

HERE = [*SCHEDULER, "--host", "127.0.0.1", "--port", "0"]
N_ARRAY = 20


@pytest.fixture(autouse=True)
def private(private_places: None) -> None:
    """All tests of this file."""


def killed_scheduler(path: Path) -> str:
    """Leaves the file of a scheduler that had no chance to remove it; its address."""
    with running([*HERE, "--scheduler-file", str(path)]) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        scheduler.process.kill()
        scheduler.process.wait()
    assert path.exists()
    return address


def test_s56_s58_s59_array_job_of_workers_that_are_there_first(tmp_path: Path) -> None:
    """The very same command for all; nothing but the file tells them where to go."""
    path = tmp_path / "scheduler.json"
    env = {**os.environ, secrets.ENV_STORE: str(tmp_path / "other")}  # as on other machines: no store in common
    array = [*WORKER, "--scheduler-file", str(path), "--no-nanny", "--nthreads", "1", "--memory-limit", "0"]
    workers: list[Program] = []
    try:
        workers.extend(Program(array, env=env) for _ in range(N_ARRAY))
        with running([*HERE, "--scheduler-file", str(path)]) as scheduler:
            scheduler.line(r"Start scheduler at: +(\S+)")
            with Client(scheduler_file=str(path), timeout="60s") as client:
                client.wait_for_workers(N_ARRAY, timeout=60)
                assert sum(client.gather(client.map(inc, range(200)))) == 20100
            scheduler.end()
            assert not path.exists()
            for worker in workers:  # they end with their scheduler
                code, text = worker.end_by_itself()
                assert code == 0, text
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.communicate()


def test_s55_what_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    with running([*HERE, "--scheduler-file", str(path)]) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        document = json.loads(path.read_text())
        assert document["address"] == address
        assert document["id"].startswith("Scheduler-")
        assert document["process"]["pid"] == scheduler.process.pid
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.listdir(tmp_path) == [path.name]  # nothing half written beside it
        with Client(address, timeout="10s") as client:
            copy = tmp_path / "copy.json"
            client.write_scheduler_file(str(copy))
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert json.loads(copy.read_text())["secret"] == document["secret"]
        with running([*HERE, "--scheduler-file", str(path)]) as other:
            other.line(r"Start scheduler at: +(\S+)")
            scheduler.end()
            assert path.exists()  # it is not ours any more
            _, text = other.end()
        assert f"was that of a scheduler at {address}, which may still run" in text
    assert not path.exists()


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_s56_the_file_of_a_dead_scheduler_is_not_taken(tmp_path: Path, nanny: str) -> None:
    path = tmp_path / "scheduler.json"
    old = killed_scheduler(path)
    with running([*WORKER, nanny, "--scheduler-file", str(path)]) as worker:
        worker.line("Waiting for the scheduler file .*, which is that of a scheduler which has ended")
        with running([*HERE, "--scheduler-file", str(path)]) as scheduler:
            address = scheduler.line(r"Start scheduler at: +(\S+)")
            assert address != old
            assert worker.line("Registered with Scheduler at: +(\\S+)") == address
            worker.end()


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_s56_the_file_of_another_machine_is_read_again(tmp_path: Path, nanny: str) -> None:
    """Of a process elsewhere nobody here knows whether it runs; that nobody answers tells."""
    path = tmp_path / "scheduler.json"
    killed_scheduler(path)
    document = json.loads(path.read_text())
    document["process"]["machine"] = "another"
    path.write_text(json.dumps(document))
    with running([*WORKER, nanny, "--scheduler-file", str(path)]) as worker:
        worker.line("cannot be reached yet")
        with running([*HERE, "--scheduler-file", str(path)]) as scheduler:
            address = scheduler.line(r"Start scheduler at: +(\S+)")
            worker.line("Registered with Scheduler")
            with Client(address, timeout="10s") as client:
                assert client.submit(inc, 1).result(timeout=10) == 2
            worker.end(signal.SIGINT)


def test_s57_a_client_says_that_the_file_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    killed_scheduler(path)
    with pytest.raises(TimeoutError, match="left behind by a scheduler"):
        Client(scheduler_file=str(path), timeout="300ms")
