"""Runs that take a slot but no slot's thread: coroutines on the worker's loop, calls in named executors. Shell.

Whoever gives a run here gives its slot, too; the slot is free when the run ends, unless the task has seceded before.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from distributed.base.daemon_pool import DaemonThreadPool
from distributed.base.errors import TaskCancelled
from distributed.protocol.sizeof import sizeof
from distributed.worker import outcomes
from distributed.worker.executing_page import Cells
from distributed.worker.interrupting import take_back
from distributed.worker.job import Job
from distributed.worker.runtime import RunningTask, current_task, mirror_to_dask

_MOST_ON_LOOP = 100_000
"""Bytes of a result that are pickled on the loop."""


class Slots(Protocol):
    """What the executor offers."""

    loop: asyncio.AbstractEventLoop
    is_inproc: bool
    max_error_length: int
    cells: Cells

    def report(self, event: Any, value: Any) -> None: ...

    def free_slot(self) -> None: ...

    def call_loop(self, function: Callable[[], None]) -> None: ...

    def hold(self, job: Job) -> None: ...


class Onward(NamedTuple):
    """Where a task goes on: in ``pool``, or as the coroutine that ``function`` is when there is none."""

    pool: concurrent.futures.Executor | None
    function: Any
    args: Any
    kwargs: Any


class OffThread:
    """Of one worker; ``tasks`` are those that run, by run id."""

    def __init__(self, slots: Slots) -> None:
        self.tasks: dict[int, RunningTask] = {}
        self._slots = slots
        self._packer: DaemonThreadPool | None = None

    def start(self, job: Job, task: RunningTask, onward: Onward, started: float) -> Any:
        """Have a task go on; a report when it cannot, else None. Any thread."""
        if onward.pool is None:
            self._slots.call_loop(functools.partial(self.follow, job, task, onward.function, started, None))
            return None
        self.tasks[task.run_id] = task
        try:
            if _has_threads(onward.pool):
                future = onward.pool.submit(_in_pool, task, onward.function, onward.args, onward.kwargs)
            else:
                future = onward.pool.submit(onward.function, *onward.args, **onward.kwargs)
        except BaseException as error:  # the pool is shut down, or broken
            self.tasks.pop(task.run_id, None)
            return outcomes.failed(job.execute, task, error, started, self._slots.max_error_length), None
        job.future = future
        self._slots.hold(job)
        future.add_done_callback(functools.partial(self._pool_ended, job, task, started))
        return None

    def _pool_ended(self, job: Job, task: RunningTask, started: float, future: concurrent.futures.Future[Any]) -> None:
        """In the pool's own thread."""
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        value = None if error is not None else future.result()
        if inspect.iscoroutine(value) and not job.execute.function:
            self._slots.call_loop(functools.partial(self.follow, job, task, value, started, None))
        else:
            self._finish(job, task, started, error, value)

    def follow(self, job: Job, task: RunningTask, coroutine: Any, started: float, cell: int | None) -> None:
        """Run a coroutine. On the loop."""
        self.tasks[task.run_id] = task
        if cell is None:
            cell = self._slots.cells.take(task.run_id)
        context = contextvars.copy_context()
        context.run(current_task.set, task)
        future = self._slots.loop.create_task(_caught(coroutine), context=context)
        job.future = future
        future.add_done_callback(functools.partial(self._coroutine_ended, job, task, coroutine, started, cell))
        self._slots.hold(job)

    def _coroutine_ended(
        self,
        job: Job,
        task: RunningTask,
        coroutine: Any,
        started: float,
        cell: int,
        future: asyncio.Task[tuple[BaseException | None, Any]],
    ) -> None:
        self._slots.cells.give_back(cell)
        if future.cancelled():  # before it had begun
            if inspect.iscoroutine(coroutine):
                coroutine.close()
            error, value = asyncio.CancelledError(), None
        else:
            error, value = future.result()  # type: ignore[assignment]
        finish = functools.partial(self._finish, job, task, started, error, value)
        if error is None and _is_large(value):
            if self._packer is None:
                self._packer = DaemonThreadPool(1, "Dask-Results")
            self._packer.submit(finish)
        else:
            finish()

    def _finish(self, job: Job, task: RunningTask, started: float, error: BaseException | None, value: Any) -> None:
        slots = self._slots
        job.inputs = []
        event: Any = None
        if error is None:
            try:
                event = outcomes.success(job.execute, task, value, started, slots.is_inproc)
            except BaseException as unsized:
                error = unsized
        if error is not None:
            event, value = outcomes.failed(job.execute, task, error, started, slots.max_error_length), None
        self.tasks.pop(task.run_id, None)
        slots.report(event, value)
        slots.call_loop(functools.partial(self._leave_slot, task))

    def _leave_slot(self, task: RunningTask) -> None:
        if task.in_slot:
            task.in_slot = False
            self._slots.free_slot()


async def _caught(awaitable: Awaitable[Any]) -> tuple[BaseException | None, Any]:
    """What it raises, or its value: ``SystemExit`` must not reach the loop."""
    try:
        return None, await awaitable
    except BaseException as error:
        return error, None


def _in_pool(task: RunningTask, function: Any, args: Any, kwargs: Any) -> Any:
    """Run a task in a thread that belongs to an executor of the user's."""
    token = current_task.set(task)
    task.thread = threading.get_ident()
    task.open = True
    try:
        mirror_to_dask(task)
        if task.stopping:
            raise TaskCancelled
        return function(*args, **kwargs)
    finally:
        task.open = False
        if task.stopping:
            try:
                take_back(task)
            except TaskCancelled:
                try:
                    take_back(task)
                except TaskCancelled:
                    pass
        current_task.reset(token)


def _has_threads(pool: concurrent.futures.Executor) -> bool:
    return isinstance(pool, concurrent.futures.ThreadPoolExecutor) or "Thread" in type(pool).__name__


def _is_large(value: Any) -> bool:
    try:
        return sizeof(value) > _MOST_ON_LOOP
    except Exception:
        return False
