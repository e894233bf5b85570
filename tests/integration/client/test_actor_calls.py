"""How actors are called: order, many at once, threads and coroutines, errors, what ends while somebody waits."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import pickle
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from distributed import Client, LocalCluster, get_client, get_worker
from distributed.base.errors import CommClosedError, SerializationError
from tests.integration.facts import until

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


class Recorder:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.step = threading.Event()

    def tell(self, what: Any) -> int:
        """Remember it."""
        self.seen.append(what)
        return len(self.seen)

    def told(self) -> list[Any]:
        return self.seen

    def wait(self) -> bool:
        return self.step.wait(30)

    async def let_go(self) -> str:
        self.step.set()
        return threading.current_thread().name

    async def refuse(self) -> None:
        raise KeyError("refused")

    def fail(self, kind: type[BaseException]) -> None:
        raise kind("as asked")

    def lock(self) -> Any:
        return threading.Lock()

    def echo(self, value: Any) -> Any:
        return value

    def nothing(self) -> None:
        return None

    def where(self, name: str | None = None) -> tuple[str, str]:
        if name is not None:
            place.set(name)
        return get_worker().address, place.get()

    def by_way_of(self, other: Any, what: Any) -> Any:
        return other.tell(what).result(20)

    def submit(self, x: int) -> int:
        return int(get_client().submit(abs, x).result(20))

    def value_of(self, future: Any) -> Any:
        return future.result(20)


@pytest.fixture(scope="module", params=[True, False], ids=["processes", "threads"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=request.param, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def actor(client: Client) -> Any:
    return client.submit(Recorder, actor=True, pure=False).result(30)


def test_calls_of_one_proxy_keep_their_order(client: Client, actor: Any) -> None:
    answers = [actor.tell(i) for i in range(3000)]
    assert [answer.result(30) for answer in answers] == list(range(1, 3001))
    assert actor.told().result(30) == list(range(3000))
    assert actor.seen == list(range(3000))


def test_calls_of_several_threads_keep_the_order_of_each(client: Client, actor: Any) -> None:
    def tell(thread: int) -> None:
        answers = []
        for i in range(300):
            answers.append(actor.tell((thread, i)))
            if i % 7 == 0:
                answers[-1].result(30)
        for answer in answers:
            answer.result(30)

    threads = [threading.Thread(target=tell, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = actor.told().result(30)
    assert len(seen) == 1200
    assert all([i for thread, i in seen if thread == n] == list(range(300)) for n in range(4))


def test_attributes_and_coroutines_do_not_wait_for_a_method_that_runs(client: Client, actor: Any) -> None:
    waiting = actor.wait()
    assert actor.seen == []
    assert not waiting.done()
    with pytest.raises(TimeoutError):
        waiting.result(0.01)
    assert "Actor" not in actor.let_go().result(30)  # on the loop
    assert waiting.result(30) is True


def test_an_answer_does_not_wait_for_the_next_method(client: Client, actor: Any) -> None:
    first, second, waiting = actor.tell(1), actor.tell(2), actor.wait()
    assert first.result(30) == 1
    assert second.result(30) == 2
    assert not waiting.done()
    actor.let_go().result(30)
    assert waiting.result(30) is True


def test_what_methods_find_around_them(client: Client, actor: Any) -> None:
    assert actor.where("here").result(30) == (actor._address, "here")
    assert actor.where().result(30) == (actor._address, "nowhere")  # each call has a context of its own
    assert actor.submit(-3).result(30) == 3
    assert actor.value_of(client.submit(abs, -4)).result(30) == 4
    other = client.submit(Recorder, actor=True, pure=False, workers=list(_others(client, actor))).result(30)
    assert actor.by_way_of(other, "x").result(30) == 1
    assert other.seen == ["x"]


def _others(client: Client, actor: Any) -> Iterator[str]:
    return (address for address in client.scheduler_info()["workers"] if address != actor._address)


def test_errors_are_those_of_the_method(client: Client, actor: Any) -> None:
    failed = actor.fail(ZeroDivisionError)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="as asked"):
            failed.result(30)
    with pytest.raises(Exception, match="as asked"):
        actor.fail(SystemExit).result(30)  # ends neither the worker nor this program
    with pytest.raises(KeyError, match="refused"):
        actor.refuse().result(30)
    with pytest.raises(TypeError, match="tell"):
        actor.tell().result(30)
    assert actor.nothing().result(30) is None
    assert actor.tell(1).result(30) == 1


def test_what_the_actor_does_not_have(client: Client, actor: Any) -> None:
    with pytest.raises(AttributeError, match="'Recorder' object has no attribute 'forget'"):
        actor.forget(1)
    with pytest.raises(AttributeError, match="'Recorder' object has no attribute 'size'"):
        _ = actor.size
    assert not hasattr(actor, "size")
    assert hasattr(actor, "seen")
    assert actor.tell.__doc__ == "Remember it."
    assert actor.tell.__name__ == "tell"


def test_large_values_go_both_ways(client: Client, actor: Any) -> None:
    arrays = [np.full(1_000_000, n) for n in range(6)]
    answers = [actor.echo(array) for array in arrays]  # far more than a socket takes at once
    for array, answer in zip(arrays, answers, strict=True):
        assert (answer.result(60) == array).all()


def test_what_cannot_be_pickled(client: Client, actor: Any) -> None:
    if client.session.live:
        assert actor.echo(client).result(30) is client
        return
    with pytest.raises(SerializationError):
        actor.tell(threading.Lock())
    with pytest.raises(SerializationError, match="lock"):
        actor.lock().result(30)
    assert actor.tell(1).result(30) == 1


def test_coroutines_and_a_cancelled_one(client: Client) -> None:
    async def main() -> None:
        async with Client(client.scheduler.address, asynchronous=True, set_as_default=False) as own:
            actor: Any = await own.submit(Recorder, actor=True, pure=False)
            assert await asyncio.gather(*[actor.tell(i) for i in range(500)]) == list(range(1, 501))
            assert len(await actor.seen) == 500
            with pytest.raises(AttributeError, match="size"):
                await actor.size
            waiting = actor.wait()
            task = asyncio.ensure_future(_await(waiting))
            await actor.seen
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await actor.let_go()
            assert await waiting is True  # the call itself went on
            with pytest.raises(ZeroDivisionError):
                await actor.fail(ZeroDivisionError)

    asyncio.run(main())


async def _await(answer: Any) -> Any:
    return await answer


def test_a_client_that_closes_lets_nobody_wait(client: Client, actor: Any) -> None:
    with Client(client.scheduler.address, set_as_default=False) as own:
        with own.as_current():
            theirs: Any = pickle.loads(pickle.dumps(actor))
        stuck = theirs.wait()
        assert theirs.seen == []
    with pytest.raises((ValueError, CommClosedError), match="closed"):
        stuck.result(30)
    with pytest.raises(RuntimeError, match="closed"):
        theirs.tell(1)
    actor.let_go().result(30)  # the method went on, in the thread of all actors of its worker


def test_a_broken_connection_is_made_anew(client: Client, actor: Any) -> None:
    """What was on its way fails, as nobody knows whether it was done; later calls go out again."""
    stuck = actor.wait()
    assert actor.seen == []
    client.sync(_break, client.session.pool)
    with pytest.raises(ValueError, match="gone with its worker"):
        stuck.result(30)
    started = time.monotonic()
    answers = [actor.tell(i) for i in range(5)]
    # It is not known at once that the worker still lives.
    assert actor.let_go().result(30)
    assert [answer.result(30) for answer in answers] == [1, 2, 3, 4, 5], time.monotonic() - started


async def _break(pool: Any) -> None:
    for address in list(pool.connections):
        pool.remove(address)


class Late:
    """Opening it takes a while, so that what lies behind it in a pickle is opened later than the caller goes on."""

    def __reduce__(self) -> Any:
        return time.sleep, (0.5,)


class Mute:
    """From when it is opened the loop of that worker stands still for a while: nothing is sent by it."""

    def __reduce__(self) -> Any:
        return _hold_up_loop, (1.0,)


def _hold_up_loop(seconds: float) -> None:
    with contextlib.suppress(ValueError):  # where the caller is no worker
        get_worker().loop.add_callback(time.sleep, seconds)


class Keeper:
    """Keeps a future, and makes some."""

    def keep(self, before: Any, future: Any) -> None:
        self.future = future

    def kept(self) -> Any:
        return self.future.result(20)

    def make(self, x: int) -> Any:
        return {"made": get_client().submit(abs, x, pure=False)}

    async def make_async(self, x: int) -> Any:
        return [get_client().submit(abs, x, pure=False)]


@pytest.mark.parametrize("before", [Late(), Mute()])
def test_a_future_that_only_the_call_has_is_there_for_the_actor(client: Client, before: Any) -> None:
    """The caller's future dies with the call; that of the worker's client is not made, or not told yet."""
    keeper: Any = client.submit(Keeper, actor=True, pure=False).result(30)
    keeper.keep(before, client.submit(abs, -4, pure=False)).result(30)
    assert keeper.kept().result(30) == 4


@pytest.mark.parametrize("name", ["make", "make_async"])
def test_a_future_that_only_the_answer_has_is_there_for_the_caller(client: Client, name: str) -> None:
    keeper: Any = client.submit(Keeper, actor=True, pure=False).result(30)
    answer = getattr(keeper, name)(-5)
    until(answer.done)
    for _ in range(20):  # what the worker gives up is told meanwhile
        keeper.make(-6).result(30)
        client.run(_collect)
    found = answer.result(30)
    assert (found["made"] if name == "make" else found[0]).result(30) == 5
    del answer, found


def _collect() -> None:
    time.sleep(0.01)


def test_futures_go_along_with_functions_that_are_run(client: Client) -> None:
    """What comes back is no plain data, in the list and by itself."""

    def start(dask_worker: Any) -> Any:
        get_client()
        return Fraction(1, 3), {"nested": [Fraction(2, 3)]}

    async def keep(before: Any, future: Any, dask_worker: Any) -> Any:
        dask_worker.kept_for_test = future
        return [get_client().submit(abs, -7, pure=False)]  # a future itself would be awaited there

    def kept(dask_worker: Any) -> Any:
        return [dask_worker.kept_for_test]

    assert list(client.run(start).values()) == [(Fraction(1, 3), {"nested": [Fraction(2, 3)]})] * 2
    for address in client.scheduler_info()["workers"]:  # the clients of the workers are connected then
        assert client.submit(lambda: get_client().status, workers=[address], pure=False).result(30) == "running"
    made = client.run(keep, Mute(), client.submit(abs, -8, pure=False))
    assert [future.result(30) for (future,) in made.values()] == [7, 7]
    assert [future.result(30) for (future,) in client.run(kept).values()] == [8, 8]
