"""Runs that are handed over behind another: begun by its thread with its value, or given back, each told of once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import sys
import threading
import weakref
from typing import Any

import pytest

from distributed.base.errors import Reschedule
from distributed.protocol.serialize import TaskInput
from distributed.worker.executing_page import ExecutingPage
from distributed.worker.runtime import rejoin, secede
from distributed.worker.state_machine.events import (
    ExecuteFailure,
    ExecuteRescheduled,
    ExecuteSkipped,
    ExecuteSuccess,
)
from distributed.worker.state_machine.instructions import Execute
from tests.unit.worker.bench import Bench, Gate, inc, raised, run_test, serialize_by_reference


class Story:
    """What tasks share with their test: a gate that they wait for, and a list of what they did."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.told: list[Any] = []
        serialize_by_reference(self.gate)
        serialize_by_reference(self.begun)
        Gate.known[id(self.told)] = self.told

    def first(self, value: Any = 0) -> Any:
        """A task that waits until the test has said all that it has to say."""
        gate, begun, told = self.gate, self.begun, id(self.told)

        def first() -> Any:
            begun.set()
            assert gate.wait(10)
            Gate.known[told].append(("first", threading.current_thread().name))
            if isinstance(value, type):
                raise value
            return value

        return first

    def then(self, name: str = "") -> Any:
        """A task that adds one to what it gets."""
        told = id(self.told)

        def then(value: int) -> int:
            Gate.known[told].append((name or value, threading.current_thread().name))
            return value + 1

        return then

    @property
    def names(self) -> list[Any]:
        return [name for name, _ in self.told]


@pytest.fixture
def story() -> Story:
    return Story()


def behind(b: Bench, function: Any, run_id: int, *args: Any) -> int:
    """A run of ``function(value of that run, *args)``."""
    return b.submit(function, TaskInput(0), *args, dependencies=(f"key-{run_id}",), after=run_id)


async def all_ends(b: Bench, runs: list[int]) -> list[Any]:
    return [await b.end(run_id) for run_id in runs]


def test_a_chain_runs_in_order_in_one_thread(story: Story, request: pytest.FixtureRequest) -> None:
    # The loop does not get in between: it could hand the value on itself, by the queue.
    request.addfinalizer(functools.partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(10.0)

    async def test(b: Bench) -> None:
        runs = [b.submit(story.first())]
        for _ in range(20):
            runs.append(behind(b, story.then(), runs[-1]))
        story.gate.set()
        await all_ends(b, runs)
        assert [b.values[run_id] for run_id in runs] == list(range(21))
        assert story.names == ["first", *range(20)]
        assert len({thread for _, thread in story.told}) == 1 == len(b.executor.threads)
        assert [event.run_id for event in b.events] == runs, "told in order"

    run_test(test, 3)


def test_a_chain_of_many_links(story: Story) -> None:
    async def test(b: Bench) -> None:
        runs = [b.submit(story.first())]
        for _ in range(5_000):
            runs.append(behind(b, inc, runs[-1]))
        story.gate.set()
        await all_ends(b, runs)
        assert b.values[runs[-1]] == 5_000

    run_test(test)


def test_a_value_is_let_go_of_behind_its_last_user(story: Story) -> None:
    class Big:
        pass

    refs: list[Any] = []
    Gate.known[1] = refs

    def make(_: Any) -> Any:
        big = Big()
        Gate.known[1].append(weakref.ref(big))
        return big

    async def test(b: Bench) -> None:
        await b.run(make, 0)  # what is imported for the first value may keep that
        refs.clear()
        runs = [b.submit(story.first())]
        for _ in range(3):
            runs.append(behind(b, make, runs[-1]))
        last = behind(b, lambda _: [ref() is not None for ref in Gate.known[1]], runs[-1])
        story.gate.set()
        await b.end(last)
        assert b.values[last][-1] is True
        b.values.clear()
        b.events.clear()
        await b.run(inc, 1)
        assert [ref() for ref in refs] == [None] * 3

    run_test(test, is_inproc=True)


def test_other_inputs_keep_their_places(story: Story) -> None:
    async def test(b: Bench) -> None:
        b.store["a"], b.store["c"] = 10, 30
        first = b.submit(story.first(20))
        last = b.submit(
            lambda *args: args, TaskInput(2), TaskInput(1), TaskInput(0), TaskInput(1),
            dependencies=("a", f"key-{first}", "c"), after=first,
        )  # fmt: skip
        b.store.discard("a")
        story.gate.set()
        await b.end(last)
        assert b.values[last] == (30, 20, 10, 20)

    run_test(test)


def test_an_alias_behind_its_source(story: Story) -> None:
    async def test(b: Bench) -> None:
        first = b.submit(story.first(20))
        b.executor.submit(Execute("other", 77, b"", None, (f"key-{first}",), alias=True, after=first))
        story.gate.set()
        await b.end(77)
        assert b.values[77] == 20

    run_test(test)


def test_several_behind_one_run_use_all_slots(story: Story) -> None:
    barrier = threading.Barrier(3)
    Gate.known[2] = barrier

    def together(value: int, i: int) -> int:
        Gate.known[2].wait(10)
        return value + i

    async def test(b: Bench) -> None:
        first = b.submit(story.first(10))
        runs = [behind(b, together, first, i) for i in range(3)]
        story.gate.set()
        await all_ends(b, runs)
        assert [b.values[run_id] for run_id in runs] == [10, 11, 12]
        assert len(b.executor.threads) == 3

    run_test(test, 3)


def test_what_was_queued_before_goes_first(story: Story) -> None:
    async def test(b: Bench) -> None:
        first = b.submit(story.first())
        second = behind(b, story.then("second"), first)
        other = b.submit(story.then("other"), 5)
        third = behind(b, story.then("third"), second)
        story.gate.set()
        await all_ends(b, [second, other, third])
        assert story.names == ["first", "other", "second", "third"]

    run_test(test)


@pytest.mark.parametrize(("error", "kind"), [(ValueError, ExecuteFailure), (Reschedule, ExecuteRescheduled)])
def test_behind_a_run_without_a_value_nothing_begins(story: Story, error: Any, kind: type) -> None:
    async def test(b: Bench) -> None:
        runs = [b.submit(story.first())]
        runs.append(behind(b, story.then(), runs[-1]))

        def fails(value: int) -> None:
            raise error

        runs.append(behind(b, fails, runs[-1]))
        for _ in range(3):
            runs.append(behind(b, story.then("never"), runs[-1]))
        runs.append(behind(b, story.then("never"), runs[-2]))
        story.gate.set()
        events = await all_ends(b, runs)
        assert [type(event) for event in events] == [ExecuteSuccess] * 2 + [kind] + [ExecuteSkipped] * 4
        assert story.names == ["first", 0]
        assert isinstance(await b.run(inc, 1), ExecuteSuccess), "the slot is free"
        again = b.submit(story.first(5))
        b.executor.submit(Execute("again", runs[3], b"", None, (f"key-{again}",), alias=True, after=again))
        b.events[:] = [event for event in b.events if event.run_id != runs[3]]
        await b.end(runs[3])
        assert b.values[runs[3]] == 5, "one that was given back may come again"

    run_test(test)


def test_behind_a_run_that_is_taken_back_nothing_begins(story: Story) -> None:
    async def test(b: Bench) -> None:
        gate = b.submit(story.first())
        first = b.submit(story.then("never"), 1)
        second = behind(b, story.then("never"), first)
        b.executor.cancel(first)
        assert isinstance(await b.end(first), ExecuteSkipped)
        assert isinstance(await b.end(second), ExecuteSkipped)
        story.gate.set()
        await b.end(gate)
        assert story.names == ["first"]

    run_test(test)


def test_one_that_is_taken_back_and_those_behind_it(story: Story) -> None:
    async def test(b: Bench) -> None:
        first = b.submit(story.first())
        second = behind(b, story.then("never"), first)
        third = behind(b, story.then("never"), second)
        other = behind(b, story.then("other"), first)
        b.executor.cancel(second)
        b.executor.cancel(third)
        assert [type(event) for event in await all_ends(b, [second, third])] == [ExecuteSkipped] * 2
        story.gate.set()
        await all_ends(b, [first, other])
        assert story.names == ["first", "other"]

    run_test(test)


def test_one_that_is_taken_back_may_come_again_behind_a_newer_run(story: Story) -> None:
    """And it is that one's value which it gets, whatever the older run does meanwhile."""
    newer = Story()

    async def test(b: Bench) -> None:
        first = b.submit(story.first(1))
        last = behind(b, inc, first)
        b.executor.cancel(last)
        assert isinstance(await b.end(last), ExecuteSkipped)
        second = b.submit(newer.first(100))
        b.events.clear()
        b.executor.submit(Execute("last", last, b"", None, (f"key-{second}",), alias=True, after=second))
        story.gate.set()
        await b.end(first)
        await b.run(inc, 1)  # the thread of the first has gone on by now
        assert last not in b.values
        newer.gate.set()
        await b.end(last)
        assert b.values[last] == 100

    run_test(test, 2)


def test_one_that_comes_between_the_end_and_its_news(story: Story) -> None:
    async def test(b: Bench) -> None:
        first = b.submit(inc, 1)
        while not b.executor.unreported():  # the loop is kept busy here, so it does not hear of it
            pass
        second = behind(b, inc, first)
        await b.end(second)
        assert b.values[second] == 3

    run_test(test)


@pytest.mark.parametrize("nthreads", [1, 2])
def test_coroutines(nthreads: int) -> None:
    async def slow(value: int) -> int:
        await asyncio.sleep(0.001)
        return value + 1

    async def test(b: Bench) -> None:
        await b.run(slow, 1)  # known to be a coroutine function from now on
        runs = [b.submit(slow, 1)]
        for function in (inc, slow, slow, inc):
            runs.append(behind(b, function, runs[-1]))
        both = [behind(b, slow, runs[-1]), behind(b, inc, runs[-1])]
        await all_ends(b, [*runs, *both])
        assert [b.values[run_id] for run_id in [*runs, *both]] == [2, 3, 4, 5, 6, 7, 7]
        assert isinstance(await b.run(inc, 1), ExecuteSuccess), "each slot is free"

    run_test(test, nthreads)


def test_all_tasks_in_an_executor_of_the_users(story: Story) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="all-mine")

    async def test(b: Bench) -> None:
        runs = [b.submit(story.first())]
        for _ in range(5):
            runs.append(behind(b, story.then(), runs[-1]))
        story.gate.set()
        await all_ends(b, runs)
        assert b.values[runs[-1]] == 5
        assert all(thread.startswith("all-mine") for _, thread in story.told)

    run_test(test, executors={"default": pool})


@pytest.mark.parametrize("comes_back", [False, True])
def test_behind_a_run_that_leaves_its_slot(story: Story, comes_back: bool) -> None:
    """The core takes back what lies behind it; what it is too late for begins with the value at the end."""
    gate = story.gate

    def leaves() -> int:
        secede()
        assert gate.wait(10)
        if comes_back:
            rejoin()
        return 5

    async def test(b: Bench) -> None:
        first = b.submit(leaves)
        second = behind(b, inc, first)
        third = behind(b, inc, first)
        await b.seceded(first)
        b.executor.cancel(second)
        assert isinstance(await b.end(second), ExecuteSkipped)
        assert isinstance(await b.run(inc, 1), ExecuteSuccess), "its slot is free"
        gate.set()
        await b.end(third)
        assert b.values[third] == 6

    run_test(test)


def test_behind_a_run_that_is_stopped(story: Story) -> None:
    def loops(begun: threading.Event) -> None:
        begun.set()
        while True:
            pass

    async def test(b: Bench) -> None:
        first = b.submit(loops, story.begun)
        second = behind(b, story.then("never"), first)
        story.begun.wait(10)
        b.executor.cancel(first)
        b.executor.stop(first, "no longer wanted", True)
        assert isinstance(await b.end(first), ExecuteFailure)
        assert isinstance(await b.end(second), ExecuteSkipped)

    run_test(test)


def test_an_input_that_is_not_here_fails_the_run_and_gives_back_those_behind_it(story: Story) -> None:
    async def test(b: Bench) -> None:
        first = b.submit(story.first())
        second = b.submit(inc, TaskInput(1), dependencies=(f"key-{first}", "nowhere"), after=first)
        third = behind(b, inc, second)
        assert isinstance(raised(await b.end(second)), KeyError)
        assert isinstance(await b.end(third), ExecuteSkipped)
        story.gate.set()
        assert isinstance(await b.end(first), ExecuteSuccess)

    run_test(test)


def test_nothing_begins_after_the_executor_was_closed(story: Story) -> None:
    async def test(b: Bench) -> None:
        first = b.submit(story.first())
        behind(b, story.then("never"), first)
        assert story.begun.wait(10)
        closing = asyncio.ensure_future(b.executor.close(10))
        while not b.executor.closed:
            await asyncio.sleep(0)
        story.gate.set()
        await closing
        await asyncio.sleep(0)
        assert not b.executor.threads and story.names == ["first"]

    run_test(test)


def test_the_page_names_the_run_that_is_executed(story: Story) -> None:
    page = ExecutingPage.create()
    second_story = Story()

    async def test(b: Bench) -> None:
        first = b.submit(story.first())
        second = behind(b, lambda _: second_story_first(), first)
        story.gate.set()
        assert second_story.begun.wait(10)
        assert page.run_ids() == (second,)
        second_story.gate.set()
        await b.end(second)

    second_story_first = second_story.first()
    run_test(test, page=page)
    page.close()
