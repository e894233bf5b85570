"""From futures to values: small ones are here already, large ones come from the workers that hold them, else by the
scheduler.

A caller waits once for everything it asked for, asks each worker once for all that it holds, in parallel, and opens the
bytes in its own thread. A holder that is gone costs a try at the next one; when no holder is left the scheduler is
asked,
and while the value is being computed again the caller goes on waiting. Shell.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from distributed.base.errors import DeserializeError, SerializationError
from distributed.base.keys import Key, as_key, user_key
from distributed.base.lazy import loaded
from distributed.client import current
from distributed.client.future_table import FutureState
from distributed.client.futures import Future, cancelled_error, raise_again
from distributed.client.parking import wait_async, wait_here
from distributed.client.session import Session
from distributed.client.timeouts import deadline_of, remaining, seconds, timeout_text
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol.serialize import unpack_error
from distributed.rpc import lending

logger = logging.getLogger("distributed.client")

FIRST_PAUSE_S = 0.01
MAX_PAUSE_S = 1.0
MAX_ROUNDS = 20
ASK_NBYTES = 64 << 20
"""Of values that a worker is asked for at once, or one value: what it reads from disk and unpacks lies in its memory
until it is sent."""
"""Rounds over all holders and the scheduler before a value that is said to exist is given up."""


def _timeout_error(timeout: float | None) -> TimeoutError:
    return TimeoutError(timeout_text(timeout))


class Gatherer:
    """Fetches the values of one client's futures."""

    def __init__(self, client: Any, session: Session) -> None:
        self.client = client
        self.session = session

    # -- one future ----------------------------------------------------------------------------------------------------

    def result(self, future: Future, timeout: Any = None) -> Any:
        if self.client.asynchronous:
            return self.result_async(future, timeout)
        return self.result_here(future, timeout)

    def result_here(self, future: Future, timeout: Any = None) -> Any:
        """The value, in the calling thread, which waits for it."""
        limit = seconds(timeout)
        state = future._bound()
        deadline = deadline_of(limit)
        inline = state.inline
        if inline is None and not state.done:
            if not wait_here(self.session.table, [state], limit):
                raise _timeout_error(limit)
            inline = state.inline
        if inline is not None:
            return _opened(self.client, state, inline)
        payloads, absent = self.at_hand([state])
        if absent:
            payloads = self.client.sync(
                self.fetch, absent, None, asynchronous=False, callback_timeout=remaining(deadline)
            )
        return self._value(state, payloads)

    async def result_async(self, future: Future, timeout: Any = None) -> Any:
        limit = seconds(timeout)
        if limit is not None:
            try:
                async with asyncio.timeout(limit) as clock:
                    return await self.result_async(future)
            except TimeoutError:
                if clock.expired():
                    raise _timeout_error(limit) from None
                raise
        state = future._bound()
        if not state.done:
            await wait_async(self.session.table, [state])
        payloads, absent = self.at_hand([state])
        if absent:
            payloads = await self._on_client_loop(self.fetch(absent, None))
        return self._value(state, payloads)

    async def _on_client_loop(self, coroutine: Any) -> Any:
        loop = self.session._loop
        if loop is None or loop is asyncio.get_running_loop():
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))

    def exception(self, future: Future, timeout: Any = None) -> Any:
        return self._failure(future, timeout, 0)

    def traceback(self, future: Future, timeout: Any = None) -> Any:
        return self._failure(future, timeout, 1)

    def _failure(self, future: Future, timeout: Any, part: int) -> Any:
        limit = seconds(timeout)
        state = future._bound()
        if self.client.asynchronous:
            return self._failure_async(future, limit, part)
        if not state.done and not wait_here(self.session.table, [state], limit):
            raise _timeout_error(limit)
        return self.error_of(state)[part]

    async def _failure_async(self, future: Future, limit: float | None, part: int) -> Any:
        # Holds the future, not only its state: the task lives as long as the future does.
        state = future._bound()
        if not state.done and not await wait_async(self.session.table, [state], limit):
            raise _timeout_error(limit)
        return self.error_of(state)[part]

    @staticmethod
    def error_of(state: FutureState) -> tuple[BaseException | None, Any]:
        """Exception and traceback of a failed task; made anew each time, so that no frame keeps a future alive."""
        error = state.error
        if state.status != "error" or error is None:
            return None, None
        return unpack_error(error)

    @staticmethod
    def at_hand(states: Iterable[FutureState]) -> tuple[dict[Key, Payload | ErrorInfo], list[FutureState]]:
        """The values of done tasks that are here, to be kept though the next moment they be lost with their holder, and
        the states whose values are to be fetched: those without one, and those that are lost already."""
        here: dict[Key, Payload | ErrorInfo] = {}
        absent: list[FutureState] = []
        for state in states:
            inline = state.inline
            if inline is not None:
                here[state.key] = inline
            elif state.status == "finished" or not state.done:
                absent.append(state)
        return here, absent

    def _value(self, state: FutureState, payloads: Mapping[Key, Payload | ErrorInfo]) -> Any:
        """The value of a done future, or its error raised."""
        found = payloads.get(state.key)
        if found is None and state.status == "finished":
            found = state.inline
        if type(found) is Payload:
            return _opened(self.client, state, found)
        if type(found) is ErrorInfo:
            return raise_again(*unpack_error(found))
        if state.status == "error" and state.error is not None:
            return raise_again(*unpack_error(state.error))
        if state.status == "cancelled":
            raise cancelled_error(state)
        raise RuntimeError(f"the value of {user_key(state.key)!r} could not be had (it is {state.status})")

    # -- many futures --------------------------------------------------------------------------------------------------

    def gather(self, futures: Any, errors: str, direct: bool | None, asynchronous: bool | None) -> Any:
        if errors not in ("raise", "skip"):
            raise ValueError(f"errors= must be 'raise' or 'skip', not {errors!r}")
        if hasattr(futures, "__next__") and not isinstance(futures, Future):
            futures = list(futures)
        states = self.collect(futures)
        if asynchronous or (asynchronous is None and self.client.asynchronous):
            return self._gather_async(futures, states, errors, direct)
        skip = errors == "skip"
        self._check(states, skip)  # one that has failed already ends it
        waiting = [state for state in states.values() if not state.done]
        if waiting:
            wait_here(self.session.table, waiting, None, stop_at_error=not skip)
        self._check(states, skip)
        payloads, absent = self.at_hand(states.values())
        if absent:
            payloads |= self.client.sync(self.fetch, absent, direct, asynchronous=False)
        return self._rebuild(futures, states, payloads, skip)

    async def _gather_async(
        self, futures: Any, states: dict[Key, FutureState], errors: str, direct: bool | None
    ) -> Any:
        skip = errors == "skip"
        self._check(states, skip)  # one that has failed already ends it
        waiting = [state for state in states.values() if not state.done]
        if waiting:
            await wait_async(self.session.table, waiting, None, stop_at_error=not skip)
        self._check(states, skip)
        payloads, absent = self.at_hand(states.values())
        if absent:
            payloads |= await self._on_client_loop(self.fetch(absent, direct))
        return self._rebuild(futures, states, payloads, skip)

    def collect(self, futures: Any) -> dict[Key, FutureState]:
        """The states of all futures in a nested collection. Raises ``ValueError`` for those of another client."""
        states: dict[Key, FutureState] = {}
        stack: list[Any] = [futures]
        client = self.client
        while stack:
            item = stack.pop()
            if type(item) is Future or isinstance(item, Future):
                state = item._state or item._bound()
                if item._client is not client:
                    raise ValueError(f"the future {item.key!r} is of another client, which has to gather it")
                states[state.key] = state
            elif isinstance(item, (list, tuple, set, frozenset)):
                stack.extend(item)
            elif isinstance(item, dict):
                stack.extend(item.values())
        return states

    def _check(self, states: dict[Key, FutureState], skip: bool) -> None:
        if skip:
            return
        for state in states.values():
            if state.status == "error" or state.status == "cancelled":
                self._value(state, {})

    def _rebuild(
        self, futures: Any, states: dict[Key, FutureState], payloads: Mapping[Key, Payload | ErrorInfo], skip: bool
    ) -> Any:
        values: dict[Key, Any] = {}
        token = current.enter(self.client)
        try:
            for key, state in states.items():
                payload = payloads.get(key)
                if type(payload) is Payload and not skip:
                    values[key] = _open(self.client, state, payload)
                elif not skip:
                    values[key] = self._value(state, payloads)
                elif state.status == "finished":
                    try:
                        values[key] = self._value(state, payloads)
                    except Exception:
                        logger.debug("Skipping %r, which cannot be had", key, exc_info=True)
        finally:
            current.leave(token)
        return _fill(futures, values, skip)

    # -- from the workers ----------------------------------------------------------------------------------------------

    async def fetch(self, states: Iterable[FutureState], direct: bool | None) -> dict[Key, Payload | ErrorInfo]:
        """The serialised values of finished tasks. Tasks that meanwhile fail or are cancelled are left out."""
        if direct is None:
            direct = self.client.direct_to_workers
        found: dict[Key, Payload | ErrorInfo] = {}
        todo = {state.key: state for state in states}
        tried: dict[Key, set[str]] = {}
        pause = FIRST_PAUSE_S
        for _ in range(MAX_ROUNDS):
            pending = [state for state in todo.values() if not state.done]
            if pending:
                await wait_async(self.session.table, pending)
            self._take_local(todo, found)
            if not todo:
                break
            by_worker, orphans = self._plan(todo, tried, direct)
            for answer in await asyncio.gather(*[self._ask(worker, keys, todo) for worker, keys in by_worker.items()]):
                found.update(answer)
            for worker, keys in by_worker.items():
                for key in keys:
                    if key not in found:
                        tried.setdefault(key, set()).add(worker)
            if orphans:
                found.update(await self._ask_scheduler(orphans))
                for key in orphans:
                    tried.pop(key, None)
            todo = {key: state for key, state in todo.items() if key not in found}
            if not todo:
                break
            if orphans:
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE_S, pause * 2)
        return found

    @staticmethod
    def _take_local(todo: dict[Key, FutureState], found: dict[Key, Payload | ErrorInfo]) -> None:
        for key, state in list(todo.items()):
            if state.status != "finished":
                if state.done:
                    del todo[key]
            elif state.inline is not None:
                found[key] = state.inline
                del todo[key]
            elif state.unshippable is not None:
                found[key] = state.unshippable
                del todo[key]

    @staticmethod
    def _plan(
        todo: dict[Key, FutureState], tried: dict[Key, set[str]], direct: bool | None
    ) -> tuple[dict[str, list[Key]], list[Key]]:
        """Which worker to ask for what; what nobody is left to be asked for."""
        by_worker: dict[str, list[Key]] = {}
        orphans: list[Key] = []
        for key, state in todo.items():
            if state.status != "finished":
                continue
            past = tried.get(key)
            holders = [holder for holder in state.holders if past is None or holder not in past]
            if direct is False or not holders:
                orphans.append(key)
            else:
                holder = holders[0] if len(holders) == 1 else random.choice(holders)
                by_worker.setdefault(holder, []).append(key)
        return by_worker, orphans

    async def _ask(
        self, worker: str, keys: list[Key], states: Mapping[Key, FutureState]
    ) -> dict[Key, Payload | ErrorInfo]:
        found: dict[Key, Payload | ErrorInfo] = {}
        for part in _parts(keys, states):
            try:
                connection = await self.session.pool.connect(worker)
                answer = await lending.get_data(connection, part, self.session.id)
            except (OSError, TimeoutError) as e:
                logger.debug("Cannot fetch %d keys from %s: %s", len(part), worker, e)
                break
            found.update(_payloads(answer))
        return found

    async def _ask_scheduler(self, keys: list[Key]) -> dict[Key, Payload | ErrorInfo]:
        answer = await self.session.call("gather", keys=keys)
        return _payloads(answer)


def _parts(keys: list[Key], states: Mapping[Key, FutureState]) -> Iterator[list[Key]]:
    part: list[Key] = []
    nbytes = 0
    for key in keys:
        size = max(0, states[key].nbytes)
        if part and nbytes + size > ASK_NBYTES:
            yield part
            part, nbytes = [], 0
        part.append(key)
        nbytes += size
    if part:
        yield part


def _opened(client: Any, state: FutureState, payload: Payload) -> Any:
    """The value; actors and futures in it are bound to the client that asked."""
    token = current.enter(client)
    try:
        return _open(client, state, payload)
    finally:
        current.leave(token)


def _open(client: Any, state: FutureState, payload: Payload) -> Any:
    """The value. Opening it runs code that came with it, which may raise anything."""
    try:
        value = client.loads_value(payload)
    except SerializationError:
        raise  # it could not even be pickled
    except (Exception, SystemExit, GeneratorExit) as error:
        producer = ", ".join(state.holders)
        raise DeserializeError(
            f"the value of {user_key(state.key)!r}, held by {producer or 'a worker'}, could not be unpickled here: "
            f"{type(error).__name__}: {error}",
            user_key(state.key),
            producer,
        ) from error
    actor_class = loaded("distributed.client.actor", "Actor")
    # Handed over within the process it is that of the worker: all who ask would share it, and speak through one client.
    return value.own() if actor_class is not None and type(value) is actor_class else value


def _payloads(answer: Any) -> dict[Key, Payload | ErrorInfo]:
    """Takes ``{key: payload}`` bare or as the ``data`` of an answer."""
    if isinstance(answer, Mapping) and "data" in answer and isinstance(answer["data"], Mapping):
        answer = answer["data"]
    if not isinstance(answer, Mapping):
        return {}
    return {as_key(key): value for key, value in answer.items() if type(value) is Payload or type(value) is ErrorInfo}


def _fill(obj: Any, values: Mapping[Key, Any], skip: bool) -> Any:
    """``obj`` with values for its futures. With ``skip``, absent ones leave lists, tuples and sets, and are None in
    dicts.
    """
    if isinstance(obj, Future):
        return values.get(obj._bound().key)
    if type(obj) is list and not skip:
        return [values.get(part._bound().key) if type(part) is Future else _fill(part, values, skip) for part in obj]
    if isinstance(obj, (list, tuple, set, frozenset)):
        parts = [
            _fill(part, values, skip)
            for part in obj
            if not (skip and isinstance(part, Future) and part._bound().key not in values)
        ]
        if isinstance(obj, tuple) and hasattr(obj, "_make"):
            return obj._make(parts)
        for kind in (list, tuple, set, frozenset):
            if isinstance(obj, kind):
                return kind(parts)
    if isinstance(obj, dict):
        return {key: _fill(value, values, skip) for key, value in obj.items()}
    return obj
