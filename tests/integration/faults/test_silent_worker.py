"""Workers that fall silent: stopped by a signal, or kept from answering by a task that holds the interpreter lock.

The limits are shortened; what is asserted is what follows from them, in which order, and which cause is named.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from distributed import Client, LocalCluster
from distributed.testing.waiting import poll_for
from tests.integration.cli.test_programs import SCHEDULER, WORKER, running

LIMITS = {
    "distributed.scheduler.suspect-after": "1s",
    "distributed.scheduler.lost-after": "3s",
}


@pytest.fixture
def client() -> Iterator[Client]:
    with dask.config.set(LIMITS):
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as c:
            yield c


def actions(client: Client, name: str) -> list[dict]:
    return [event for _, event in client.get_events("all") if event.get("action") == name]


def on(client: Client, pid: int) -> str:
    """Address of the worker with this process id."""
    return next(address for address, found in client.run(os.getpid).items() if found == pid)


def append_pid(path: str, seconds: float) -> int:
    with open(path, "a") as f:
        f.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return os.getpid()


def pids_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_stopped_worker_is_suspect_then_lost_and_fenced_when_it_comes_back(client: Client, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    future = client.submit(append_pid, str(log), 1.0)
    poll_for(lambda: pids_in(log))
    (pid,) = pids_in(log)
    address = on(client, pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        poll_for(lambda: actions(client, "worker-suspect"))
        (suspect,) = actions(client, "worker-suspect")
        assert suspect["worker"] == address
        assert "suspect" in str(client.why(future))
        # No new task goes there, although it would be the idler one.
        others = client.map(lambda x: os.getpid(), range(4))
        assert pid not in client.gather(others)
        second = future.result(timeout=30)
        assert second != pid and pids_in(log) == [pid, second]
        (removed,) = [e for e in actions(client, "remove-worker") if e["worker"] == address]
        assert "its process is stopped" in removed["cause"] and removed["n-rerun"] == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    # The old copy ends its sleep; nobody takes its result, and a new process comes in its place.
    poll_for(lambda: len(client.scheduler_info()["workers"]) == 2, timeout=30)
    assert pid not in client.run(os.getpid).values()
    assert future.result() == second and len(pids_in(log)) == 2
    assert client.submit(sum, [1, 2]).result(timeout=30) == 3


def test_stopped_for_a_moment_is_only_suspect(client: Client, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    future = client.submit(append_pid, str(log), 0.5)
    poll_for(lambda: pids_in(log))
    (pid,) = pids_in(log)
    os.kill(pid, signal.SIGSTOP)
    try:
        poll_for(lambda: actions(client, "worker-suspect"))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert future.result(timeout=30) == pid
    poll_for(lambda: actions(client, "worker-answers"))
    assert pids_in(log) == [pid]
    assert not actions(client, "remove-worker")
    assert not client.get_events("gil-held")


def test_holder_that_stops_is_not_waited_for(client: Client) -> None:
    """A fetch from a stopped holder, by a worker or by the client, ends when the holder is lost; the value is made
    again."""
    first, second = client.scheduler_info()["workers"]
    pid = client.run(os.getpid)[first]
    big = client.submit(bytes, 2_000_000, workers=[first], allow_other_workers=True)
    big.result()
    os.kill(pid, signal.SIGSTOP)
    try:
        length = client.submit(len, big, workers=[second])
        assert length.result(timeout=30) == 2_000_000
        assert len(big.result(timeout=30)) == 2_000_000
    finally:
        os.kill(pid, signal.SIGCONT)


def hold_the_lock(seconds: int) -> int:
    """Sleep in C without giving the interpreter lock back."""
    ctypes.PyDLL(None).sleep(seconds)
    return os.getpid()


def test_task_that_holds_the_gil_is_told_apart_from_a_stopped_worker(client: Client) -> None:
    future = client.submit(hold_the_lock, 8, key="greedy")
    poll_for(lambda: actions(client, "worker-suspect"))
    poll_for(lambda: "greedy" in str(client.why(future)) and "does not move" in str(client.why(future)))
    pid = future.result(timeout=60)
    assert pid in client.run(os.getpid).values()
    assert not actions(client, "remove-worker")
    poll_for(lambda: client.get_events("gil-held"))
    ((_, event),) = client.get_events("gil-held")
    assert event["keys"] == ["greedy"] and event["seconds"] > 5


def test_scheduler_that_was_stopped_blames_nobody(tmp_path: Path) -> None:
    """It stood still for longer than its patience with workers: that was not their silence."""
    env = os.environ | {
        "DASK_DISTRIBUTED__SCHEDULER__SUSPECT_AFTER": "1s",
        "DASK_DISTRIBUTED__SCHEDULER__LOST_AFTER": "2s",
    }
    log = tmp_path / "runs"
    with running([*SCHEDULER, "--port", "0", "--host", "127.0.0.1"], env=env) as scheduler:
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        with running([*WORKER, address, "--nthreads", "1"], env=env), Client(address, timeout=20) as client:
            client.wait_for_workers(1)
            future = client.submit(append_pid, str(log), 5.0)
            poll_for(lambda: pids_in(log))
            scheduler.process.send_signal(signal.SIGSTOP)
            try:
                time.sleep(3.5)  # the fault itself: the time that it stands still
            finally:
                scheduler.process.send_signal(signal.SIGCONT)
            assert future.result(timeout=30) in pids_in(log)
            assert len(pids_in(log)) == 1
            assert not actions(client, "worker-suspect") and not actions(client, "remove-worker")
