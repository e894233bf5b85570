"""Workers that are killed while they run tasks, hold results, or hold data that clients have put there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, DataLostError, wait
from tests.integration.faults.small_cluster import SHORT_S, Journal, addresses, events, pids, poll
from tests.integration.faults.tasks import counted, dies_then_raises_then_succeeds, kill_after_a_while, sleep_at_first


def suspicions(dask_scheduler: Any) -> dict[str, int]:
    return {key: ts.suspicious for key, ts in dask_scheduler.tasks.items()}


def killed(client: Client, address: str) -> float:
    """Kill the worker at this address; when (monotonic)."""
    pid = pids(client)[address]
    begun = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return begun


def lost(client: Client, address: str) -> dict[str, Any]:
    """The event about the end of this worker."""
    return poll(lambda: next((e for e in events(client, "worker-lost") if e["worker"] == address), None))


def test_killed_while_running(pair: Client, tmp_path: Path) -> None:
    """Seen in less than a second, run again elsewhere, though the task has no retries; and reported."""
    journal = Journal(tmp_path / "journal")
    future = pair.submit(sleep_at_first, journal.path)
    poll(lambda: journal.count("begun"))
    (address,) = [w for w, tasks in pair.processing().items() if tasks]
    host = pair.scheduler_info()["workers"][address]["host"]
    pid = pids(pair)[address]
    begun = killed(pair, address)
    assert future.result(SHORT_S) != pid
    assert time.monotonic() - begun < 5  # measured: 0.03 s
    assert journal.count("begun") == 2
    event = lost(pair, address)
    assert (event["signal"], event["exit-code"], event["pid"], event["host"]) == (signal.SIGKILL, None, pid, host)
    assert (event["n-rerun"], event["n-requeued"], event["n-recomputed"]) == (1, 0, 0)
    assert event["expected"] is False and event["peak-bytes"] > 2**20


def test_death_of_a_worker_spends_no_retry(pair: Client, tmp_path: Path) -> None:
    """The task dies with its worker, then raises, then succeeds: one retry is enough for that."""
    journal = Journal(tmp_path / "journal")

    assert pair.submit(dies_then_raises_then_succeeds, journal.path, retries=1).result(SHORT_S) == 3


def test_tasks_that_had_not_begun_are_not_blamed(pair: Client, tmp_path: Path) -> None:
    """Twenty tasks wait behind one that kills its worker time and again: they end well, and each rerun is told."""
    journal = Journal(tmp_path / "journal")
    # The other tasks are assigned while it waits.
    bad = pair.submit(kill_after_a_while, journal.path, priority=10)
    others = [pair.submit(counted, journal.path, f"t{i}", pure=False) for i in range(20)]
    assert pair.gather(others) == [f"t{i}" for i in range(20)]
    assert len(bad.exception(SHORT_S).attempts) == 4
    assert journal.count("killer") == 4
    assert set(pair.run_on_scheduler(suspicions).values()) == {0, 4}
    deaths = events(pair, "worker-lost")
    assert len(deaths) == 4
    n_rerun = sum(event["n-rerun"] + event["n-recomputed"] for event in deaths)
    # The last death may have taken results with it; those that are here already are computed again for the cluster.
    poll(lambda: all(pair.who_has(others).values()))
    assert len(journal.lines()) == 21 + n_rerun


def test_killed_while_holding_results(pair: Client, tmp_path: Path) -> None:
    """What is wanted is computed again, and the number that was is told: a chain of which only the end was kept."""
    journal = Journal(tmp_path / "journal")
    holder = addresses(pair)[0]
    chain = pair.submit(counted, journal.path, "c0", workers=[0], allow_other_workers=True)
    for i in range(1, 5):
        chain = pair.submit(counted, journal.path, f"c{i}", chain, workers=[0], allow_other_workers=True)
    kept = pair.submit(counted, journal.path, "kept", workers=[1])
    wait([chain, kept])
    poll(lambda: len(pair.has_what()[holder]) == 1)  # the inner results are let go
    killed(pair, holder)
    event = lost(pair, holder)
    assert chain.result(SHORT_S) == "c4"
    assert kept.result(SHORT_S) == "kept"
    poll(lambda: pair.who_has(chain)[chain.key])
    n_rerun = len(journal.lines()) - 6
    assert (n_rerun, event["n-recomputed"], event["n-rerun"]) == (5, 5, 0)
    assert journal.count("kept") == 1


def test_killed_while_holding_one_of_two_replicas(pair: Client, tmp_path: Path) -> None:
    """The other replica is used: nothing runs again."""
    journal = Journal(tmp_path / "journal")
    future = pair.submit(counted, journal.path, "x" * 100_000, workers=[0])
    wait(future)
    pair.replicate(future, 2)
    assert len(pair.who_has(future)[future.key]) == 2
    holder = addresses(pair)[0]
    killed(pair, holder)
    assert lost(pair, holder)["n-recomputed"] == 0
    assert pair.submit(len, future).result(SHORT_S) == 100_000
    assert len(future.result(SHORT_S)) == 100_000
    assert len(journal.lines()) == 1


@pytest.mark.parametrize("running", [False, True], ids=["idle", "with a dependent"])
def test_holder_of_scattered_data_is_killed(pair: Client, running: bool) -> None:
    """``DataLostError`` names what is lost and who held it, at once, wherever one asks; also for what comes later."""
    (data,) = pair.scatter([b"payload"], workers=[addresses(pair)[0]])
    futures = [data]
    if running:
        gate = pair.submit(time.sleep, 600, workers=[1])
        futures.append(pair.submit(lambda value, _: value, data, gate))
    holder = addresses(pair)[0]
    begun = killed(pair, holder)
    for future in futures:
        with pytest.raises(DataLostError) as caught:
            future.result(SHORT_S)
        assert caught.value.key == future.key
        for word in (repr(data.key), holder, "signal 9", "scattered"):
            assert word in str(caught.value)
        assert future.status == "cancelled"
    assert time.monotonic() - begun < 5  # measured: 0.05 s
    with pytest.raises(DataLostError, match=holder):
        pair.gather(futures)
    with pytest.raises(DataLostError, match=holder):
        pair.submit(len, data).result(SHORT_S)
    assert pair.gather(futures, errors="skip") == []
    # The same data put there again is new data.
    again = pair.scatter(b"payload", hash=False)
    assert pair.submit(len, again).result(SHORT_S) == 7
