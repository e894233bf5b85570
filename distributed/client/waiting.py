"""Waiting for many futures: ``wait`` for all or the first, ``as_completed`` for each as it comes. Shell."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED
from typing import Any, NamedTuple

from distributed.base.errors import FuturesCancelledError
from distributed.client.future_table import FutureState
from distributed.client.futures import Future, cancelled_error, futures_of, one_client, raise_again
from distributed.client.gathering import Gatherer
from distributed.client.parking import holds_slot, wait_async, wait_here, wait_patiently
from distributed.client.timeouts import deadline_of, remaining, seconds, timeout_text


class DoneAndNotDoneFutures(NamedTuple):
    """What ``wait`` returns: two sets of futures."""

    done: set[Future]
    not_done: set[Future]


class BadReturnWhen(NotImplementedError, ValueError):
    """``return_when=`` is neither of the two values."""


def wait(fs: Any, timeout: float | str | None = None, return_when: str = ALL_COMPLETED) -> Any:
    """Wait until all of these futures are done, or the first.

    Parameters
    ----------
    fs : Future, or nested collection of futures, or persisted dask collection
    timeout : float or str, optional
        Seconds, or text such as ``"10s"``. Default: no limit.
    return_when : str
        ``"ALL_COMPLETED"`` or ``"FIRST_COMPLETED"``.

    Returns
    -------
    DoneAndNotDoneFutures
        Two sets, ``done`` and ``not_done``. In an asynchronous client: an awaitable of it.

    Raises
    ------
    TimeoutError
        They are not done in time.
    CancelledError
        One of them was cancelled.

    Examples
    --------
    >>> done, not_done = wait(client.map(abs, range(3)))  # doctest: +SKIP
    """
    if timeout is not None and callable(timeout):
        raise TypeError("timeout= must be a number; wait takes one collection of futures, not several arguments")
    limit = seconds(timeout)
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED):
        raise BadReturnWhen(f"return_when= must be 'ALL_COMPLETED' or 'FIRST_COMPLETED', not {return_when!r}")
    futures = futures_of(fs)
    client = one_client(futures)
    if client.asynchronous:
        return _wait_async(client, futures, limit, return_when)
    states = [future._bound() for future in futures]
    if not wait_here(client.session.table, states, limit, first=return_when == FIRST_COMPLETED):
        raise TimeoutError(timeout_text(limit))
    return _sorted_out(futures)


async def _wait_async(
    client: Any, futures: list[Future], limit: float | None, return_when: str
) -> DoneAndNotDoneFutures:
    states = [future._bound() for future in futures]
    if not await wait_async(client.session.table, states, limit, first=return_when == FIRST_COMPLETED):
        raise TimeoutError(timeout_text(limit))
    return _sorted_out(futures)


def _sorted_out(futures: Iterable[Future]) -> DoneAndNotDoneFutures:
    done: set[Future] = set()
    not_done: set[Future] = set()
    cancelled: list[FutureState] = []
    for future in futures:
        state = future._bound()
        (done if state.done else not_done).add(future)
        if state.status == "cancelled":
            cancelled.append(state)
    if cancelled:
        raise FuturesCancelledError([cancelled_error(state) for state in cancelled])
    return DoneAndNotDoneFutures(done, not_done)


class as_completed:
    """Iterate over futures in the order in which they are done. More can be added while iterating.

    Parameters
    ----------
    futures : collection of Future, optional
    loop : optional
        Accepted for compatibility.
    with_results : bool
        Yield ``(future, result)`` pairs.
    raise_errors : bool
        With ``with_results``: whether the exception of a failed task is raised; else its pair holds the triple
        ``(type, exception, traceback)`` as the result.
    timeout : float or str, keyword only
        Seconds from now after which iterating raises ``TimeoutError``. Default: no limit.

    Examples
    --------
    >>> for future in as_completed(client.map(abs, range(3))):  # doctest: +SKIP
    ...     print(future.result())

    In coroutines: ``async for future in as_completed(futures): ...``
    """

    def __init__(
        self,
        futures: Iterable[Future] | None = None,
        loop: Any = None,
        with_results: bool = False,
        raise_errors: bool = True,
        *,
        timeout: float | str | None = None,
    ) -> None:
        if futures is None:
            futures = []
        self.futures: defaultdict[Future, int] = defaultdict(int)
        self.queue: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.thread_condition = threading.Condition(self.lock)
        self.loop = loop
        self.with_results = with_results
        self.raise_errors = raise_errors
        self._limit = seconds(timeout)
        self._deadline = deadline_of(self._limit)
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._client: Any = None
        if isinstance(futures, Future):
            futures = [futures]
        self.update(futures)

    @property
    def condition(self) -> threading.Condition:
        """Notified when a future is done."""
        return self.thread_condition

    # -- filling -------------------------------------------------------------------------------------------------------

    def add(self, future: Future) -> None:
        """One more future; may be one that was yielded before."""
        self.update([future])

    def update(self, futures: Iterable[Any]) -> None:
        """More futures. Nested lists (as ``batches`` yields) and pairs of ``with_results`` are not looked into."""
        added: list[Future] = []
        for future in futures:
            if not isinstance(future, Future):
                raise TypeError(f"as_completed takes futures, not {future!r}")
            added.append(future)
        for future in added:
            state = future._bound()
            if self._client is None:
                self._client = future._client
                if self.loop is None:
                    self.loop = future._client.loop
            with self.lock:
                self.futures[future] += 1

            def on_done(_state: FutureState, future: Future = future) -> None:
                self._on_done(future)

            if not future._client.session.table.on_done(state, on_done):
                self._on_done(future)

    def _on_done(self, future: Future) -> None:
        with self.lock:
            count = self.futures.get(future, 0)
            if count <= 0:
                return  # cleared meanwhile
            if count == 1:
                del self.futures[future]
            else:
                self.futures[future] = count - 1
            self.queue.put(future)
            self._notify()

    def _notify(self) -> None:
        self.thread_condition.notify_all()
        sleepers, self._sleepers = self._sleepers, []
        for loop, sleeper in sleepers:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_set, sleeper)

    def clear(self) -> None:
        """Forget all futures, done or not."""
        with self.lock:
            self.futures.clear()
            with contextlib.suppress(queue.Empty):
                while True:
                    self.queue.get_nowait()
            self._notify()

    # -- looking -------------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """How many futures are still to be yielded."""
        with self.lock:
            return len(self.futures) + self.queue.qsize()

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True

    def has_ready(self) -> bool:
        """Whether the next one is there already."""
        return not self.queue.empty()

    def is_empty(self) -> bool:
        """Whether nothing is left to yield."""
        return not self.count()

    def __repr__(self) -> str:
        return f"<as_completed: waiting={len(self.futures)} done={self.queue.qsize()}>"

    # -- taking, in plain code -----------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        future = self._take_or_wait()
        return self._with_results([future])[0]

    def next(self) -> Any:
        """The next one that is done; waits for it."""
        return self.__next__()

    def _take_or_wait(self) -> Future:
        if self.queue.empty() and self.futures and holds_slot():
            self._wait_outside_slot()
        try:
            return self.queue.get_nowait()
        except queue.Empty:
            pass
        with self.lock:
            while True:
                with contextlib.suppress(queue.Empty):
                    return self.queue.get_nowait()
                if not self.futures:
                    raise StopIteration
                left = remaining(self._deadline)
                if left is not None and left <= 0:
                    raise TimeoutError(timeout_text(self._limit))
                self.thread_condition.wait(left)

    def _wait_outside_slot(self) -> None:
        """In a task: wait as ``wait`` does, which leaves the slot."""
        with self.lock:
            states = [future._bound() for future in self.futures]
        if states:
            wait_here(self._client.session.table, states, remaining(self._deadline), first=True)

    def _ready(self) -> list[Future]:
        ready = []
        with self.lock, contextlib.suppress(queue.Empty):
            while True:
                ready.append(self.queue.get_nowait())
        return ready

    def next_batch(self, block: bool = True) -> list[Any]:
        """All that are done and not yet yielded.

        Parameters
        ----------
        block : bool
            Whether to wait for the first one when there is none.
        """
        batch = [self._take_or_wait()] if block else []
        return self._with_results(batch + self._ready())

    def batches(self) -> _Batches:
        """Iterate over lists of all that are done at each moment. Works with ``for`` and ``async for``."""
        return _Batches(self)

    def _with_results(self, futures: list[Future]) -> list[Any]:
        if not self.with_results:
            return list(futures)
        gatherer: Gatherer = self._client.gatherer
        payloads, absent = gatherer.at_hand([future._bound() for future in futures])
        if absent:
            payloads |= self._client.sync(gatherer.fetch, absent, None, asynchronous=False)
        return [(future, self._result(gatherer, future, payloads)) for future in futures]

    def _result(self, gatherer: Gatherer, future: Future, payloads: Any) -> Any:
        state = future._bound()
        if state.status == "error":
            error, traceback = gatherer.error_of(state)
            assert error is not None
            if self.raise_errors:
                raise_again(error, traceback)
            return (type(error), error, traceback)
        if state.status == "cancelled":
            cancelled = cancelled_error(state)
            if self.raise_errors:
                raise cancelled
            return cancelled
        try:
            return gatherer._value(state, payloads)
        except Exception as e:
            if self.raise_errors:
                raise
            return (type(e), e, e.__traceback__)

    # -- taking, in coroutines -----------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        future = await self._take_or_wait_async()
        return (await self._with_results_async([future]))[0]

    async def _take_or_wait_async(self) -> Future:
        loop = asyncio.get_running_loop()
        while True:
            with self.lock:
                with contextlib.suppress(queue.Empty):
                    return self.queue.get_nowait()
                if not self.futures:
                    raise StopAsyncIteration
                sleeper: asyncio.Future[None] = loop.create_future()
                self._sleepers.append((loop, sleeper))

            async def wait(timeout: float | None, sleeper: asyncio.Future[None] = sleeper) -> bool:
                done, _ = await asyncio.wait([sleeper], timeout=timeout)
                return bool(done)

            if not await wait_patiently(wait, remaining(self._deadline)):
                sleeper.cancel()
                raise TimeoutError(timeout_text(self._limit))

    async def _with_results_async(self, futures: list[Future]) -> list[Any]:
        if not self.with_results:
            return list(futures)
        gatherer: Gatherer = self._client.gatherer
        payloads, absent = gatherer.at_hand([future._bound() for future in futures])
        if absent:
            payloads |= await gatherer._on_client_loop(gatherer.fetch(absent, None))
        return [(future, self._result(gatherer, future, payloads)) for future in futures]


class _Batches:
    """What ``as_completed.batches()`` returns."""

    def __init__(self, source: as_completed) -> None:
        self._source = source

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> list[Any]:
        return self._source.next_batch(block=True)

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> list[Any]:
        first = await self._source._take_or_wait_async()
        return await self._source._with_results_async([first, *self._source._ready()])


def _set(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
