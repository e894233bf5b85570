"""One client's calls of the actors of one worker: numbered, many at once, over the connection to that worker. Shell."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from distributed.base.errors import CommClosedError
from distributed.base.keys import Key, as_key
from distributed.messages.actors import ActorAnswer, ActorCall, ActorClaimed
from distributed.messages.payload import ErrorInfo, Payload
from distributed.rpc.connection import Connection
from distributed.rpc.loop_runner import run_soon
from distributed.rpc.outbox import Outbox

going_home = threading.RLock()
"""Held by whoever makes a link, or makes calls that have waited for one."""


class Caller(Protocol):
    """What waits for an answer."""

    def answered(self, value: Payload | None, error: ErrorInfo | None, keys: Sequence[Key]) -> None:
        """The actor has returned (``keys`` are those of futures in the value), or raised."""

    def lost(self, error: BaseException, at_home: bool) -> None:
        """There will be no answer: the worker cannot be reached, or (``at_home``) the call cannot be sent."""


class ActorLink:
    """The way to one worker. Calls may be made before the connection stands; when it breaks, all that are open fail.

    ``closed``: it is of no use any more.
    """

    def __init__(self, session: Any, address: str) -> None:
        self.address = address
        self.closed = False
        self._session = session
        self._numbers = itertools.count(1)
        self._open: dict[int, Caller] = {}
        self._outbox = Outbox(session.loop, self._on_unsendable)
        self._tasks: set[asyncio.Task[Any]] = set()
        session.loop.call_soon_threadsafe(self._connect)

    def call(self, caller: Caller, actor: Any, name: str, arguments: Payload | None) -> None:
        """Call a method, or read an attribute. Any thread may do so; calls of one thread keep their order."""
        number = next(self._numbers)
        self._open[number] = caller
        # Whoever has other calls on their way sends this one with those that follow.
        self._outbox.put(ActorCall(number, as_key(actor), name, arguments), now=len(self._open) == 1)
        if self.closed and self._open.pop(number, None) is not None:  # it was closed meanwhile
            caller.lost(CommClosedError(f"the connection to {self.address} is closed"), False)

    # -- on the loop

    def _connect(self) -> None:
        run_soon(self._session.loop, self._connect_once(), self._tasks)

    async def _connect_once(self) -> None:
        try:
            connection: Connection = await self._session.pool.connect(self.address)
        except Exception as e:
            self._end(e)
            return
        connection.on_messages = self._on_answers
        connection.add_on_closed(self._on_closed)
        self._outbox.open(connection)

    def _on_answers(self, answers: list[ActorAnswer]) -> None:
        open_calls = self._open
        for answer in answers:
            caller = open_calls.pop(answer.number, None)
            if caller is not None:
                caller.answered(answer.value, answer.error, answer.keys)
            if answer.keys:
                run_soon(self._session.loop, self._tell_claimed(answer.number), self._tasks)

    async def _tell_claimed(self, number: int) -> None:
        with contextlib.suppress(Exception):  # the session is over, and its claims with it
            await self._session.call("ping")  # the claims, which were made before, have arrived
        self._outbox.put(ActorClaimed(number), now=True)

    def _on_closed(self, error: BaseException | None) -> None:
        text = f"the connection to {self.address} was closed"
        self._end(CommClosedError(text if error is None else f"{text} ({error})"))

    def _end(self, error: BaseException) -> None:
        self.closed = True
        with going_home:
            if self._session.actor_links.get(self.address) is self:
                del self._session.actor_links[self.address]
        while self._open:
            try:
                _, caller = self._open.popitem()
            except KeyError:
                break
            caller.lost(error, False)

    def _on_unsendable(self, call: ActorCall, error: Exception) -> None:
        caller = self._open.pop(call.number, None)
        if caller is not None:
            caller.lost(TypeError(f"the arguments of {call.name!r} cannot be sent: {error}"), True)


def link_to(session: Any, address: str) -> ActorLink:
    """The session's link to a worker, made when first asked for."""
    links: dict[str, ActorLink] = session.actor_links
    link = links.get(address)
    if link is None or link.closed:
        with going_home:
            link = links.get(address)
            if link is None or link.closed:
                link = links[address] = ActorLink(session, address)
    return link
