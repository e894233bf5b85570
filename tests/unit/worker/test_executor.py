"""The executor owes exactly one terminal event for each Execute, whatever the task does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import ctypes
import sys
import threading
import time
from typing import Any

import pytest

from distributed.base.errors import DeserializeError, Reschedule, TaskExited
from distributed.protocol import serialize
from distributed.protocol.serialize import TaskInput
from distributed.worker.executing_page import ExecutingPage
from distributed.worker.runtime import get_task_key, get_worker
from distributed.worker.state_machine.events import (
    ExecuteRescheduled,
    ExecuteSkipped,
    ExecuteSuccess,
)
from distributed.worker.state_machine.instructions import Execute
from tests.unit.worker.bench import Bench, FakeWorker, Gate, inc, known_event, raised, run_test, serialize_by_reference


def test_success_tells_what_the_task_made() -> None:
    async def test(b: Bench) -> None:
        event = await b.run(inc, 1, wanted=True)
        assert isinstance(event, ExecuteSuccess)
        assert b.values[event.run_id] == 2
        assert event.type_name == "int"
        assert event.nbytes > 0
        assert event.inline is not None and serialize.loads(event.inline) == 2
        assert event.unshippable is None
        assert abs(event.started - time.time()) < 10

    run_test(test)


def test_inputs_are_filled_in_at_every_depth() -> None:
    def collect(a: Any, b: Any) -> Any:
        return a, b

    async def test(b: Bench) -> None:
        b.store["x"], b.store["y"] = 10, 20
        event = await b.run(collect, TaskInput(0), [1, {"k": (TaskInput(1), {TaskInput(0)})}], dependencies=("x", "y"))
        assert b.values[event.run_id] == (10, [1, {"k": (20, {10})}])

    run_test(test)


def test_input_stays_though_evicted_after_the_handover() -> None:
    gate = threading.Event()

    async def test(b: Bench) -> None:
        b.store["x"] = 10
        first = b.submit(lambda: gate.wait(5))
        second = b.submit(inc, TaskInput(0), dependencies=("x",))
        b.store.discard("x")
        gate.set()
        await b.end(first)
        event = await b.end(second)
        assert b.values[event.run_id] == 11

    serialize_by_reference(gate)
    run_test(test)


@pytest.mark.parametrize(
    ("make", "code"),
    [(lambda: sys.exit(3), 3), (lambda: (_ for _ in ()).throw(KeyboardInterrupt), None)],
)
def test_a_task_that_wants_to_exit_only_fails(make: Any, code: Any) -> None:
    async def test(b: Bench) -> None:
        error = raised(await b.run(make))
        assert isinstance(error, TaskExited)
        assert error.code == code
        assert isinstance(await b.run(inc, 1), ExecuteSuccess)
        assert len(b.executor.threads) == 1

    run_test(test)


def test_generator_exit_is_an_error_of_the_task() -> None:
    def leave() -> None:
        raise GeneratorExit

    async def test(b: Bench) -> None:
        assert isinstance(raised(await b.run(leave)), TaskExited)

    run_test(test)


def test_error_keeps_type_and_frames_of_the_task_only() -> None:
    def div(x: int) -> float:
        return 1 / x

    async def test(b: Bench) -> None:
        event = await b.run(div, 0)
        assert isinstance(raised(event), ZeroDivisionError)
        assert "distributed/worker/executor.py" not in event.error.traceback_text
        assert "1 / x" in event.error.traceback_text
        assert event.retriable

    run_test(test)


def test_exception_thrown_into_the_thread_does_not_end_it() -> None:
    async def test(b: Bench) -> None:
        await b.run(inc, 1)
        (thread,) = b.executor.threads
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(ValueError))
        for i in range(5):
            await b.run(inc, i)
        assert thread.is_alive()

    run_test(test)


def test_reschedule() -> None:
    def picky() -> None:
        raise Reschedule

    async def test(b: Bench) -> None:
        assert isinstance(await b.run(picky), ExecuteRescheduled)

    run_test(test)


def test_cancelled_before_it_began_is_skipped_at_once() -> None:
    gate = threading.Event()
    serialize_by_reference(gate)

    async def test(b: Bench) -> None:
        first = b.submit(lambda: gate.wait(5))
        second = b.submit(inc, 1)
        await asyncio.sleep(0.01)
        b.executor.cancel(second)
        b.executor.cancel(first)
        assert isinstance(await b.end(second), ExecuteSkipped)
        gate.set()
        assert isinstance(await b.end(first), ExecuteSuccess)

    run_test(test)


class Bad:
    def __reduce__(self) -> Any:
        return _fail_to_load, ()


def _fail_to_load() -> None:
    raise ValueError("broken pickle")


def test_arguments_that_cannot_be_opened() -> None:
    async def test(b: Bench) -> None:
        event = await b.run(inc, Bad())
        error = raised(event)
        assert isinstance(error, DeserializeError)
        assert "key-1" in str(error) and "broken pickle" in str(error)
        assert not event.retriable

    run_test(test)


def test_input_that_cannot_be_opened_names_key_and_producer() -> None:
    async def test(b: Bench) -> None:
        b.store.seal("bad", serialize.dumps(Bad()), "tcp://1.2.3.4:5")
        event = await b.run(inc, TaskInput(0), dependencies=("bad",))
        assert isinstance(raised(event), DeserializeError)
        assert "'bad'" in event.error.message and "tcp://1.2.3.4:5" in event.error.message
        assert not event.retriable

    run_test(test)


def test_sealed_input_is_opened_once_and_stays_open() -> None:
    async def test(b: Bench) -> None:
        b.store.seal("x", serialize.dumps([1]), "elsewhere")
        first = await b.run(lambda x: x, TaskInput(0), dependencies=("x",))
        second = await b.run(lambda x: x, TaskInput(0), dependencies=("x",))
        assert b.values[first.run_id] is b.values[second.run_id] is b.store["x"]

    run_test(test)


def test_result_that_cannot_be_pickled_stays_and_says_why() -> None:
    class Holder:
        def __init__(self) -> None:
            self.inner = {"lock": threading.Lock()}

    async def test(b: Bench) -> None:
        for wanted in (False, True):
            event = await b.run(Holder, wanted=wanted)
            assert isinstance(event, ExecuteSuccess)
            assert event.unshippable is not None
            assert "lock" in event.unshippable.message
            assert event.inline is None

    run_test(test)


def test_coroutine_functions_run_on_the_loop() -> None:
    async def where(x: int) -> tuple[int, bool, Any]:
        await asyncio.sleep(0.001)
        return x, asyncio.get_running_loop().is_running(), get_task_key()

    async def failing() -> None:
        sys.exit(2)

    async def test(b: Bench) -> None:
        event = await b.run(where, 1)
        assert b.values[event.run_id] == (1, True, "key-1")
        assert isinstance(raised(await b.run(failing)), TaskExited)

    run_test(test)


def test_task_knows_its_worker_and_key() -> None:
    async def test(b: Bench) -> None:
        event = await b.run(lambda: (get_worker().address, get_task_key()))
        assert b.values[event.run_id] == (FakeWorker.address, "key-1")
        with pytest.raises(ValueError, match="No worker"):
            get_worker()

    run_test(test)


def test_page_knows_the_thread_of_a_run() -> None:
    page = ExecutingPage.create()
    gate = threading.Event()
    serialize_by_reference(gate)

    async def test(b: Bench) -> None:
        runs = [b.submit(lambda: gate.wait(5)) for _ in range(2)]
        while len(b.executor.running) < 2:
            await asyncio.sleep(0.001)
        idents = {task.run_id: ident for ident, task in b.executor.running.items()}
        assert [page.runs_of(idents[run_id]) for run_id in runs] == [(run_id,) for run_id in runs]
        assert page.runs_of(threading.get_ident()) == page.runs_of(0) == ()
        gate.set()
        for run_id in runs:
            await b.end(run_id)

    run_test(test, 2, page=page)
    page.close()


def test_named_executors() -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine")

    async def test(b: Bench) -> None:
        event = await b.run(lambda: (threading.current_thread().name, get_task_key()), executor="special")
        name, key = b.values[event.run_id]
        assert name.startswith("mine") and key == "key-1"
        error = raised(await b.run(inc, 1, executor="unknown"))
        assert isinstance(error, ValueError) and "special" in str(error)

    run_test(test, executors={"special": pool})


def test_default_executor_is_replaced() -> None:
    pool = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="all-mine")

    async def test(b: Bench) -> None:
        event = await b.run(lambda: threading.current_thread().name)
        assert b.values[event.run_id].startswith("all-mine")

    run_test(test, executors={"default": pool})


def test_alias_is_the_value_of_its_dependency() -> None:
    async def test(b: Bench) -> None:
        b.store["x"] = object()
        b.executor.submit(Execute("y", 77, b"", None, ("x",), alias=True))
        await b.end(77)
        assert b.values[77] is b.store["x"]

    run_test(test)


def test_graph_node_gets_values_by_key() -> None:
    async def test(b: Bench) -> None:
        from dask._task_spec import Task, TaskRef

        node = Task("z", lambda a, c: a + c, TaskRef(("x", 0)), 5)
        b.store["x", 0] = 1
        b.executor.submit(Execute("z", 78, b"", serialize.dumps(node), (("x", 0),)))
        await b.end(78)
        assert b.values[78] == 6

    run_test(test)


def test_page_shows_what_runs() -> None:
    page = ExecutingPage.create()
    gate = threading.Event()
    serialize_by_reference(gate)

    async def test(b: Bench) -> None:
        run_id = b.submit(lambda: gate.wait(5))
        while not b.executor.running:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert page.run_ids() == (run_id,)
        gate.set()
        await b.end(run_id)
        await asyncio.sleep(0.01)
        assert page.run_ids() == ()

    run_test(test, page=page)
    page.close()


def test_inproc_results_are_live() -> None:
    async def test(b: Bench) -> None:
        event = await b.run(threading.Lock, wanted=True)
        assert event.unshippable is None
        assert event.inline.attached.live is b.values[event.run_id]

    run_test(test, is_inproc=True)


def test_many_tasks_are_reported_in_batches() -> None:
    async def test(b: Bench) -> None:
        runs = [b.submit(inc, i) for i in range(1000)]
        for run_id in runs:
            await b.end(run_id)
        assert [b.values[r] for r in runs] == [i + 1 for i in range(1000)]

    run_test(test, nthreads=3)


def test_several_slots_run_at_once() -> None:
    barrier = threading.Barrier(3)
    Gate.known[id(barrier)] = barrier
    number = id(barrier)

    async def test(b: Bench) -> None:
        runs = [b.submit(lambda i: known_event(number).wait(5) is not None, i) for i in range(3)]
        for run_id in runs:
            assert isinstance(await b.end(run_id), ExecuteSuccess)

    run_test(test, nthreads=3)


def test_result_is_not_kept_alive_by_the_thread() -> None:
    import weakref

    class Big:
        pass

    async def test(b: Bench) -> None:
        event = await b.run(Big)
        ref = weakref.ref(b.values.pop(event.run_id))
        b.events.clear()
        await b.run(inc, 1)
        assert ref() is None

    run_test(test, is_inproc=True)


def test_context_variable_is_reset() -> None:
    assert contextvars.copy_context() is not None
    assert get_task_key() is None
