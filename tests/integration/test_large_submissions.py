"""A large ``map`` streams: tasks run while later ones are not even made, and what waits to be sent is bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from distributed import Client, LocalCluster

N = 60_000


def touch(item: tuple[int, str]) -> int:
    number, marker = item
    if number == 0:
        Path(marker).touch()
    return number


def test_the_first_task_runs_before_the_last_is_made(tmp_path: Path) -> None:
    marker = tmp_path / "first-task-has-run"
    seen_at: list[int] = []

    def items() -> Iterator[tuple[int, str]]:
        for number in range(N):
            if number == N - 1:
                deadline = time.monotonic() + 30
                while not marker.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)  # polls a fact in another process; fails below if it never comes
                if marker.exists():
                    seen_at.append(number)
            yield number, str(marker)

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        futures = client.map(touch, items())
        assert seen_at == [N - 1], "no task had run when all but one were made"
        assert len(futures) == N
        assert client.gather(futures[-3:]) == [N - 3, N - 2, N - 1]
        del futures
