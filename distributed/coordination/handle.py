"""What a user holds of a primitive: its name, whose client it speaks by, and how it asks. Shell.

A scheduler loads this module with the tables, and never asks anything itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Callable
from typing import Any

from distributed.base import defaults, settings
from distributed.base.keys import as_key
from distributed.coordination.homes import MISS, Homes
from distributed.coordination.link import CLOSED, Answer, Link, link_of, nothing
from distributed.messages.scheduler_to_client import SessionReply

logger = logging.getLogger("distributed.coordination")

LOCAL_IN_A_ROW = 50
"""After so many operations without waiting a coroutine lets others have the loop."""


class Told(Answer):
    """The end of a request whose caller has gone on: its error is logged, and raised by the handle's next call."""

    __slots__ = ("handle", "op", "then")

    def __init__(self, handle: Handle, op: str, then: Callable[[Any], Any] | None, keep: Any) -> None:
        super().__init__(nothing, None, keep)
        self.handle = handle
        self.op = op
        self.then = then

    def end(self, reply: SessionReply | None, error: BaseException | None = None) -> None:
        """It is done, or will not be."""
        if self.then is None and reply is not None and reply.error is None:
            return
        super().end(reply, error)
        try:
            value = self.value()
            if self.then is not None:
                self.then(value)
        except Exception as e:
            if self.handle.client.session.status not in CLOSED:
                logger.warning("%r: %s has failed, after its caller had gone on: %s", self.handle, self.op, e)
                self.handle.failed(e)


class Handle:
    """What a user holds of a primitive: its name, and the client by which it speaks. Pickles as its name alone.

    The client is the one given, else that of the place where the handle is first used: in a task that of its worker.
    """

    kind = "handle"
    table = ""
    """The table at the scheduler, where names can be kept by clients."""

    def __init__(self, name: Any, client: Any) -> None:
        self.name = f"{self.kind}-{new_id()}" if name is None else checked_name(name, f"the name of this {self.kind}")
        self._kept_as: Any = self.name
        self._client = as_client(client)
        self._failure: BaseException | None = None  # of what was told: raised by the next call

    @property
    def client(self) -> Any:
        """The client through which this speaks. Raises ValueError where there is none."""
        client = self._client
        if client is None:
            self._client = client = defaults.load("get_client")()
        return client

    @property
    def asynchronous(self) -> bool:
        """Whether methods return awaitables here, because the caller runs on the client's event loop."""
        return bool(self.client.asynchronous)

    def sync(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a coroutine function on the client's event loop; see ``Client.sync``."""
        return self.client.sync(func, *args, **kwargs)

    def _link(self) -> Link:
        return link_of(self.client)

    def _ask(
        self,
        op: str,
        kwargs: dict[str, Any],
        then: Callable[[Any], Any] | None = None,
        undo: Callable[[Any], Any] | None = None,
        keep: Any = None,
    ) -> Any:
        """Ask about this name: the answer, or an awaitable of it.

        Parameters
        ----------
        then
            Turns the scheduler's answer into ours.
        undo
            Called (on the loop) with an answer that nobody takes any more.
        keep
            Lives until the answer is there: were the futures in it released before, what they stand for could be gone.
        """
        link = self._link()
        link.check_open()
        if self._failure is not None:
            error, self._failure = self._failure, None
            raise error
        kwargs["name"] = self.name
        if kwargs.get("timeout", 0) is None:
            del kwargs["timeout"]  # no limit is what a request has by default
        if not self.client.asynchronous:
            value = link.ask_here(op, kwargs, undo)
            return value if then is None else then(value)
        return _asked(link, op, kwargs, then, undo, keep)

    def _do(
        self,
        op: str,
        kwargs: dict[str, Any],
        then: Callable[[Any], Any] | None = None,
        keep: Any = None,
        ok: Any = None,
    ) -> Any:
        """Ask for what has no answer worth waiting for: ``ok`` at once, or an awaitable of it, where the caller may go
        on (``Link.may_go_on``). An error is logged then, and raised by the next call of this object."""
        link = self._link()
        if self._failure is not None or not link.may_go_on():
            return self._ask(op, kwargs, then, keep=keep)
        link.check_open()
        kwargs["name"] = self.name
        answer = Told(self, op, then, keep)
        if self.client.asynchronous:
            return _told(link, op, kwargs, answer, ok)
        link.post(op, kwargs, answer)
        return ok

    def _here(
        self, operation: Callable[[Any], Any], otherwise: Callable[[], Any], then: Callable[[Any], Any] | None = None
    ) -> Any:
        """Do something where the name is: here (see ``Homes``; ``then`` turns the result into ours), or as
        ``otherwise`` says. The result, or an awaitable of it."""
        link = self._link()
        if not link.homes.by_place or self._failure is not None:
            return otherwise()
        place = (self.table, self._kept_as)
        if self.client.asynchronous:
            return _done_here(link.homes, place, operation, otherwise, then)
        value = link.homes.do(place, operation)
        if value is MISS:
            return otherwise()
        return value if then is None else then(value)

    def failed(self, error: BaseException) -> None:
        """What the caller did not wait for has failed."""
        self._failure = error

    def _refuse_with(self, asynchronous: bool, instead: str) -> None:
        if self.asynchronous is not asynchronous:
            where = (
                "on the event loop of its client" if self.asynchronous else "elsewhere than on its client's event loop"
            )
            raise TypeError(f"{self!r} is used {where}: write {instead!r}")

    def _tell(self, op: str, kwargs: dict[str, Any], keep: Any = None) -> None:
        kwargs["name"] = self.name
        self._link().tell(op, kwargs, keep)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


async def _asked(link: Link, op: str, kwargs: dict[str, Any], then: Any, undo: Any, keep: Any) -> Any:
    value = await link.ask(op, kwargs, undo)
    return value if then is None else then(value)


async def _told(link: Link, op: str, kwargs: dict[str, Any], answer: Answer, ok: Any) -> Any:
    link.post(op, kwargs, answer)
    return ok


async def _done_here(
    homes: Homes,
    place: Any,
    operation: Callable[[Any], Any],
    otherwise: Callable[[], Any],
    then: Callable[[Any], Any] | None,
) -> Any:
    value = homes.do(place, operation)
    if value is MISS:
        return await otherwise()
    if homes.n_done % LOCAL_IN_A_ROW == 0:
        await asyncio.sleep(0)
    return value if then is None else then(value)


def new_id() -> str:
    """A text that nobody else has."""
    return uuid.uuid4().hex


def as_client(given: Any) -> Any:
    """The client meant by a ``client=`` or ``scheduler_rpc=`` argument: one, or what names a scheduler by ``address``.

    Raises TypeError for anything else.
    """
    if given is None or isinstance(given, defaults.load("Client")):
        return given
    address = getattr(given, "address", None)
    if isinstance(address, str):
        return defaults.load("get_client")(address)
    raise TypeError(f"expected a Client (or an rpc to its scheduler), not {given!r}")


def checked_name(name: Any, what: str) -> Any:
    """The name as it travels. Raises TypeError when it cannot be one."""
    try:
        if name != name:
            raise TypeError("not a number")
        return as_key(name)
    except TypeError:
        raise TypeError(
            f"{what} must be text, bytes, a number or a tuple of these, not {name!r} ({type(name).__name__})"
        ) from None


def timeout_seconds(timeout: Any) -> float | None:
    """Seconds of a public ``timeout`` argument; None for no limit. Raises TypeError or ValueError for nonsense."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not (isinstance(timeout, (int, float, str)) or hasattr(timeout, "total_seconds")):
        raise TypeError(f"timeout= must be a number of seconds, text such as '10s' or None, not {timeout!r}")
    found = float(settings.parse_timedelta(timeout)) if not isinstance(timeout, (int, float)) else float(timeout)
    if math.isnan(found) or found < 0:
        raise ValueError(f"timeout= must not be negative, not {timeout!r}; use 0 to not wait at all")
    return None if math.isinf(found) else found
