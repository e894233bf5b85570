"""A client cancels tasks that run: they end, their slots are free, and nothing of them comes through."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from distributed import CancelledError, Client
from tests.integration.tasks.bodies import (
    apart,
    asleep,
    deaf,
    noted,
    polite,
    stubborn,
    until,
    waits_for_another,
    waits_for_file,
)


def begun(client: Client, function: Any, place: Path, *arguments: Any, **options: Any) -> Any:
    future = client.submit(function, str(place), *arguments, **options)
    noted(place, "begun")
    return future


def busy(client: Client) -> int:
    """Slots in use, as the workers know it."""
    return sum(client.run(lambda dask_worker: dask_worker.state.slots_used).values())


@pytest.mark.parametrize(
    ("function", "end"),
    [(polite, "was asked"), (stubborn, "TaskCancelled"), (asleep, "CancelledError")],
)
def test_a_running_task_ends(client: Client, tmp_path: Path, function: Any, end: str) -> None:
    future = begun(client, function, tmp_path)
    future.cancel(reason="enough", msg="by the test")
    with pytest.raises(CancelledError, match="enough"):
        future.result(10)
    assert noted(tmp_path, "ended") == end
    until(lambda: busy(client) == 0, "a free slot")
    assert client.gather(client.map(abs, range(-20, 0), pure=False)) == list(range(20, 0, -1))


def test_a_process_of_its_own_is_killed(client: Client, tmp_path: Path) -> None:
    future = begun(client, apart, tmp_path, isolated=True)
    pid = int(noted(tmp_path, "begun"))
    os.kill(pid, 0)
    future.cancel()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the process")
    until(lambda: busy(client) == 0, "a free slot")


def test_one_that_cannot_be_interrupted_keeps_its_slot_until_it_ends(client: Client, tmp_path: Path) -> None:
    (address, _) = client.scheduler_info()["workers"]
    start = time.monotonic()
    future = begun(client, deaf, tmp_path, 1.5, key="the-same", workers=address)
    future.cancel()
    assert busy(client) == 1
    again = client.submit(abs, -5, key="the-same", workers=address)
    assert again.result(30) == 5  # not what the older run has returned
    assert time.monotonic() - start >= 1.5
    until(lambda: busy(client) == 0, "a free slot")


def test_a_task_that_waits_for_another_is_interrupted(client: Client, tmp_path: Path) -> None:
    future = begun(client, waits_for_another, tmp_path)
    future.cancel()
    assert noted(tmp_path, "ended") == "TaskCancelled"
    until(lambda: busy(client) == 0, "free slots")


def test_what_is_only_released_runs_to_its_end(client: Client, tmp_path: Path) -> None:
    future = begun(client, deaf, tmp_path, 0.5)
    del future
    noted(tmp_path, "ended")


def _held(dask_scheduler: Any) -> list[int]:
    return [ws.held_slots for ws in dask_scheduler.workers.values()]


def test_nobody_is_put_behind_a_run_that_was_given_up(client: Client, tmp_path: Path) -> None:
    """The next tasks, submitted with the very message that gives it up, go to the other worker."""
    future = begun(client, waits_for_file, tmp_path)
    del future
    try:
        for i in range(5):
            assert client.submit(abs, -i, pure=False).result(60) == i
        assert not (tmp_path / "ended").exists()
        until(lambda: sum(client.run_on_scheduler(_held)) == 1, "the heartbeats that count them")
    finally:
        (tmp_path / "go").touch()
    noted(tmp_path, "ended")
    until(lambda: sum(client.run_on_scheduler(_held)) == 0, "a heartbeat")


def test_another_client_that_wants_it_keeps_it(cluster: Any, client: Client, tmp_path: Path) -> None:
    future = begun(client, polite, tmp_path, key="shared")
    with Client(cluster, set_as_default=False) as other:
        theirs = other.submit(polite, str(tmp_path), key="shared")
        until(lambda: len(client.run_on_scheduler(_wanters, "shared")) == 2, "two clients that want it")
        future.cancel()
        assert theirs.status == "pending" and not (tmp_path / "ended").exists()
        client.cancel(client.submit(polite, str(tmp_path), key="shared"), force=True)
        until(lambda: theirs.status == "cancelled", "the news")
    assert noted(tmp_path, "ended") == "was asked"


def _wanters(key: str, dask_scheduler: Any) -> list[str]:
    task = dask_scheduler.tasks.get(key)
    return [] if task is None else [client.client_key for client in task.who_wants]


def test_cancelled_and_submitted_again_and_again(client: Client) -> None:
    """Each result belongs to the newest run of its key."""
    for n in range(150):
        future = client.submit(_count_to, n, key="again")
        if n % 3:
            future.cancel()
        else:
            assert future.result(30) == n
    until(lambda: busy(client) == 0, "a free slot")
    for logs in client.get_worker_logs().values():
        assert not [text for _, text in logs if "unforeseen" in text or "interrupted" in text]


def _count_to(n: int) -> int:
    for _ in range(20000):
        threading.get_ident()
    return n
