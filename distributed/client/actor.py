"""Proxies of stateful objects that live on one worker: what ``submit(..., actor=True)`` gives its client. Shell."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any

from distributed.client import current
from distributed.client.futures import Future
from distributed.client.parking import BlockedThread, wait_async, wait_patiently_here
from distributed.client.timeouts import seconds, timeout_text
from distributed.messages.payload import Payload
from distributed.protocol.serialize import dumps, live, loads


class BaseActorFuture(ABC):
    """What answers of actors have in common; to ask with ``isinstance`` whether something is one."""

    @abstractmethod
    def result(self, timeout: float | str | None = None) -> Any:
        """Wait for the answer."""

    @abstractmethod
    def done(self) -> bool:
        """Whether it is there."""

    @abstractmethod
    def __await__(self) -> Generator[Any, None, Any]: ...


NEWS_S = 2.0
"""The scheduler may take so long to hear that a worker is lost, which its clients find out themselves."""


class ActorFuture(BaseActorFuture):
    """The answer to a call of an actor's method. Awaitable."""

    def __init__(self, answer: concurrent.futures.Future[Any]) -> None:
        self._answer = answer

    def result(self, timeout: float | str | None = None) -> Any:
        """Wait for the answer, at most ``timeout`` seconds; raises what the method raised."""
        limit = seconds(timeout)
        if not self._answer.done():
            parked = BlockedThread()
            self._answer.add_done_callback(parked.go)
            if not wait_patiently_here(parked, limit):
                raise TimeoutError(timeout_text(limit))
        return self._answer.result(0)

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._answer.done()

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self._answer).__await__()

    def __repr__(self) -> str:
        return f"<ActorFuture: {'done' if self.done() else 'pending'}>"


class Actor:
    """An object on a worker. Methods run there, one at a time, and return an :class:`ActorFuture`; attributes are read.

    Examples
    --------
    >>> class Account:
    ...     balance = 0
    ...     def pay_in(self, amount):
    ...         self.balance += amount
    ...         return self.balance
    >>> account = client.submit(Account, actor=True).result()  # doctest: +SKIP
    >>> account.pay_in(5).result()  # doctest: +SKIP
    5
    """

    def __init__(self, cls: type, address: str, key: Any, worker: Any = None) -> None:
        self._cls = cls
        self._address = address
        self.key = key
        self._gone: str | None = None  # where it could not be reached
        self._client: Any = None
        self._future: Future | None = None
        if worker is None:
            self._bind()

    def _bind(self) -> Any:
        """The client to speak through; its future keeps the actor alive."""
        if self._client is None:
            client = current.find_client()
            if client is not None:
                self._client = client
                self._future = Future(self.key, client)
        return self._client

    def __reduce__(self) -> tuple[Any, ...]:
        return (Actor, (self._cls, self._address, self.key))

    def __repr__(self) -> str:
        return f"<Actor: {self._cls.__name__}, key={self.key}>"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in dir(self._cls) if not name.startswith("_"))})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        attribute = getattr(self._cls, name, None)
        if attribute is not None and callable(attribute):

            @functools.wraps(attribute)
            def method(*args: Any, **kwargs: Any) -> ActorFuture:
                pack = self._packer()
                return self._ask("actor_execute", function=name, args=pack(args), kwargs=pack(kwargs))

            return method
        answer = self._ask("actor_attribute", attribute=name)
        return answer if self._client.asynchronous else answer.result()

    def _packer(self) -> Callable[[Any], Payload]:
        client = self._bind()
        return live if client is not None and client.session.live else dumps

    def _ask(self, op: str, **kwargs: Any) -> ActorFuture:
        client = self._bind()
        if client is None:
            raise RuntimeError(f"the actor {self.key!r} cannot be asked where there is no client")
        session = client.session
        session.check_open("actor")
        return ActorFuture(asyncio.run_coroutine_threadsafe(self._call(session, op, kwargs), session.loop))

    def _is_at_home(self) -> bool:
        """Whether nothing is known against its being where it was."""
        state = self._future._state if self._future is not None else None
        if state is None or (state.status == "pending" and self._gone is None):
            return True
        if state.status != "finished" or self._gone is not None:
            return False
        return not state.holders or self._address in state.holders

    async def _find(self, session: Any) -> None:
        """Its worker is lost, or so it seems: wait until it is known whether it has been made anew, and where.

        Raises
        ------
        ValueError
            It has not.
        """
        state = self._future._state if self._future is not None else None
        deadline = time.monotonic() + NEWS_S
        while state is not None and time.monotonic() < deadline:
            if state.status == "finished":
                home = state.holders[0] if state.holders else self._address
                if home != self._gone:
                    self._address, self._gone = home, None
                    return
                await asyncio.sleep(0.01)  # the scheduler has not told of the loss yet
            elif not state.done:
                await wait_async(session.table, [state])
                deadline = time.monotonic() + NEWS_S
            else:
                why = state.error.message if state.error is not None else state.reason
                raise ValueError(f"the actor is gone with its worker {self._address} ({why})")
        self._gone = None  # it may have been the connection alone

    async def _call(self, session: Any, op: str, kwargs: dict[str, Any]) -> Any:
        if not self._is_at_home():
            await self._find(session)
        address = self._address
        try:
            answer = await session.worker_call(address, op, actor=self.key, **kwargs)
        except OSError as e:
            self._gone = address
            raise ValueError(f"the actor is gone with its worker {address} ({e})") from e
        value = answer["result"] if isinstance(answer, dict) and "result" in answer else answer
        return loads(value) if type(value) is Payload else value
