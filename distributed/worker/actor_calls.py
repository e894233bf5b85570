"""Calls of the actors that live on a worker: methods run in one thread, coroutine functions on the loop. Shell.

All actors of a worker share the thread, so that no two methods run at once. It answers by itself, without the loop,
when no other call waits; else the answers leave together.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import inspect
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.base.handover import HANDOVER_S, noted_futures
from distributed.base.keys import as_key
from distributed.messages.actors import ActorAnswer, ActorCall, ActorClaimed
from distributed.protocol.serialize import dumps, live, loads, pack_error
from distributed.rpc.connection import Connection
from distributed.rpc.outbox import Outbox
from distributed.worker.remote_calls import until_claimed
from distributed.worker.runtime import current_worker

_MAX_ERROR_TEXT = 10_000


class ActorCalls:
    """The calls of one worker's actors."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, connection: Connection, messages: Sequence[ActorCall | ActorClaimed]) -> None:
        """Answer the calls that come over a connection from now on."""
        caller = _Caller(self, connection)
        connection.on_messages = caller.on_messages
        caller.on_messages(messages)

    async def run(self, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a method in the actors' thread."""
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def call() -> None:
            try:
                result = self.context().run(method, *args, **kwargs)
            except BaseException as e:
                answer.set_exception(e)
            else:
                answer.set_result(result)

        self.put(call)
        return await asyncio.wrap_future(answer)

    def find(self, key: Any) -> Any:
        """The actor. Raises ValueError when it is not here."""
        try:
            return self._worker.actors[as_key(key)]
        except KeyError:
            raise ValueError(f"there is no actor {key!r} on {self._worker.address}") from None

    def put(self, call: Callable[[], None]) -> None:
        """Have the actors' thread call ``call``, behind what it has to do already."""
        self._calls.put(call)
        if self._thread is None:
            self._thread = threading.Thread(
                target=_drain, args=(self._calls,), name="Dask-Actor-Threads_0", daemon=True
            )
            self._thread.start()

    def start(self, coroutine: Any) -> None:
        """Run a coroutine on the loop."""
        task = asyncio.get_running_loop().create_task(coroutine, context=self.context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def context(self) -> contextvars.Context:
        """What methods find around them."""
        context = contextvars.Context()
        context.run(current_worker.set, self._worker)
        return context

    @property
    def idle(self) -> bool:
        """Whether nobody waits for the thread."""
        return self._calls.empty()

    def close(self) -> None:
        """Begin no more calls."""
        while not self._calls.empty():
            try:
                self._calls.get_nowait()
            except queue.Empty:
                break
        self._calls.put(None)
        for task in self._tasks:
            task.cancel()


def _drain(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    """What the thread does all its life."""
    while True:
        call = calls.get()
        if call is None:
            return
        call()
        del call


class _Caller:
    """Who calls over one connection."""

    def __init__(self, calls: ActorCalls, connection: Connection) -> None:
        self._calls = calls
        self._connection = connection
        self._pack = live if connection.same_process else dumps
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._loop, self._on_unsendable)
        self._outbox.open(connection)
        # Futures in answers, by the numbers of these, until the caller has claimed them.
        self._handed: dict[int, list[Any]] = {}
        self._is_gone = False
        connection.add_on_closed(self._on_closed)

    def _on_closed(self, error: BaseException | None) -> None:
        """No claim comes any more; one may be on its way to the scheduler."""
        self._is_gone = True
        self._loop.call_later(HANDOVER_S, self._handed.clear)

    def on_messages(self, calls: Sequence[ActorCall | ActorClaimed]) -> None:
        for call in calls:
            if type(call) is ActorClaimed:
                self._handed.pop(call.number, None)
                continue
            if type(call) is not ActorCall:
                text = f"{self._connection.peer_address} has sent a {type(call).__name__}, where only calls may come"
                self._connection.abort(CommClosedError(text))
                return
            try:
                member = getattr(self._calls.find(call.actor), call.name)
            except (Exception, SystemExit) as e:
                self._raised(call, e)
                continue
            if call.arguments is None:
                self._returned(call, member)
            elif inspect.iscoroutinefunction(member):
                self._calls.start(self._run_async(call, member))
            else:
                self._calls.put(functools.partial(self._run, call, member))

    def _run(self, call: ActorCall, method: Callable[..., Any]) -> None:
        """In the actors' thread."""
        given: list[Any] = []
        try:
            result = self._calls.context().run(_call, call, method, given)
        except BaseException as e:
            self._raised(call, e, given)
        else:
            self._returned(call, result, given)

    async def _run_async(self, call: ActorCall, method: Callable[..., Any]) -> None:
        given: list[Any] = []
        try:
            result = await _call(call, method, given)
        except asyncio.CancelledError:
            self._raised(call, CommClosedError(f"the worker ended before {call.name!r} of its actor had"))
            raise
        except (Exception, SystemExit) as e:
            self._raised(call, e, given)
        else:
            self._returned(call, result, given)

    def _returned(self, call: ActorCall, result: Any, given: Sequence[Any] = ()) -> None:
        try:
            with noted_futures() as futures:
                value = None if result is None else self._pack(result)
        except Exception as e:
            self._raised(call, e, given)
            return
        if futures and not self._is_gone:
            self._handed[call.number] = futures
        keys = tuple([as_key(future.key) for future in futures])
        # What was submitted here has to be at the scheduler before the caller claims it.
        self._put(ActorAnswer(call.number, value, None, keys), [*given, *futures])

    def _raised(self, call: ActorCall, error: BaseException, given: Sequence[Any] = ()) -> None:
        self._put(ActorAnswer(call.number, None, pack_error(error, _MAX_ERROR_TEXT)), given)

    def _put(self, answer: ActorAnswer, given: Sequence[Any]) -> None:
        """Answer, when the scheduler knows of these futures; the caller holds those that it has given until then."""
        if given:
            asyncio.run_coroutine_threadsafe(self._put_when_claimed(answer, given), self._loop)
        else:
            self._outbox.put(answer, self._calls.idle)

    async def _put_when_claimed(self, answer: ActorAnswer, given: Sequence[Any]) -> None:
        await until_claimed(given)
        self._outbox.put(answer, True)

    def _on_unsendable(self, answer: ActorAnswer, error: Exception) -> None:
        self._handed.pop(answer.number, None)
        if answer.value is not None:
            failure = TypeError(f"the answer cannot be sent: {type(error).__name__}: {error}")
            self._outbox.put(ActorAnswer(answer.number, None, pack_error(failure)), False)


def _call(call: ActorCall, method: Callable[..., Any], given: list[Any]) -> Any:
    """``given`` gets the futures in the arguments."""
    assert call.arguments is not None
    with noted_futures() as futures:
        args, kwargs = loads(call.arguments)
    given += futures
    return method(*args, **kwargs)
