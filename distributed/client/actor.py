"""Proxies of stateful objects that live on one worker: what ``submit(..., actor=True)`` gives its client. Shell."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

from distributed.base.errors import CommClosedError
from distributed.base.handover import noted_futures
from distributed.base.keys import Key
from distributed.client import current
from distributed.client.actor_link import ActorLink, going_home, link_to
from distributed.client.futures import Future
from distributed.client.parking import BlockedThread, ParkedCoroutine, wait_async, wait_patiently_here
from distributed.client.scheduler_link import ClosedClientError
from distributed.client.timeouts import seconds, timeout_text
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol.serialize import dumps, live, loads
from distributed.rpc.connection import raised_there


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

    def __init__(self, actor: Actor, client: Any, held: list[Future]) -> None:
        self._actor: Actor | None = actor  # which lives as long as it is asked
        # Futures in the arguments, until the worker's client has claimed them; then those in what came, until it is
        # opened.
        self._held = held
        self._client: Any = client
        self._over = False
        self._value: Any = None
        self._packed: Payload | ErrorInfo | None = None
        self._error: BaseException | None = None
        self._wakes: list[Callable[[], None]] = []  # may be called more than once

    # Whoever waits appends, then looks whether it is over; whoever ends it says so, then calls all: nobody is missed.

    def answered(self, value: Payload | None, error: ErrorInfo | None, keys: Sequence[Key]) -> None:
        """The actor has returned (``keys`` are those of futures in the value), or raised."""
        self._packed = value if error is None else error
        with contextlib.suppress(ClosedClientError):
            self._held = [Future(key, self._client) for key in keys]
        self._end()

    def lost(self, error: BaseException, at_home: bool) -> None:
        """There will be no answer: the worker cannot be reached, or (``at_home``) the call cannot be sent."""
        actor = self._actor
        if not at_home and actor is not None and isinstance(error, OSError):
            address = actor._gone = actor._address
            failure = ValueError(f"the actor is gone with its worker {address} ({error})")
            failure.__cause__ = error
            error = failure
        self._error = error
        self._held = []
        self._end()

    def _end(self) -> None:
        self._actor = None
        self._over = True
        wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    def _wake_by(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)
        if self._over:
            wake()

    def _opened(self) -> Any:
        """What the method has returned; raises what it raised."""
        packed = self._packed
        if packed is not None:
            self._open(packed)
        if self._error is not None:
            raise self._error
        return self._value

    def _open(self, packed: Payload | ErrorInfo) -> None:
        token = current.enter(self._client)
        try:
            if isinstance(packed, ErrorInfo):
                self._error = raised_there(packed)
            else:
                self._value = loads(packed)
        except (Exception, SystemExit) as e:  # opening runs code that came with it
            self._error = e
        finally:
            current.leave(token)
        self._packed = self._client = None
        self._held = []

    def result(self, timeout: float | str | None = None) -> Any:
        """Wait for the answer, at most ``timeout`` seconds; raises what the method raised."""
        limit = seconds(timeout)
        if not self._over:
            parked = BlockedThread()
            self._wake_by(parked.go)
            if not wait_patiently_here(parked, limit):
                raise TimeoutError(timeout_text(limit))
        return self._opened()

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._over

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._over:
            parked = ParkedCoroutine()
            self._wake_by(parked.go)
            yield from parked.wait().__await__()
        return self._opened()

    def __repr__(self) -> str:
        return f"<ActorFuture: {'done' if self.done() else 'pending'}>"


class ActorMethod:
    """A method of an actor, looked up and not called yet."""

    __slots__ = ("__wrapped__", "_actor", "_name")

    def __init__(self, actor: Actor, name: str, function: Any) -> None:
        self._actor = actor
        self._name = name
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> ActorFuture:
        return self._actor._ask(self._name, (args, kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        doc: str | None = self.__wrapped__.__doc__
        return doc

    def __repr__(self) -> str:
        return f"<method {self._name!r} of {self._actor!r}>"


_Waiting: TypeAlias = tuple[ActorFuture, str, Payload | None]


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
        self._link: ActorLink | None = None
        self._waiting: list[_Waiting] | None = None  # calls that wait until it is known where it is
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

    def own(self) -> Actor:
        """Another proxy, which speaks through the client that is meant here."""
        return Actor(self._cls, self._address, self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Actor, (self._cls, self._address, self.key))

    def __repr__(self) -> str:
        return f"<Actor: {self._cls.__name__}, key={self.key}>"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in dir(self._cls) if not name.startswith("_"))})

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name != "key":
            raise AttributeError(
                f"the attribute {name!r} of {self!r} cannot be set from here: call a method of it that does so"
            )
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(
                f"{name!r} of an actor cannot be asked for from here: names with an underscore are its own"
            )
        attribute = getattr(self._cls, name, None)
        if attribute is not None and callable(attribute):
            return ActorMethod(self, name, attribute)
        answer = self._ask(name, None)
        return answer if self._client.asynchronous else answer.result()

    def _ask(self, name: str, arguments: tuple[Any, Any] | None) -> ActorFuture:
        """Call a method, or (without arguments) read an attribute."""
        client = self._bind()
        if client is None:
            raise RuntimeError(f"the actor {self.key!r} cannot be asked where there is no client")
        session = client.session
        session.check_open("actor")
        with noted_futures() as held:
            payload = None if arguments is None else live(arguments) if session.live else dumps(arguments)
        answer = ActorFuture(self, client, held)
        # Futures that go along must be known to the scheduler before the worker asks it for them.
        if not held and self._waiting is None and self._is_at_home():
            self._link_to_home(session).call(answer, self.key, name, payload)
        else:
            self._wait_for_home(session, (answer, name, payload))
        return answer

    def _link_to_home(self, session: Any) -> ActorLink:
        link = self._link
        if link is None or link.closed or link.address != self._address:
            link = self._link = link_to(session, self._address)
        return link

    def _wait_for_home(self, session: Any, call: _Waiting) -> None:
        with going_home:
            first = self._waiting is None
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(call)
        if first:
            asyncio.run_coroutine_threadsafe(self._go_home(session), session.loop)

    async def _go_home(self, session: Any) -> None:
        """Find out where it is, then make the calls that wait, in order."""
        known = 0  # so many calls may go, as the scheduler knows of the futures in them
        try:
            await self._find(session)
            while not self._has_called(session, known):
                known = len(self._waiting or ())
                await session.call("ping")  # what was submitted before has arrived
        except BaseException as e:
            failure = e if isinstance(e, Exception) else CommClosedError("the client was closed")
            with going_home:
                waiting, self._waiting = self._waiting or [], None
            for answer, _, _ in waiting:
                answer.lost(failure, True)

    def _has_called(self, session: Any, known: int) -> bool:
        """Make the calls that wait, in order, unless there are futures in one behind the first ``known``."""
        with going_home:  # later calls come behind these
            waiting = self._waiting or []
            if any(answer._held for answer, _, _ in waiting[known:]):
                return False
            link = self._link_to_home(session)
            for answer, name, payload in waiting:
                link.call(answer, self.key, name, payload)
            self._waiting = None
        return True

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
