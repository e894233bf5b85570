"""Runs tasks: one long-lived thread per slot that drains a shared queue and reports in batches. Shell.

What it owes to the state machine: exactly one terminal event (``ExecuteSuccess``, ``ExecuteFailure``,
``ExecuteRescheduled``, ``ExecuteSkipped``) for each ``Execute``, whatever the task does short of killing the process
(``reports.py``). No future, coroutine or lock per task: a queued run sits in one dict and whoever pops it, a thread
that starts it or the loop that takes it back, owns it. So does one that waits for another (``lined_up.py``): the thread
that has made the value goes on with it at once, if nothing else is queued.

Coroutines run on the worker's loop and tasks for a named executor run there (``off_thread.py``): the slot goes with
them, the slot's thread does not. Tasks leave their slot, lend it and get one back by ``slot_exchange.py``. Must not
decide what runs next (the state machine's order is kept) nor keep results (``effects.py`` does).
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
from collections.abc import Callable, Mapping
from typing import Any

from distributed.base.errors import TaskCancelled
from distributed.base.keys import Key
from distributed.messages.payload import FunctionBlob, size_of
from distributed.worker import lined_up, outcomes
from distributed.worker.data_store import DataStore
from distributed.worker.executing_page import Cells, ExecutingPage
from distributed.worker.interrupting import interrupt, take_back
from distributed.worker.isolated import run_isolated
from distributed.worker.job import InputLost, Job
from distributed.worker.off_thread import OffThread, Onward
from distributed.worker.profiling import sampler
from distributed.worker.reports import ExecutorEvent, Report, Reports
from distributed.worker.runtime import RunningTask, current_task, current_worker, mirror_to_dask
from distributed.worker.slot_exchange import SlotExchange
from distributed.worker.slot_loans import Rejoin
from distributed.worker.spill_file import SpillFile
from distributed.worker.state_machine.events import ExecuteSkipped, ExecuteSuccess
from distributed.worker.state_machine.instructions import Execute
from distributed.worker.task_opener import TaskOpener

logger = logging.getLogger("distributed.worker")

_Item = int | Rejoin | None
"""In the queue: a run, a task that waits for a slot, or the end."""
_MOST_ON_LOOP = 10_000
"""Bytes of arguments that are unpickled on the loop."""


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
        self.cells = Cells(page)
        self.max_error_length = max_error_length
        self.threads: set[threading.Thread] = set()
        self.running: dict[int, RunningTask] = {}
        """By the ident of the thread."""
        self.on_lost: Callable[[SpillFile, str], None] = _ignore_loss
        """Told, on the loop, of an input whose file cannot be read; the run that needed it ends as not begun."""
        self._on_reports = on_reports
        self._reports = Reports(loop, self._on_end, self._on_batch)
        self.report = self._reports.add
        self.call_loop = self._reports.call_loop
        self._opener = TaskOpener(store, worker)
        self._off_thread = OffThread(self)
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._jobs: dict[int, Job] = {}
        # Runs that are to end, by run id: whoever has begun one meanwhile finds it here.
        self._to_stop: dict[int, str] = {}
        self.closed = False
        self._slots = 0
        self._exchange = SlotExchange(self)
        self._thread_count = 0
        # Runs that have a future or a process to be ended by.
        self.held: dict[int, Job] = {}

    # -- called on the loop

    def define(self, blob: FunctionBlob) -> None:
        """Know a function from now on; it is unpickled by the first task that needs it."""
        self._opener.define(blob)

    def forget_functions(self) -> None:
        """Unpickle every function anew when it is next needed (its module has been replaced)."""
        self._opener.forget_functions()

    def submit(self, execute: Execute) -> None:
        """Queue a run behind those that are queued already, or have it wait for the one that it is to come after."""
        if not sampler.awake:
            sampler.wake()
        job = self._reports.owed[execute.run_id] = Job(execute)
        try:
            if execute.after >= 0:
                lined_up.line_up(job, self._reports.owed[execute.after], self.store)
                return  # the end of the run before comes by _on_end, if its thread does not find this one
            if execute.dependencies:
                job.inputs = self.store.hold_all(execute.dependencies)
        except Exception as error:
            self.report(outcomes.failure(execute, error, 0.0, 0.0, True, self.max_error_length), None)
            return
        if self._slots < self.nthreads and self._opener.is_coroutine(execute.function) and self._fits_loop(job):
            self._start_on_loop(job)
            return
        self._enqueue(job)
        if self._slots < self.nthreads:
            self._start_slot()

    def cancel(self, run_id: int) -> None:
        """Take the run back; one that has begun goes on."""
        job = self._reports.owed.get(run_id)
        if job is not None and (self._jobs.pop(run_id, None) is not None or lined_up.take_back(job)):
            self.report(ExecuteSkipped(run_id), None)

    def stop(self, run_id: int, reason: str, again: bool) -> None:
        """Have a run end that has begun: its coroutine is cancelled, its process killed, its task told; ``again``: an
        exception is thrown into its thread. Nothing when it has ended."""
        if run_id not in self._reports.owed:
            return
        reason = self._to_stop.setdefault(run_id, reason)  # noted, then looked: see _begin
        job = self.held.get(run_id)
        if job is not None:
            job.end()
        for task in self.begun():
            if task.run_id == run_id:
                task.reason = reason
                task.stopping = True
                if again:
                    interrupt(task)

    @property
    def queued(self) -> int:
        """Runs that lack nothing but a slot."""
        return len(self._jobs)

    def begun(self) -> list[RunningTask]:
        """The tasks that run, wherever."""
        return [*self.running.copy().values(), *self._off_thread.tasks.copy().values()]

    def executing_keys(self) -> dict[int, Key]:
        """Key by ident of the thread that runs it."""
        return {ident: task.key for ident, task in self.running.copy().items()}

    def unreported(self) -> list[Key]:
        """Keys of runs that have ended just now."""
        return self._reports.ended()

    def opening(self, key: Key) -> str:
        """What the running task ``key`` has unpickled for it right now; empty when nothing, or it does not run."""
        return next((task.opening for task in self.begun() if task.key == key), "")

    def waits_for(self, key: Key) -> str:
        """What the running task ``key`` is blocked by, as far as it has said; else empty."""
        return next((task.waits_for for task in self.begun() if task.key == key), "")

    async def close(self, timeout: float | None = None) -> None:
        """End the slots; a task that still runs after ``timeout`` seconds is left behind in its (daemon) thread."""
        if self.closed:
            return
        self.closed = True
        self._jobs.clear()
        for job in list(self.held.values()):
            job.end()
        for _ in range(self._slots):
            self._queue.put(None)
        deadline = time.monotonic() + (2.0 if timeout is None else timeout)
        delay = 0.0005
        while any(thread.is_alive() for thread in list(self.threads)) and time.monotonic() < deadline:
            await asyncio.sleep(delay)
            delay = min(delay * 2, 0.02)
        for executor in self.executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
        self._opener.clear()

    # -- slots

    def _start_slot(self, first: _Item = None) -> None:
        self._slots += 1
        self._thread_count += 1
        name = f"Dask-Default-Threads-{os.getpid()}-{self._thread_count}"
        thread = threading.Thread(target=self._run_slot, args=(first,), name=name, daemon=True)
        self.threads.add(thread)
        thread.start()

    def take_slot(self) -> bool:
        """Whether there was a free slot, which is taken now."""
        if self._slots >= self.nthreads:
            return False
        self._slots += 1
        return True

    def line_up(self, request: Rejoin) -> None:
        """Behind the runs that are queued. Whichever slot thread takes the request ends."""
        self._queue.put(request)

    def free_slot(self) -> None:
        """A slot is left by what was in it: for a run, or a task that waits for its slot."""
        self._slots -= 1
        while not self.closed and self._slots < self.nthreads:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return
            if type(item) is not int:
                self._start_slot(item)
                return
            job = self._jobs.get(item)
            if job is None:
                continue  # taken back
            if self._opener.is_coroutine(job.execute.function) and self._fits_loop(job):
                del self._jobs[item]
                self._start_on_loop(job)
            else:
                self._start_slot(item)
            return

    def _fits_loop(self, job: Job) -> bool:
        """Whether a coroutine function can be called on the loop: what is large is unpickled in a thread."""
        execute = job.execute
        return execute.rules is None and not job.inputs and size_of(execute.payload) <= _MOST_ON_LOOP

    def _start_on_loop(self, job: Job) -> None:
        self._slots += 1
        task = self._begin(job, 0)
        cell = self.cells.take(task.run_id)
        token = current_task.set(task)
        started = time.time()
        try:
            function, args, kwargs = self._opener.open_call(job, task)
            self._off_thread.follow(job, task, function(*args, **kwargs), started, cell)
        except BaseException as error:  # SystemExit must not reach the loop
            self.cells.give_back(cell)
            self.report(outcomes.failed(job.execute, task, error, started, self.max_error_length), None)
            self.loop.call_soon(self.free_slot)
        finally:
            current_task.reset(token)

    def _run_slot(self, first: _Item) -> None:
        """What a slot thread does all its life. No exception ends it."""
        current_worker.set(self.worker)
        cell = self.cells.take()
        try:
            while True:
                try:
                    item, first = (self._queue.get() if first is None else first), None
                    if not self._run_next(item, cell):
                        return
                except BaseException as error:  # thrown into the thread from outside, between two tasks
                    logger.error("A slot thread was interrupted", exc_info=error)
                    # What it was about to take may be lost from the queue; whoever meets a run twice skips it.
                    for run_id in list(self._jobs):
                        self._queue.put(run_id)
                    if self.closed:
                        return
        finally:
            self.cells.give_back(cell)
            self.threads.discard(threading.current_thread())

    def _run_next(self, item: _Item, cell: int) -> bool:
        """Run what was taken from the queue; whether this thread still has a slot."""
        if item is None:
            return False
        if type(item) is Rejoin:
            return not self._exchange.claim(item)
        job = self._jobs.pop(item, None)  # type: ignore[arg-type]
        while job is not None:  # else it was taken back
            if not self._run_in_slot(job, cell):
                return False
            job = self._first_behind(job)
        return True

    def _run_in_slot(self, job: Job, cell: int) -> bool:
        """Run one task; whether this thread still has a slot."""
        ident = threading.get_ident()
        task = self._begin(job, ident)
        if cell >= 0:
            self.cells.runs[cell] = task.run_id + 1
        self.running[ident] = task
        handed_on = False
        try:
            if self._to_stop and task.run_id in self._to_stop:  # it was told to end before it was to be seen
                task.stopping = True
            handed_on = self._run(job, task)
        except BaseException as error:
            self._fail_anyhow(job, error)
        finally:
            self.running.pop(ident, None)
            if cell >= 0:
                self.cells.runs[cell] = 0
        return task.in_slot and not handed_on

    def _first_behind(self, before: Job) -> Job | None:
        """The first of the runs behind one that has returned, to be begun at once when no other is queued; the rest
        join the queue."""
        if not before.followers or not before.returned or self.closed:
            return None
        first = None
        for job in lined_up.claim(before):
            if first is None and self._queue.empty():
                first = job
            else:
                self._enqueue(job)
        return first

    def _enqueue(self, job: Job) -> None:
        run_id = job.execute.run_id
        self._jobs[run_id] = job
        self._queue.put(run_id)

    def _begin(self, job: Job, ident: int) -> RunningTask:
        execute = job.execute
        task = RunningTask(execute.key, execute.run_id, time.monotonic(), self.worker, self._exchange, execute.actor)
        task.in_slot = True
        task.thread = ident
        job.task = task
        return task

    def _run(self, job: Job, task: RunningTask) -> bool:
        """Run one task and report its end, or have it go on elsewhere, with its slot: then True."""
        execute = job.execute
        token = current_task.set(task)
        started = time.time()
        report: Report | None = None
        onward: Onward | None = None
        task.open = True
        try:
            try:
                value = self._call(job, task)
                job.inputs = []
                if type(value) is Onward:
                    onward = value
                else:
                    report = (outcomes.success(execute, task, value, started, self.is_inproc), value)
            except InputLost as lost:
                self.call_loop(functools.partial(self._lose, lost, execute.run_id))
            except BaseException as error:
                report = (outcomes.failed(execute, task, error, started, self.max_error_length), None)
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
        if onward is not None:
            report = self._off_thread.start(job, task, onward, started)
        if report is None:
            return onward is not None
        self.report(*report)
        if job.followers:
            job.value, job.returned = report[1], type(report[0]) is ExecuteSuccess
        return False

    def _call(self, job: Job, task: RunningTask) -> Any:
        """Open what the task consists of, and run it; or tell where it goes on."""
        execute = job.execute
        if execute.alias:
            return self._opener.open_input(job, 0)
        if execute.function:
            function, args, kwargs = self._opener.open_call(job, task)
            is_coroutine = self._opener.is_coroutine(execute.function)
        else:
            function, values = self._opener.open_graph_node(job, task)
            if not callable(function):
                return function
            args, kwargs, is_coroutine = (values,), {}, False
        mirror_to_dask(task)
        rules = execute.rules
        if rules is not None and rules.isolated:
            return run_isolated(job, self.hold, function, args, kwargs)
        if not is_coroutine and (execute.executor is not None or "default" in self.executors):
            pool = self._pool(execute.executor or "default")
            if pool is not None:
                return Onward(pool, function, args, kwargs)
        value = function(*args, **kwargs)
        if (is_coroutine or not execute.function) and inspect.iscoroutine(value):
            return Onward(None, value, (), {})
        return value

    def _pool(self, name: str) -> concurrent.futures.Executor | None:
        pool = self.executors.get(name)
        if pool is None and name != "default":
            known = sorted({"default", *self.executors})
            raise ValueError(f"executor={name!r} is not known; there are {known}")
        return pool

    # -- runs that can be ended from outside

    def hold(self, job: Job) -> None:
        """The job has a future or a process by which it can be ended. Any thread."""
        run_id = job.execute.run_id
        self.held[run_id] = job
        if run_id in self._to_stop:
            job.end()

    # -- ends

    def _lose(self, lost: InputLost, run_id: int) -> None:
        if not self.closed:
            self.on_lost(lost.file, str(lost.error))
        self.report(ExecuteSkipped(run_id), None)

    def _fail_anyhow(self, job: Job, error: BaseException) -> None:
        logger.error("task %r ended in an unforeseen way", job.execute.key, exc_info=error)
        self.report(outcomes.failure(job.execute, error, 0.0, 0.0, True, self.max_error_length), None)

    def _on_end(self, job: Job, event: ExecutorEvent, value: Any) -> None:
        """A run has ended, as the loop hears."""
        if self._to_stop:
            self._to_stop.pop(event.run_id, None)
        if self.held:
            self.held.pop(event.run_id, None)
        if job.followers is None or self.closed:
            return
        job.value, job.returned = value, type(event) is ExecuteSuccess
        for follower in lined_up.claim(job):  # those that its thread has not taken
            if job.returned:
                self._enqueue(follower)
            else:
                self.report(ExecuteSkipped(follower.execute.run_id), None)
        for _ in range(min(len(self._jobs), self.nthreads - self._slots)):
            self._start_slot()

    def _on_batch(self, batch: list[Report]) -> None:
        if not self.closed:
            self._on_reports(batch)


def _ignore_loss(file: SpillFile, reason: str) -> None:
    pass
