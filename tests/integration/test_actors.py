"""Actors: an object that lives on one worker, called from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from distributed import Client, LocalCluster


class Counter:
    n = 0

    def inc(self) -> int:
        self.n += 1
        return self.n

    def fail(self) -> None:
        raise ValueError("as asked")


@pytest.mark.parametrize("processes", [True, False])
def test_calls_attributes_and_errors(processes: bool) -> None:
    with Client(processes=processes, n_workers=1, dashboard_address=None) as client:
        counter: Any = client.submit(Counter, actor=True).result()
        assert counter.inc().result() == 1
        assert counter.inc().result() == 2
        assert counter.n == 2
        with pytest.raises(ValueError, match="as asked"):
            counter.fail().result()


def test_an_actor_speaks_through_the_client_that_asked_for_it() -> None:
    with LocalCluster(n_workers=1, dashboard_address=None) as cluster:
        with Client(cluster, set_as_default=False) as client:
            counter: Any = client.submit(Counter, actor=True).result()
            assert counter.inc().result() == 1
            (again,) = client.gather([client.submit(Counter, actor=True)])
            assert again.inc().result() == 1


def use(counter: Any) -> Any:
    return counter.inc().result()


def test_an_actor_is_an_argument_like_any_other() -> None:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        future = client.submit(Counter, actor=True)
        values = client.gather([client.submit(use, future, pure=False) for _ in range(6)])
        assert sorted(values) == [1, 2, 3, 4, 5, 6]
