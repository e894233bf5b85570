"""An actor that is made anew when its worker dies."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from distributed import Client, LocalCluster, wait
from tests.integration.tasks.bodies import until


class Counter:
    def __init__(self, start: int) -> None:
        self.n = start

    def inc(self) -> int:
        self.n += 1
        return self.n

    def pid(self) -> int:
        return os.getpid()

    def hang(self) -> None:
        until(lambda: False, "anything")


def test_calls_in_flight_fail_and_later_ones_go_to_the_new_one() -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        ten = client.submit(int, "10")
        counter: Any = client.submit(Counter, ten, actor=True, max_restarts=1).result(30)
        mortal: Any = client.submit(Counter, 0, actor=True, workers=counter._address).result(30)
        assert [counter.inc().result(30) for _ in range(2)] == [11, 12]
        pid = counter.pid().result(30)
        assert mortal.pid().result(30) == pid
        stuck = counter.hang()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ValueError, match="gone with its worker"):
            stuck.result(30)
        assert counter.inc().result(60) == 11  # a new one, made with the same arguments
        second = counter.pid().result(30)
        assert second != pid
        with pytest.raises(ValueError, match="gone with its worker"):
            mortal.inc().result(60)
        # Its restarts are used up.
        os.kill(second, signal.SIGKILL)
        wait(counter._future, timeout=60)
        until(lambda: counter._future.status == "error", "the end of the actor")
        with pytest.raises(ValueError, match="gone with its worker"):
            counter.inc().result(60)
