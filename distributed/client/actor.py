"""Proxies of stateful objects that live on one worker: what ``submit(..., actor=True)`` gives its client. Shell."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any

from distributed.client import current
from distributed.client.futures import Future
from distributed.client.parking import BlockedThread, wait_patiently_here
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

    async def _call(self, session: Any, op: str, kwargs: dict[str, Any]) -> Any:
        try:
            answer = await session.worker_call(self._address, op, actor=self.key, **kwargs)
        except OSError as e:
            raise ValueError(f"the actor is gone with its worker {self._address} ({e})") from e
        value = answer["result"] if isinstance(answer, dict) and "result" in answer else answer
        return loads(value) if type(value) is Payload else value
