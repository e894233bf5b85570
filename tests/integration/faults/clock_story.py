"""A cluster and a client whose wall clocks jump while tasks run; run by ``test_clock.py`` under libfaketime.

``python -m tests.integration.faults.clock_story DIRECTORY``: ``DIRECTORY/offset`` is the file that libfaketime reads.
Prints one line of JSON with what was seen; an exception ends it with a traceback.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask

from distributed import Client, LocalCluster, wait

# Short enough that a jump of an hour would trip each of them.
LIMITS = {
    "distributed.scheduler.suspect-after": "4s",
    "distributed.scheduler.lost-after": "8s",
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.scheduler.idle-timeout": "60s",
    "distributed.scheduler.no-workers-timeout": "60s",
}
HOUR_S = 3600.0


def poll(fact: Callable[[], Any]) -> None:
    """Wait until ``fact`` is true. (``time.sleep`` is out of order: libfaketime moves its monotonic deadline too.)"""
    pause = threading.Event()
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline, f"not seen within a minute: {fact}"
        pause.wait(0.02)


def until_open(gate: str, index: int) -> tuple[float, float]:
    """Wall and monotonic seconds that have passed until the file was there."""
    wall, monotonic = time.time(), time.monotonic()
    poll(lambda: os.path.exists(gate))
    return time.time() - wall, time.monotonic() - monotonic


def offset(dask_scheduler: Any = None, dask_worker: Any = None) -> float:
    """How far this process's wall clock is from its monotonic one."""
    return time.time() - time.monotonic()


def heard(dask_scheduler: Any) -> dict[str, float]:
    """When each worker was last heard of (monotonic)."""
    return {address: ws.last_seen for address, ws in dask_scheduler.workers.items()}


def durations(dask_scheduler: Any) -> list[float]:
    """Every duration that the scheduler has: averages, sums, spans of groups, ages of workers."""
    state = dask_scheduler.state
    found = [prefix.duration_average for prefix in state.task_prefixes.values() if prefix.n_durations >= 0]
    found += [prefix.duration for prefix in state.task_prefixes.values()]
    found += [ws.occupancy for ws in state.workers.values()]
    found += [dask_scheduler.uptime_s]
    return [value for value in found if value != -1.0]  # not known


class Story:
    """The cluster, and what is done to it."""

    def __init__(self, client: Client, directory: Path) -> None:
        self.client = client
        self.directory = directory
        self.true_offset = offset()

    def jump(self, by_s: float) -> None:
        """Set the wall clocks of all processes, and wait until each of them has noticed."""
        temporary = self.directory / "offset.new"
        temporary.write_text(f"{by_s:+.0f}\n")
        temporary.replace(self.directory / "offset")

        def all_jumped() -> bool:
            seen = [offset(), self.client.run_on_scheduler(offset), *self.client.run(offset).values()]
            return all(abs(found - self.true_offset - by_s) < 60 for found in seen)

        poll(all_jumped)

    def live_on(self, beats: int = 3) -> None:
        """Wait until each worker has been heard of some times more, in the order of time."""
        last = self.client.run_on_scheduler(heard)
        counts = dict.fromkeys(last, 0)

        def all_heard() -> bool:
            for address, when in self.client.run_on_scheduler(heard).items():
                assert when >= last[address], "time went back"
                counts[address] += when > last[address]
                last[address] = when
            return min(counts.values()) >= beats

        poll(all_heard)


def main(directory: Path) -> dict[str, Any]:
    gate = directory / "gate"
    cluster = LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None)
    with cluster, Client(cluster) as client:
        story = Story(client, directory)
        futures = client.map(until_open, [str(gate)] * 12, range(12))
        poll(lambda: sum(map(len, client.processing().values())) >= 4)
        waited: list[Any] = []
        thread = threading.Thread(target=lambda: waited.append(futures[-1].result(timeout=120)))
        thread.start()
        workers = set(client.scheduler_info()["workers"])
        for by_s in (HOUR_S, -HOUR_S):
            story.jump(by_s)
            story.live_on()
            quick = client.map(pow, range(5), [2] * 5, key=f"quick{by_s}", priority=5)
        gate.touch()
        results = client.gather(futures)
        wait(quick, timeout=60)
        thread.join(60)
        return {
            "walls": [wall for wall, _ in results],
            "monotonics": [monotonic for _, monotonic in results],
            "waited": len(waited),
            "workers_stayed": set(client.scheduler_info()["workers"]) == workers,
            "events": [event for _, event in client.get_events("all") if event.get("action") != "add-worker"],
            "durations": client.run_on_scheduler(durations),
            "executions": sum(
                step[2] == "processing" for future in futures for step in client.story(future) if len(step) > 2
            ),
        }


if __name__ == "__main__":
    with dask.config.set(LIMITS):
        print(json.dumps(main(Path(sys.argv[1])), default=str), flush=True)
