"""Tasks that take more memory than their worker may use."""

from __future__ import annotations

import signal
from pathlib import Path

import dask

from distributed import KilledWorker
from tests.integration.faults.small_cluster import SHORT_S, Journal, addresses, events, pids, poll, small_cluster
from tests.integration.faults.tasks import hold_memory, ignore, take_memory

MIB = 2**20


def test_a_task_that_exceeds_the_limit_is_killed_with_the_cause(tmp_path: Path, cleanup: None) -> None:
    """The nanny ends the process, says why and with which numbers; the cluster works on."""
    journal = Journal(tmp_path / "journal")
    limit = 300 * MIB
    with small_cluster(memory_limit=limit, scheduler_kwargs={"allowed_failures": 1}) as client:
        future = client.submit(take_memory, journal.path, MIB, retries=3)
        error = future.exception(SHORT_S)
        assert type(error) is KilledWorker
        assert len(error.attempts) == journal.count("begun") == 2
        for attempt in error.attempts:
            assert attempt.signal == signal.SIGKILL
            assert "exceeded its memory limit" in attempt.cause and "of 300.00 MiB" in attempt.cause
            assert attempt.peak_bytes > 0.9 * limit
        assert "exceeded its memory limit" in str(error) and "out-of-memory killer" not in str(error)
        lost = poll(lambda: found if len(found := events(client, "worker-lost")) == 2 else None)
        assert all("exceeded its memory limit" in event["cause"] for event in lost)
        assert client.submit(ignore).result(SHORT_S) == "ignored"


def test_a_worker_pauses_while_memory_is_short(tmp_path: Path, cleanup: None) -> None:
    """It begins nothing more, says so, and goes on when there is room again."""
    gate = tmp_path / "gate"
    with dask.config.set({"distributed.worker.memory.pause": 0.5, "distributed.worker.memory.terminate": False}):
        with small_cluster(1, 2, memory_limit=400 * MIB) as client:
            before = pids(client)
            (address,) = addresses(client).values()
            holder = client.submit(hold_memory, 250 * MIB, str(gate))
            poll(lambda: client.scheduler_info()["workers"][address]["status"] == "paused")
            waiting = client.submit(ignore, pure=False)
            assert "paused" in client.why(waiting)["text"]
            assert not waiting.done()
            gate.touch()
            assert holder.result(SHORT_S) == 250 * MIB
            assert waiting.result(SHORT_S) == "ignored"
            poll(lambda: client.scheduler_info()["workers"][address]["status"] == "running")
            assert pids(client) == before
            texts = [text for _, text in client.get_worker_logs()[address]]
            assert any("pauses" in text and "of 400.00 MiB" in text for text in texts)
            assert any("goes on" in text for text in texts)


def test_limits_can_be_switched_off(tmp_path: Path, cleanup: None) -> None:
    off = {"distributed.worker.memory.pause": False, "distributed.worker.memory.terminate": False}
    gate = tmp_path / "gate"
    gate.touch()
    with dask.config.set(off), small_cluster(1, memory_limit=100 * MIB) as client:
        assert client.submit(hold_memory, 200 * MIB, str(gate)).result(SHORT_S) == 200 * MIB
        assert events(client, "worker-lost") == []
