"""Runs tasks: one long-lived thread per slot that drains a shared queue and reports in batches. Shell.

What it owes to the state machine: exactly one terminal event (``ExecuteSuccess``, ``ExecuteFailure``,
``ExecuteRescheduled``, ``ExecuteSkipped``) for each ``Execute``, whatever the task does short of killing the process.
No future, coroutine or lock per task: a queued run sits in one dict and whoever pops it, a thread that starts it or the
loop that takes it back, owns it. A finished run is appended to a deque, and the loop is woken once for all that are
there.

Coroutine functions run on the worker's loop and tasks for a named executor run there, while the slot waits: so both
count as slots. Must not decide what runs next (the state machine's order is kept) nor keep results (``effects.py``
does).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from distributed.base.errors import DeserializeError, Reschedule, TaskExited
from distributed.base.keys import Key, user_key
from distributed.messages.payload import ErrorInfo, FunctionBlob
from distributed.protocol import serialize
from distributed.protocol.functions import forget_opened
from distributed.protocol.opening import open_in_turn
from distributed.protocol.program import Program
from distributed.protocol.sizeof import sizeof
from distributed.worker.data_store import DataStore, Sealed
from distributed.worker.executing_page import CELLS, ExecutingPage
from distributed.worker.inputs import fill_arguments
from distributed.worker.profiling import sampler
from distributed.worker.runtime import RunningTask, current_task, current_worker, mirror_to_dask
from distributed.worker.shipping import ship
from distributed.worker.slot_loans import Rejoin, Relief, SlotLoans
from distributed.worker.spill_file import SpillFile
from distributed.worker.state_machine.events import (
    ExecuteFailure,
    ExecuteLongRunning,
    ExecuteRescheduled,
    ExecuteSkipped,
    ExecuteSuccess,
)
from distributed.worker.state_machine.instructions import Execute

logger = logging.getLogger("distributed.worker")

REJOIN_PATIENCE_S = 5.0
"""A task that wants its slot back goes on without one when no slot has changed hands for so long."""

ExecutorEvent = ExecuteSuccess | ExecuteFailure | ExecuteRescheduled | ExecuteSkipped | ExecuteLongRunning
Report = tuple[ExecutorEvent, Any]
"""An event, and the value that comes with an ``ExecuteSuccess`` (else None)."""


class _Unopened(Exception):
    """The function, the arguments or an input of the task could not be opened."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _InputLost(Exception):
    """An input that was on disk cannot be read."""

    def __init__(self, file: SpillFile, error: OSError) -> None:
        self.file = file
        self.error = error


class _Job:
    """One ``Execute`` with the values it needs in hand."""

    __slots__ = ("execute", "inputs", "future", "task")

    task: RunningTask

    def __init__(self, execute: Execute, inputs: list[Any]) -> None:
        self.execute = execute
        self.inputs = inputs
        self.future: concurrent.futures.Future[Any] | None = None


class TaskExecutor:
    """The slots of one worker.

    Parameters
    ----------
    nthreads :
        How many slots there are.
    loop :
        The worker's event loop; ``on_reports`` is called there.
    on_reports :
        Gets what has happened since the last call.
    store :
        Where held values are opened.
    worker :
        What ``get_worker()`` returns in a task.
    is_inproc :
        Results travel as live objects, nothing is pickled.
    executors :
        Named executors for tasks annotated so; one named ``"default"`` runs every other task too.
    page :
        Where the executing runs are noted for the nanny.
    """

    def __init__(
        self,
        nthreads: int,
        loop: asyncio.AbstractEventLoop,
        on_reports: Callable[[list[Report]], None],
        store: DataStore,
        worker: Any = None,
        is_inproc: bool = False,
        executors: Mapping[str, concurrent.futures.Executor] | None = None,
        page: ExecutingPage | None = None,
        max_error_length: int = 10_000,
    ) -> None:
        self.nthreads = nthreads
        self.loop = loop
        self.store = store
        self.worker = worker
        self.is_inproc = is_inproc
        self.executors: dict[str, concurrent.futures.Executor] = dict(executors or {})
        self.page = page
        self.max_error_length = max_error_length
        self.threads: set[threading.Thread] = set()
        self.running: dict[int, RunningTask] = {}
        """By the ident of the thread."""
        self.on_lost: Callable[[SpillFile, str], None] = _ignore_loss
        """Told, on the loop, of an input whose file cannot be read; the run that needed it ends as not begun."""
        self._on_reports = on_reports
        self._blobs: dict[bytes, FunctionBlob] = {}
        self._loaded: dict[bytes, tuple[Callable[..., Any], bool]] = {}
        self._queue: queue.SimpleQueue[int | Rejoin | None] = queue.SimpleQueue()
        self._jobs: dict[int, _Job] = {}
        self._owed: set[int] = set()
        self._reports: deque[Report] = deque()
        self._awake = False
        self._closed = False
        self._slots = 0
        self._loans = SlotLoans(self._say_slotless)
        self._relief = Relief()
        self._thread_count = 0
        self._free_cells: deque[int] = deque(range(CELLS))
        self._jobs_running: dict[int, _Job] = {}

    # -- called on the loop

    def define(self, blob: FunctionBlob) -> None:
        """Know a function from now on; it is unpickled by the first task that needs it."""
        self._blobs[blob.digest] = blob

    def forget_functions(self) -> None:
        """Unpickle every function anew when it is next needed (its module has been replaced)."""
        self._loaded.clear()
        forget_opened()

    def submit(self, execute: Execute) -> None:
        """Queue a run behind those that are queued already."""
        if not sampler.awake:
            sampler.wake()
        run_id = execute.run_id
        self._owed.add(run_id)
        try:
            inputs = self.store.hold_all(execute.dependencies) if execute.dependencies else []
        except Exception as error:
            self._report(self._failure(execute, error, 0.0, 0.0, retriable=True), None)
            return
        self._jobs[run_id] = _Job(execute, inputs)
        self._queue.put(run_id)
        if self._slots < self.nthreads:
            self._start_slot()

    def cancel(self, run_id: int) -> None:
        """Take the run back; one that has begun goes on, unless it is a coroutine."""
        if self._jobs.pop(run_id, None) is not None:
            self._report(ExecuteSkipped(run_id), None)
            return
        job = self._jobs_running.get(run_id)
        if job is not None and job.future is not None:
            job.future.cancel()

    @property
    def queued(self) -> int:
        """Runs that no slot has begun."""
        return len(self._jobs)

    def executing_keys(self) -> dict[int, Key]:
        """Key by ident of the thread that runs it."""
        return {ident: task.key for ident, task in self.running.copy().items()}

    def unreported(self) -> list[Key]:
        """Keys of runs that have ended just now."""
        return [event.key for event, _ in tuple(self._reports) if not isinstance(event, ExecuteSkipped)]

    def opening(self, key: Key) -> str:
        """What the running task ``key`` has unpickled for it right now; empty when nothing, or it does not run."""
        return next((task.opening for task in self.running.copy().values() if task.key == key), "")

    def waits_for(self, key: Key) -> str:
        """What the running task ``key`` is blocked by, as far as it has said; else empty."""
        return next((task.waits_for for task in self.running.copy().values() if task.key == key), "")

    async def close(self, timeout: float | None = None) -> None:
        """End the slots; a task that still runs after ``timeout`` seconds is left behind in its (daemon) thread."""
        if self._closed:
            return
        self._closed = True
        self._jobs.clear()
        for job in list(self._jobs_running.values()):
            if job.future is not None:
                job.future.cancel()
        for _ in range(self._slots):
            self._queue.put(None)
        deadline = time.monotonic() + (2.0 if timeout is None else timeout)
        delay = 0.0005
        while any(thread.is_alive() for thread in list(self.threads)) and time.monotonic() < deadline:
            await asyncio.sleep(delay)
            delay = min(delay * 2, 0.02)
        for executor in self.executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
        self._loaded.clear()
        self._blobs.clear()

    # -- called by the task, in its thread

    def secede(self, task: RunningTask) -> None:
        """The task gives its slot to a new thread and runs on."""
        task.seceded = True
        if task.in_slot:
            task.in_slot = False
            self._call_loop(self._replace_slot)
        self._say_slotless(task)

    def _say_slotless(self, task: RunningTask) -> None:
        duration = time.monotonic() - task.started
        self._report(ExecuteLongRunning(task.key, task.run_id, duration), None)

    def rejoin(self, task: RunningTask) -> None:
        """Wait until a slot is free for this task, or until none is to be expected (:meth:`_wait_for_slot`)."""
        if not task.in_slot and threading.get_ident() == task.thread:
            request = Rejoin()
            task.waits_for = "a slot, to rejoin"
            self._call_loop(functools.partial(self._give_slot, request))
            task.in_slot = self._wait_for_slot(request)
            task.waits_for = ""
        task.seceded = False

    def _wait_for_slot(self, request: Rejoin) -> bool:
        """Whether there is a slot. When no slot has changed hands for :data:`REJOIN_PATIENCE_S`, the tasks in them may
        wait for this very one, in a way that nobody can see: it goes on beside them."""
        runs, since = self._run_ids(), time.monotonic()
        while not request.granted.wait(1.0):
            if self._closed or self.loop.is_closed():
                break
            now_runs, now = self._run_ids(), time.monotonic()
            if now_runs != runs:
                runs, since = now_runs, now
            elif now - since >= REJOIN_PATIENCE_S and self._loans.take(request):
                return False
        return True

    def _run_ids(self) -> list[int]:
        return sorted([task.run_id for task in self.running.copy().values() if task.in_slot])

    def lend_slot(self, task: RunningTask) -> bool:
        """The task is going to block: its slot is for those that want to rejoin. Whether it had one to lend."""
        if not task.in_slot:
            return False
        if self._loans.offer(task) >= self.nthreads and not self._relief.is_due:
            self._relief.is_due = True
            self._call_loop(self._relieve_later)
        return True

    def take_slot_back(self, task: RunningTask) -> None:
        """Behind :meth:`lend_slot`: wait for a slot if somebody has taken this one."""
        self._loans.withdraw(task)
        if task.seceded:
            self._relief.returned()
        self.rejoin(task)

    def _relieve_later(self) -> None:
        self.loop.call_later(self._relief.pause_s, self._relieve)

    def _relieve(self) -> None:
        """When every slot is blocked, one of them goes to the next task: perhaps all wait for that."""
        relief = self._relief
        relief.is_due = False
        task = None if self._closed else self._loans.give_up(self.nthreads, relief.pause_s)
        if task is not None:
            relief.given()
            self._replace_slot()
        if self._loans.n_offers >= self.nthreads and not self._closed and not relief.is_due:
            relief.is_due = True
            self._relieve_later()

    # -- slots

    def _start_slot(self) -> None:
        self._slots += 1
        self._thread_count += 1
        name = f"Dask-Default-Threads-{os.getpid()}-{self._thread_count}"
        thread = threading.Thread(target=self._run_slot, name=name, daemon=True)
        self.threads.add(thread)
        thread.start()

    def _replace_slot(self) -> None:
        self._slots -= 1
        if not self._closed and not self._queue.empty():  # a run, or a task that waits for its slot
            self._start_slot()

    def _give_slot(self, request: Rejoin) -> None:
        if self._slots < self.nthreads:
            self._slots += 1
            request.granted.set()
        else:
            self._loans.wish(request)
            self._queue.put(request)  # whoever of the slot threads takes it ends

    def _run_slot(self) -> None:
        """What a slot thread does all its life. No exception ends it."""
        current_worker.set(self.worker)
        cell = self._free_cells.popleft() if self._free_cells else -1
        if self.page is not None and cell >= 0:
            self.page.note_thread(cell, threading.get_ident())
        try:
            while True:
                try:
                    if not self._run_next(cell):
                        return
                except BaseException as error:  # thrown into the thread from outside, between two tasks
                    logger.error("A slot thread was interrupted", exc_info=error)
                    # What it was about to take may be lost from the queue; whoever meets a run twice skips it.
                    for run_id in list(self._jobs):
                        self._queue.put(run_id)
                    if self._closed:
                        return
        finally:
            if cell >= 0:
                self._free_cells.append(cell)
            self.threads.discard(threading.current_thread())

    def _run_next(self, cell: int) -> bool:
        """Wait for a run and run it; whether this thread still has a slot."""
        item = self._queue.get()
        if item is None:
            return False
        if type(item) is Rejoin:
            if not self._loans.take(item):
                return True  # it was lent a slot
            item.granted.set()
            return False
        job = self._jobs.pop(item, None)  # type: ignore[arg-type]
        if job is None:
            return True  # taken back
        execute = job.execute
        ident = threading.get_ident()
        task = RunningTask(execute.key, execute.run_id, time.monotonic(), self.worker, self, execute.actor)
        task.in_slot = True
        task.thread = ident
        job.task = task
        cells = None if self.page is None or cell < 0 else self.page.cells
        if cells is not None:
            cells[cell] = execute.run_id + 1
        self.running[ident] = task
        try:
            self._run(job, task)
        except BaseException as error:
            self._fail_anyhow(job, error)
        finally:
            self.running.pop(ident, None)
            if cells is not None:
                cells[cell] = 0
        return task.in_slot

    def _run(self, job: _Job, task: RunningTask) -> None:
        """Run one task and report its end."""
        execute = job.execute
        token = current_task.set(task)
        started = time.time()
        begin = task.started
        try:
            value = self._call(job, task)
            job.inputs = []
            duration = time.monotonic() - begin
            nbytes = sizeof(value)
            inline, unshippable = None, None
            if execute.actor:
                pass  # it stays here: who asks for it gets a proxy
            elif self.is_inproc:
                inline, unshippable = (serialize.live(value) if execute.wanted else None), None
            else:
                inline, unshippable = ship(value, nbytes, execute.wanted, duration)
            event: ExecutorEvent = ExecuteSuccess(
                execute.key,
                execute.run_id,
                nbytes,
                type_name(type(value)),  # type: ignore[arg-type]
                duration,
                inline,
                unshippable,
                started,
                task.thread,
                task.metadata,
            )
            self._report(event, value)
        except _InputLost as lost:
            self._call_loop(functools.partial(self._lose, lost, execute.run_id))
        except Reschedule:
            self._report(ExecuteRescheduled(execute.key, execute.run_id), None)
        except _Unopened as unopened:
            self._report(self._failure(execute, unopened.error, started, time.monotonic() - begin, False), None)
        except BaseException as error:
            self._report(self._failure(execute, error, started, time.monotonic() - begin, True), None)
        finally:
            current_task.reset(token)

    def _call(self, job: _Job, task: RunningTask) -> Any:
        """Open what the task consists of, and run it."""
        execute = job.execute
        if execute.alias:
            return self._input(job, 0)
        if not execute.function:
            return self._call_graph_node(job, task)
        loaded = self._loaded.get(execute.function)
        if loaded is None:
            task.opening = "its function"
            loaded = self._load_function(execute)
            task.opening = ""
        function, is_coroutine_function = loaded
        args: Any = ()
        kwargs: dict[str, Any] = {}
        is_program = type(function) is Program
        if execute.payload is not None:
            task.opening = "its arguments"
            try:
                found = serialize.loads(execute.payload)
            except BaseException as error:
                raise _Unopened(self._deserialize_error(execute.key, "the arguments", error)) from None
            task.opening = ""
            args, kwargs = ((found,), {}) if is_program else found
        for index, value in enumerate(job.inputs):
            if type(value) is Sealed or type(value) is SpillFile:
                self._input(job, index)
        if is_program:
            args = (args[0] if args else (), job.inputs)
        elif job.inputs:
            args, kwargs = fill_arguments(args, kwargs, job.inputs.__getitem__)
        mirror_to_dask(task)
        if is_coroutine_function:
            return self._call_coroutine(job, task, function(*args, **kwargs))
        if execute.executor is not None or "default" in self.executors:
            return self._call_elsewhere(job, task, function, args, kwargs)
        return function(*args, **kwargs)

    def _call_graph_node(self, job: _Job, task: RunningTask) -> Any:
        execute = job.execute
        assert execute.payload is not None
        task.opening = "its arguments"
        try:
            node = open_in_turn(execute.payload)
        except BaseException as error:
            raise _Unopened(self._deserialize_error(execute.key, "the task", error)) from None
        task.opening = ""
        values = {user_key(key): self._input(job, i) for i, key in enumerate(execute.dependencies)}
        mirror_to_dask(task)
        if not callable(node):
            return node
        if execute.executor is not None or "default" in self.executors:
            value = self._call_elsewhere(job, task, node, (values,), {})
        else:
            value = node(values)
        if inspect.iscoroutine(value):
            return self._call_coroutine(job, task, value)
        return value

    def _call_coroutine(self, job: _Job, task: RunningTask, coroutine: Any) -> Any:
        if not inspect.isawaitable(coroutine):
            return coroutine

        async def run() -> tuple[bool, Any]:
            current_task.set(task)
            try:
                return True, await coroutine
            except asyncio.CancelledError as error:
                if self._closed:
                    raise
                return False, error
            except BaseException as error:  # SystemExit must not reach the loop
                return False, error

        job.future = asyncio.run_coroutine_threadsafe(run(), self.loop)
        self._jobs_running[job.execute.run_id] = job
        try:
            succeeded, value = job.future.result()
        finally:
            self._jobs_running.pop(job.execute.run_id, None)
        if succeeded:
            return value
        raise value

    def _call_elsewhere(self, job: _Job, task: RunningTask, function: Any, args: Any, kwargs: Any) -> Any:
        name = job.execute.executor or "default"
        executor = self.executors.get(name)
        if executor is None:
            if name == "default":
                return function(*args, **kwargs)
            known = sorted({"default", *self.executors})
            raise ValueError(f"executor={name!r} is not known; there are {known}")
        if isinstance(executor, concurrent.futures.ThreadPoolExecutor) or "Thread" in type(executor).__name__:
            return executor.submit(self._in_context, task, function, args, kwargs).result()
        return executor.submit(function, *args, **kwargs).result()

    def _in_context(self, task: RunningTask, function: Any, args: Any, kwargs: Any) -> Any:
        token = current_task.set(task)
        mirror_to_dask(task)
        try:
            return function(*args, **kwargs)
        finally:
            current_task.reset(token)

    def _load_function(self, execute: Execute) -> tuple[Callable[..., Any], bool]:
        blob = self._blobs.get(execute.function)
        if blob is None:
            raise RuntimeError(f"the function of task {user_key(execute.key)!r} has never reached this worker")
        try:
            function = serialize.loads_function(blob)
        except BaseException as error:
            what = f"the function {blob.name}" if blob.name else "the function"
            raise _Unopened(self._deserialize_error(execute.key, what, error)) from None
        loaded = self._loaded[execute.function] = (function, is_coroutine_function(function))
        return loaded

    def _input(self, job: _Job, index: int) -> Any:
        value = job.inputs[index]
        kind = type(value)
        if kind is not Sealed and kind is not SpillFile:
            return value
        key = job.execute.dependencies[index]
        closed = value
        origin = f"received from {value.producer}," if value.producer else "read from disk,"
        text = f"its input {user_key(key)!r}, {origin}"
        job.task.opening = text
        try:
            value = job.inputs[index] = self.store.opened(value)
        except BaseException as error:
            if isinstance(error, OSError) and kind is SpillFile:
                raise _InputLost(closed, error) from None
            unopened = self._deserialize_error(job.execute.key, text, error, user_key(key), value.producer)
            raise _Unopened(unopened) from None
        job.task.opening = ""
        return value

    # -- ends

    def _deserialize_error(
        self, key: Key, what: str, cause: BaseException, culprit: Any = None, producer: str = ""
    ) -> DeserializeError:
        error = DeserializeError(
            f"task {user_key(key)!r} could not run: {what} could not be unpickled on worker "
            f"{getattr(self.worker, 'address', None)}: {_described(cause)}",
            user_key(key) if culprit is None else culprit,
            producer,
        )
        error.__cause__ = cause
        error.__traceback__ = cause.__traceback__
        return error

    def _failure(
        self, execute: Execute, error: BaseException, started: float, duration: float, retriable: bool
    ) -> ExecuteFailure:
        if isinstance(error, SystemExit):
            error = _exited(error, f"the task called sys.exit({error.code!r})", error.code)
        elif not isinstance(error, Exception):
            # KeyboardInterrupt, GeneratorExit, CancelledError... would do to the client what they are not meant for.
            error = _exited(error, f"the task raised {_described(error)}", None)
        error.__traceback__ = _without_own_frames(error.__traceback__)
        return ExecuteFailure(
            execute.key,
            execute.run_id,
            self._pack(error),
            duration,
            started,
            threading.get_ident(),
            retriable,
        )

    def _pack(self, error: BaseException) -> ErrorInfo:
        try:
            return serialize.pack_error(error, self.max_error_length)
        except BaseException as second:
            try:
                text = str(error)
            except BaseException:
                text = "<an exception without a readable text>"
            return ErrorInfo(type(error).__name__, text[: self.max_error_length], traceback_text=repr(second))

    def _lose(self, lost: _InputLost, run_id: int) -> None:
        if not self._closed:
            self.on_lost(lost.file, str(lost.error))
        self._report(ExecuteSkipped(run_id), None)

    def _fail_anyhow(self, job: _Job, error: BaseException) -> None:
        logger.error("task %r ended in an unforeseen way", job.execute.key, exc_info=error)
        self._report(self._failure(job.execute, error, 0.0, 0.0, True), None)

    def _report(self, event: ExecutorEvent, value: Any) -> None:
        self._reports.append((event, value))
        if not self._awake:  # append, then look: the loop clears the flag, then drains
            self._awake = True
            self._call_loop(self._drain)

    def _call_loop(self, function: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # the loop is closed: nobody listens any more

    def _drain(self) -> None:
        self._awake = False
        reports = self._reports
        owed = self._owed
        batch: list[Report] = []
        while reports:
            report = reports.popleft()
            event = report[0]
            # An exception thrown into a thread right after its report would make it report again.
            if type(event) is not ExecuteLongRunning:
                if event.run_id not in owed:
                    continue
                owed.discard(event.run_id)
            batch.append(report)
        if batch and not self._closed:
            self._on_reports(batch)


@functools.lru_cache(maxsize=256)
def type_name(kind: type) -> str:
    """``int``, ``numpy.ndarray``."""
    module = kind.__module__
    name = kind.__qualname__
    return name if module == "builtins" else f"{module.partition('.')[0]}.{name}" if module else name


def is_coroutine_function(function: Any) -> bool:
    """Whether calling ``function`` gives a coroutine, also through ``functools.partial`` and ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    call = None if inspect.isroutine(function) or isinstance(function, type) else vars(type(function)).get("__call__")
    return call is not None and inspect.iscoroutinefunction(call)


def _ignore_loss(file: SpillFile, reason: str) -> None:
    pass


def _described(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _exited(error: BaseException, text: str, code: object) -> TaskExited:
    exited = TaskExited(text, code)
    exited.__cause__ = error
    exited.__traceback__ = error.__traceback__
    return exited


def _without_own_frames(traceback: Any) -> Any:
    own = __file__
    tb = traceback
    while tb is not None and tb.tb_frame.f_code.co_filename == own:
        tb = tb.tb_next
    return traceback if tb is None else tb
