"""What a task can ask about itself: the worker that runs it, its key, a way out of its slot. Shell.

Knows which task runs in which thread or coroutine (a context variable), and mirrors it into
``dask.context.thread_state``, where other packages look, but only once somebody has loaded dask: plain tasks do not pay
for that import. Must not execute anything itself; that is ``executor.py``.
"""

from __future__ import annotations

import contextvars
import functools
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from distributed.base.keys import Key, user_key
from distributed.base.lazy import loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Secedable(Protocol):
    """What those who keep the slots offer to the tasks in them."""

    def secede(self, task: RunningTask) -> None: ...

    def rejoin(self, task: RunningTask) -> None: ...

    def lend_slot(self, task: RunningTask) -> bool: ...

    def take_slot_back(self, task: RunningTask) -> None: ...


class RunningTask:
    """The task that runs in the current thread or coroutine."""

    __slots__ = ("key", "run_id", "started", "worker", "slots", "actor", "seceded", "in_slot", "thread", "metadata",
                 "opening", "waits_for", "open", "stopping", "reason")  # fmt: skip

    def __init__(
        self, key: Key, run_id: int, started: float, worker: Any, slots: Secedable, actor: bool = False
    ) -> None:
        self.key = key
        self.run_id = run_id
        self.started = started  # monotonic
        self.worker = worker
        self.slots = slots
        self.actor = actor
        self.seceded = False
        self.in_slot = False
        self.thread = 0
        self.metadata: dict[str, Any] | None = None
        self.opening = ""  # what is being unpickled for it
        self.waits_for = ""  # what blocks it, in words
        self.open = False  # an exception may be thrown into its thread (see interrupting.py)
        self.stopping = False  # it is to end
        self.reason = ""

    def __repr__(self) -> str:
        return f"<RunningTask {self.key!r} run {self.run_id}>"


current_task: contextvars.ContextVar[RunningTask | None] = contextvars.ContextVar("current_task", default=None)
current_worker: contextvars.ContextVar[Any] = contextvars.ContextVar("current_worker", default=None)

# The worker of a process that was started to be one worker and nothing else; None in every other process.
_process_worker: list[Any] = []


def set_process_worker(worker: Any) -> None:
    """Say that this whole process belongs to ``worker``: threads that tasks start then find it too."""
    _process_worker[:] = [] if worker is None else [worker]


def get_worker() -> Any:
    """The worker that runs the calling task, or on which ``client.run`` runs the calling function.

    Raises
    ------
    ValueError
        Outside of a worker.

    Examples
    --------
    >>> client.submit(lambda: get_worker().address).result()  # doctest: +SKIP
    'tcp://127.0.0.1:34567'
    """
    task = current_task.get()
    if task is not None:
        return task.worker
    worker = current_worker.get()
    if worker is not None:
        return worker
    if _process_worker:
        return _process_worker[0]
    raise ValueError("No worker found: get_worker() works inside of tasks, and of functions sent with client.run")


def get_task_key() -> Any:
    """The key of the calling task as the user wrote it, or None outside of tasks."""
    task = current_task.get()
    return None if task is None else user_key(task.key)


def current_task_cancelled() -> bool:
    """Whether the calling task should end: its future was cancelled, or its ``timeout`` is over.

    A task that asks now and then can leave in order. One that does not is interrupted after
    ``distributed.worker.stop.grace``. False outside of tasks.

    Examples
    --------
    >>> def count():
    ...     n = 0
    ...     while not current_task_cancelled():
    ...         n += 1
    """
    task = current_task.get()
    return task is not None and task.stopping


def secede() -> None:
    """Leave the slot, so that another task may run while this one goes on (waiting for others, say).

    Raises
    ------
    ValueError
        Outside of a task.

    See Also
    --------
    rejoin : the way back.
    """
    task = current_task.get()
    if task is None:
        raise ValueError("secede() was called outside of a task")
    if not task.seceded:
        task.slots.secede(task)


def rejoin() -> None:
    """Wait for a free slot and take it again, after :func:`secede`. Does nothing in a task that never left."""
    task = current_task.get()
    if task is None:
        raise ValueError("rejoin() was called outside of a task")
    if task.seceded:
        task.slots.rejoin(task)


def lend_slot(waits_for: str = "") -> Callable[[], None] | None:
    """Before the calling task blocks: say what it waits for, and offer its slot to others.

    Returns
    -------
    What to call once the wait is over (it waits for a slot if this one was taken); None outside of tasks.
    """
    task = current_task.get()
    if task is None:
        return None
    task.waits_for = waits_for
    return functools.partial(_go_on, task, task.slots.lend_slot(task))


def _go_on(task: RunningTask, has_lent: bool) -> None:
    task.waits_for = ""
    if has_lent:
        task.slots.take_slot_back(task)


class reschedule_seceded:
    """Out of the slot inside the block, in it again behind."""

    def __enter__(self) -> None:
        secede()

    def __exit__(self, *exc: object) -> None:
        rejoin()


def mirror_to_dask(task: RunningTask) -> None:
    """Show ``task`` in ``dask.context.thread_state`` of this thread, if dask is loaded."""
    state = loaded("dask.context", "thread_state")
    if state is None:
        return
    state.key = user_key(task.key)
    state.start_time = time.time() - (time.monotonic() - task.started)
    state.actor = task.actor
    state.execution_state = {"activity": "execute", "key": state.key, "worker": task.worker.address}


def publish_thread_state() -> None:
    """To be called by whoever loads ``dask.context`` late, inside of a task."""
    task = current_task.get()
    if task is not None:
        mirror_to_dask(task)


def __getattr__(name: str) -> Any:
    if name == "thread_state":
        from dask.context import thread_state

        publish_thread_state()
        return thread_state
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def slot_threads(prefix: str) -> Iterator[threading.Thread]:
    """The living threads whose names start with ``prefix``."""
    return (thread for thread in threading.enumerate() if thread.name.startswith(prefix))
