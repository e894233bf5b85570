"""A nanny is killed: its worker notices, hands over its data and ends, and the cluster starts a new pair."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed import Client, wait
from distributed.comm.unix import runtime_directory
from distributed.testing.chaos.members import ChaosCluster, NannyProgram
from distributed.testing.waiting import poll_for

APART = "apart-2"


@pytest.fixture
def cluster() -> Iterator[ChaosCluster]:
    """Two workers with nannies in this process, and one whose nanny is a program."""
    with ChaosCluster(n_workers=0, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster:
        cluster.scale(3)
        cluster.wait_for_workers(3, timeout=60)
        yield cluster


@pytest.fixture
def client(cluster: ChaosCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


def kill_the_nanny(cluster: ChaosCluster) -> tuple[NannyProgram, int]:
    """The member, and the process id of its worker."""
    member = cluster.workers[APART]
    assert isinstance(member, NannyProgram) and member.pid is not None
    worker = member.worker_pid()
    assert worker is not None
    os.kill(member.pid, signal.SIGKILL)
    return member, worker


def apart(client: Client) -> dict[str, Any]:
    """What the scheduler knows of the worker whose nanny is a program."""
    workers = client.scheduler_info()["workers"]
    return next({**worker, "address": address} for address, worker in workers.items() if worker["name"] == APART)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def runs_of(log: Path) -> int:
    return len(log.read_bytes()) if log.exists() else 0


def noted(path: str, value: object) -> object:
    with open(path, "ab") as file:
        file.write(b".")
    return value


def test_the_worker_ends_and_the_pair_is_replaced(cluster: ChaosCluster, client: Client, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    future = client.submit(noted, str(log), bytes(200_000), workers=APART)
    wait(future)
    member, worker = kill_the_nanny(cluster)
    poll_for(lambda: is_gone(worker), timeout=30)
    # Its data went to others before: nothing is computed again, although the worker may not be asked any more.
    assert future.result(timeout=30) == bytes(200_000)
    assert runs_of(log) == 1
    poll_for(lambda: cluster.workers.get(APART) not in (None, member), timeout=30)
    poll_for(lambda: cluster.observed == {0, 1, APART}, timeout=60)
    assert client.submit(os.getpid, workers=APART, pure=False).result(timeout=30) != worker


def test_nanny_and_worker_die_at_once(cluster: ChaosCluster, client: Client) -> None:
    futures = client.map(time.sleep, [0.5] * 6, pure=False)
    poll_for(lambda: all(client.processing().values()))
    ports = [address.rpartition(":")[2] for address in (apart(client)["address"], apart(client)["nanny"])]
    _, worker = kill_the_nanny(cluster)
    os.kill(worker, signal.SIGKILL)
    assert client.gather(futures) == [None] * 6
    poll_for(lambda: not any(list(Path(runtime_directory()).glob(f"*-{port}")) for port in ports))
    poll_for(lambda: len(cluster.observed) == 3, timeout=60)


def test_a_retired_member_is_not_replaced(cluster: ChaosCluster, client: Client) -> None:
    client.retire_workers(names=[APART])
    poll_for(lambda: APART not in cluster.workers, timeout=30)
    assert APART not in cluster.worker_spec
    assert len(cluster.plan) == 2
    cluster.scale(3)
    poll_for(lambda: len(cluster.observed) == 3, timeout=60)
