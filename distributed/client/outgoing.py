"""What a client has still to send, in order: filled by any thread, made into batches of messages on the loop.

Single submissions that follow each other become one message, functions go once a session, and submitting threads wait
while too much is queued. Knows no connection.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import (
    SessionRequest,
    TaskOptions,
    TaskSpec,
    UpdateGraph,
    shared_dependencies,
)
from distributed.messages.payload import FunctionBlob

MAX_FEW = 8
"""So many requests may be sent by the thread that asks."""
MAX_QUEUED_TASKS = 20_000
"""Submitting threads wait while more tasks than this have not left the client."""


class Submission:
    """What the parts of one large submission share."""

    __slots__ = ("fifo_timeout_s", "number", "options", "parent", "rank")

    def __init__(self, options: list[TaskOptions], fifo_timeout_s: float, parent: Key | None) -> None:
        self.options = options
        self.fifo_timeout_s = fifo_timeout_s
        self.parent = parent
        self.number = -1
        self.rank = 0


class Part:
    """Some tasks of a :class:`Submission`, with about ``nbytes`` of arguments."""

    __slots__ = ("blobs", "last", "nbytes", "submission", "tasks", "wanted")

    def __init__(
        self,
        submission: Submission,
        tasks: list[TaskSpec],
        blobs: tuple[FunctionBlob, ...],
        last: bool,
        wanted: list[Key] | None = None,
        nbytes: int = 0,
    ) -> None:
        self.submission = submission
        self.tasks = tasks
        self.blobs = blobs
        self.last = last
        self.wanted = wanted
        self.nbytes = nbytes


class _Late:
    """A place in the queue for messages that are made when it is their turn."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], list[Struct]]) -> None:
        self.make = make


class Place:
    """A place in the queue that is kept for what a thread still prepares; what comes behind it waits."""

    __slots__ = ("complete", "dead", "items")

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.complete = False
        self.dead = False  # forgotten: what still comes is lost


class Outgoing:
    """The queue of one client. ``add``, ``submit`` and ``submit_part`` are for any thread, ``take`` for the loop's."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._enqueued = 0  # written with the table's lock held
        self._sent = 0  # written on the loop
        self._room = threading.Condition()
        self._crowd = 0
        self._functions: set[bytes] = set()
        self._numbers = itertools.count()
        self._here = threading.local()
        self.epoch = 0
        """How often the queue was forgotten: what was begun in an earlier epoch must not go on."""

    def __bool__(self) -> bool:
        """Whether there is something to take now."""
        items = self._items
        if not items:
            return False
        first = items[0]
        return type(first) is not Place or first.complete or bool(first.items)

    def few_requests(self) -> list[Struct] | None:
        """What waits, if it is little, and nothing but requests."""
        if len(self._items) > MAX_FEW:
            return None
        items = list(self._items)
        return items if all(type(item) is SessionRequest for item in items) else None

    def drop_first(self, n: int) -> None:
        """The first ``n`` messages have been sent."""
        for _ in range(n):
            self._items.popleft()

    # -- places --------------------------------------------------------------------------------------------------------

    def reserve(self) -> Place:
        """A place at the end of the queue as it is now."""
        place = Place()
        self._items.append(place)
        return place

    @contextmanager
    def at(self, place: Place | None) -> Iterator[None]:
        """What this thread queues inside the block goes to ``place``; None: to where it goes anyway."""
        before = getattr(self._here, "place", None)
        self._here.place = before if place is None else place
        try:
            yield
        finally:
            self._here.place = before

    def complete(self, place: Place) -> None:
        """Nothing more comes at ``place``."""
        place.complete = True

    def _append(self, item: Any, n_tasks: int = 0) -> None:
        place = getattr(self._here, "place", None)
        if place is None:
            self._items.append(item)
        elif not place.dead:
            place.items.append(item)
        else:
            return
        self._enqueued += n_tasks

    # -- filling -------------------------------------------------------------------------------------------------------

    def add(self, message: Struct) -> None:
        """Queue a message."""
        self._append(message)

    def add_late(self, make: Callable[[], list[Struct]]) -> None:
        """Queue what ``make`` returns when it is its turn, on the loop."""
        self._append(_Late(make))

    def submit(
        self, spec: TaskSpec, options: TaskOptions | None, blob: FunctionBlob, fifo: float, parent: Any, nbytes: int
    ) -> None:
        """Queue one task with ``nbytes`` of arguments. Call with the table's lock held."""
        self._append((spec, options, blob, fifo, parent, nbytes), 1)

    def submit_part(self, part: Part) -> None:
        """Queue many tasks. Call with the table's lock held."""
        self._append(part, len(part.tasks))

    @property
    def crowded(self) -> bool:
        """Whether too many tasks are queued."""
        return self._enqueued - self._sent >= MAX_QUEUED_TASKS

    def make_room(self, is_open: Callable[[], bool]) -> None:
        """Wait while too many tasks are queued and the client is open."""
        if not self.crowded:
            return
        with self._room:
            self._crowd += 1
            try:
                while self._enqueued - self._sent > MAX_QUEUED_TASKS // 2 and is_open():
                    self._room.wait(1.0)
            finally:
                self._crowd -= 1

    def forget(self) -> None:
        """Nothing of this will be sent, and the next scheduler knows none of our functions. Call with the table's lock
        held, then ``call_crowd``."""
        self.epoch += 1
        for item in self._items:
            if type(item) is Place:
                item.dead = True
                item.items.clear()
        self._items.clear()
        self._functions.clear()
        self._sent = self._enqueued

    def call_crowd(self) -> None:
        """Have the threads that wait for room look again."""
        if self._crowd:
            with self._room:
                self._room.notify_all()

    def take(self, n_tasks: int, nbytes: int) -> list[Struct]:
        """The messages of the next ``n_tasks`` tasks, or of fewer that have ``nbytes`` of arguments (or of a few more),
        and of what is queued between them."""
        items = self._items
        batch: list[Struct] = []
        single: UpdateGraph | None = None
        while items and n_tasks > 0 and nbytes > 0:
            item = items[0]
            kind = type(item)
            if kind is Place:
                complete = item.complete  # before looking: nothing is added afterwards
                if item.items:
                    item = item.items.popleft()
                    kind = type(item)
                elif complete:
                    items.popleft()
                    continue
                else:
                    break
            else:
                items.popleft()
            if kind is tuple:
                spec, options, blob, fifo, parent, size = item
                if single is None or single.fifo_timeout_s != fifo or single.submitting_task != parent:
                    single = UpdateGraph(
                        next(self._numbers), [], [], [], None, 0, fifo_timeout_s=fifo, submitting_task=parent
                    )
                    batch.append(single)
                if options is not None:
                    spec.options = _place(single.options, options)
                if blob.digest not in self._functions:
                    self._functions.add(blob.digest)
                    single.functions.append(blob)
                single.tasks.append(spec)
                n_tasks -= 1
                nbytes -= size
                self._sent += 1
                continue
            single = None
            if kind is Part:
                batch.append(self._update_graph(item))
                n_tasks -= len(item.tasks)
                nbytes -= item.nbytes
                self._sent += len(item.tasks)
            elif kind is _Late:
                batch += item.make()
            else:
                batch.append(item)
        self.call_crowd()
        return batch

    def _update_graph(self, part: Part) -> UpdateGraph:
        submission = part.submission
        if submission.number < 0:
            submission.number = next(self._numbers)
        new = [blob for blob in part.blobs if blob.digest not in self._functions]
        self._functions.update([blob.digest for blob in new])
        message = UpdateGraph(
            submission.number,
            part.tasks,
            new,
            submission.options,
            part.wanted,
            submission.rank,
            fifo_timeout_s=submission.fifo_timeout_s,
            submitting_task=submission.parent,
            last=part.last,
            shared=shared_dependencies(part.tasks),
        )
        submission.rank += len(part.tasks)
        return message


def _place(options: list[TaskOptions], wanted: TaskOptions) -> int:
    if not options:
        options.append(TaskOptions())
    if options[-1] is wanted:
        return len(options) - 1
    options.append(wanted)
    return len(options) - 1
