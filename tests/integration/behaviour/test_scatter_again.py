"""Data scattered under keys that were in use a moment ago: the order to forget the older value, which takes another
way to the workers, does not hit the new one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from distributed import Client, Future, LocalCluster
from tests.integration.facts import until


@pytest.fixture(scope="module", params=["processes", "threads"])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=request.param == "processes", dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


def value_here(dask_worker: Any) -> Any:
    return dask_worker.data.get("x")


def state_there(dask_scheduler: Any) -> tuple[list[Any], int]:
    return list(dask_scheduler.tasks), len(dask_scheduler.shell.state.announced)


def nothing_left(client: Client) -> None:
    until(lambda: client.run_on_scheduler(state_there) == ([], 0))
    until(lambda: not any(client.run(lambda dask_worker: list(dask_worker.data)).values()))


def test_a_computed_key(client: Client) -> None:
    for i in range(200):
        computed = client.submit(pow, 2, 3, key="x")
        if i % 2:
            assert computed.result() == 8
        del computed
        placed = client.scatter({"x": i}, broadcast=True)
        assert set(client.run(value_here).values()) == {i}
        assert placed["x"].result() == i
        del placed
    nothing_left(client)


def test_a_scattered_key_and_what_was_made_of_it(client: Client) -> None:
    for i in range(50):
        placed = client.scatter({"x": i})
        assert client.submit(int.__add__, placed["x"], 1).result() == i + 1
        del placed
    nothing_left(client)


def test_clients_that_scatter_the_same(cluster: LocalCluster) -> None:
    """Equal data has equal keys. One gives it up while the other one places it."""
    errors: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            for _ in range(60):
                placed = client.scatter(b"the same for all", broadcast=True)
                sizes = client.map(len, [placed] * 2, pure=False, workers=None)
                assert client.gather(sizes) == [16, 16]
                del placed, sizes
        except BaseException as error:
            errors.append(error)

    with Client(cluster) as one, Client(cluster) as other:
        threads = [threading.Thread(target=work, args=(client,)) for client in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
        nothing_left(one)


def test_a_scatter_that_fails_leaves_nothing(client: Client) -> None:
    with pytest.raises(TimeoutError, match="No valid workers"):
        client.scatter({"x": 1}, workers=["nobody"], timeout=0.05)
    nothing_left(client)


def test_who_waits_for_data_that_does_not_come_is_told(cluster: LocalCluster, client: Client) -> None:
    with Client(cluster) as other:
        failed: list[BaseException] = []

        def scatter() -> None:
            try:
                client.scatter({"x": 1}, workers=["nobody"], timeout=1)
            except TimeoutError as error:
                failed.append(error)

        thread = threading.Thread(target=scatter)
        thread.start()
        until(lambda: client.run_on_scheduler(state_there) == (["x"], 1))
        used = other.submit(abs, Future("x", other))
        thread.join()
        assert failed
        with pytest.raises(Exception, match="scatter"):
            used.result(timeout=10)
        del used
        nothing_left(client)


@pytest.mark.parametrize("after", ["x", -1, 1.5, True])
def test_nonsense_about_what_is_to_be_there_before(client: Client, after: Any) -> None:
    async def ask(dask_worker: Any) -> Any:
        return await dask_worker.handlers["update_data"](data={}, connection=None, after=after)

    with pytest.raises(ValueError, match="after="):
        client.run(ask)


def test_a_number_that_is_too_high_does_not_make_a_worker_wait(client: Client) -> None:
    async def ask(dask_worker: Any) -> Any:
        return await dask_worker.handlers["update_data"](data={}, connection=dask_worker.link.connection, after=1 << 60)

    assert {answer["status"] for answer in client.run(ask).values()} == {"OK"}


@pytest.mark.parametrize(("ahead", "questions"), [(0, []), (1, ["ping"]), (None, ["ping"])])
def test_a_worker_that_is_behind_asks_once(client: Client, ahead: int | None, questions: list[str]) -> None:
    """The answer comes behind all that the scheduler had sent before; a worker that is up to date asks nothing."""

    async def give(dask_worker: Any) -> list[str]:
        link = dask_worker.link
        asked: list[str] = []
        ask = link.ask

        async def noted(op: str, kwargs: dict[str, Any], timeout: float | None = None) -> Any:
            asked.append(op)
            return await ask(op, kwargs, timeout)

        link.ask = noted
        try:
            after = None if ahead is None else link._link.end.applied + ahead
            await dask_worker.handlers["update_data"](data={}, connection=link.connection, after=after)
        finally:
            del link.ask
        return asked

    assert list(client.run(give).values()) == [questions] * 2
