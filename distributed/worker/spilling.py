"""Writes values to disk in a thread of its own, one after another, and tells how each ended. Shell.

What is written, and what lets go of memory, is decided by the state machine. The value stays in the store until its
file is complete; so nothing is lost when the disk takes no more, or the value cannot be pickled.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import logging
import os
import queue
import shutil
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from distributed.base import settings
from distributed.base.formatting import format_bytes
from distributed.base.keys import Key, user_key
from distributed.base.log_limit import LogLimit
from distributed.messages.payload import Payload
from distributed.protocol import compression, serialize
from distributed.worker import spill_file
from distributed.worker.data_store import DataStore, Sealed
from distributed.worker.state_machine.events import SpillEnded

logger = logging.getLogger("distributed.worker")


class _Order(NamedTuple):
    key: Key
    number: int
    value: Any


class Spiller:
    """The way of one worker's values to disk.

    Parameters
    ----------
    directory :
        For the files; made when first needed, for this user only.
    on_ended :
        Gets what has ended, on the loop.
    """

    def __init__(
        self,
        store: DataStore,
        directory: str,
        loop: asyncio.AbstractEventLoop,
        on_ended: Callable[[list[SpillEnded]], None],
    ) -> None:
        self.store = store
        self.directory = directory
        self.written_nbytes = 0
        self._loop = loop
        self._on_ended = on_ended
        self._names = itertools.count()
        self._queue: queue.SimpleQueue[_Order | str | None] = queue.SimpleQueue()
        self._done: deque[tuple[_Order, spill_file.SpillFile | None, SpillEnded | None]] = deque()
        self._awake = False
        self._thread: threading.Thread | None = None
        self._lines = LogLimit(logger)

    def spill(self, keys: list[Key], number: int) -> None:
        """Write the values of these keys; there will be one ``SpillEnded`` for each."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"Dask-Spill-{os.getpid()}", daemon=True)
            self._thread.start()
        for key in keys:
            self._queue.put(_Order(key, number, self.store.hold(key)))

    def close(self) -> None:
        """Write no more."""
        self._on_ended = _ignore
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(2.0)  # of one value at most; the directory is removed after this

    # -- in the thread

    @functools.cached_property
    def _compression(self) -> str | None:
        return compression.choose(settings.get("distributed.worker.memory.spill-compression", "auto"))

    def _run(self) -> None:
        closed = False
        while True:
            order = self._queue.get()
            if order is None:
                return
            if type(order) is str:
                _unlink(order)
                continue
            assert isinstance(order, _Order)
            closed = closed or self._on_ended is _ignore
            if not closed:
                self._done.append((order, *self._write(order)))
            del order
            if not self._awake:
                self._awake = True
                try:
                    self._loop.call_soon_threadsafe(self._tell)
                except RuntimeError:
                    return  # the loop is closed

    def _write(self, order: _Order) -> tuple[spill_file.SpillFile | None, SpillEnded | None]:
        key, number, value = order
        try:
            payload, producer = _packed(value)
        except BaseException as error:
            kind = type(value)
            self._lines.warn(
                f"{kind.__module__}.{kind.__qualname__}",
                "The value of %r cannot go to disk and stays in memory: %s",
                user_key(key),
                error,
            )
            return None, SpillEnded(key, number, error=f"{type(error).__name__}: {error}", lasting=True)
        path = os.path.join(self.directory, str(next(self._names)))
        try:
            if not os.path.isdir(self.directory):
                os.makedirs(self.directory, 0o700, exist_ok=True)
            return spill_file.write(key, payload, path, self._compression, producer, self._queue.put), None
        except OSError as error:
            text = self._told(error, payload.nbytes)
            self._lines.warn(f"errno {error.errno}", "%s; values stay in memory meanwhile", text)
            return None, SpillEnded(key, number, error=text)

    def _told(self, error: OSError, nbytes: int) -> str:
        try:
            free = f"{format_bytes(shutil.disk_usage(os.path.dirname(self.directory)).free)} are free"
        except OSError:
            free = "the directory is gone"
        reason = os.strerror(error.errno or errno.EIO)
        return f"{format_bytes(nbytes)} cannot be written to {self.directory}: {reason} ({free})"

    # -- on the loop

    def _tell(self) -> None:
        self._awake = False
        events = []
        while self._done:
            order, file, event = self._done.popleft()
            if file is not None:
                if self.store.replace_by_file(order.value, file):
                    self.written_nbytes += file.nbytes
                    event = SpillEnded(order.key, order.number, file.nbytes)
                else:
                    event = SpillEnded(order.key, order.number, error="another value has come")
            assert event is not None
            events.append(event)
        self._on_ended(events)


def _packed(value: Any) -> tuple[Payload, str]:
    if type(value) is Sealed:
        return value.payload, value.producer
    return serialize.dumps(value, "value"), ""


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # with its directory


def _ignore(events: list[SpillEnded]) -> None:
    pass
