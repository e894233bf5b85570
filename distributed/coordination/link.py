"""The client half that all primitives share: how a client asks, and the leases that it keeps alive. Shell.

A request goes to the scheduler as a message of the client's session, after all that was submitted before it, and its
answer comes back the same way; a thread waits for it on a lock, a coroutine on a future. A caller that stops waiting
(it is cancelled, or interrupted from the keyboard) withdraws the request, and an answer that was on its way by then is
undone: nothing that was granted or taken is lost to all.

A scheduler loads this module with the tables, and never asks anything itself: those who do load the client's
room.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from distributed.base import defaults
from distributed.base.errors import CommClosedError
from distributed.coordination.homes import Homes
from distributed.coordination.lease_setting import lease_timeout_s
from distributed.messages.client_to_scheduler import SessionRequest
from distributed.messages.scheduler_to_client import SessionNews, SessionReply
from distributed.protocol.plain import dumps_plain, loads_plain
from distributed.protocol.serialize import unpack_error

logger = logging.getLogger("distributed.coordination")

_LOOK_S = 2.0
"""How often a waiting thread looks whether the loop that should wake it is still alive."""
_PATIENCE_S = 0.005
"""A task waits so long in its slot before it lends it."""
_SLACK_S = 2.0
"""The scheduler keeps the time limits of requests; a caller that has one waits for so long more to be told."""
_RENEWALS = 5
"""A lease is renewed so many times in the time after which it would be stale."""
_EXTENSION = "coordination"
MAX_TOLD = 1000
"""So much may be on its way unanswered when a caller goes on without waiting: whoever tells faster is slowed down."""
CLOSED = ("closing", "closed")


class Answer:
    """One request's end. Written on the client's loop, read by whoever was waiting."""

    __slots__ = ("error", "given_up", "keep", "name", "over", "reply", "undo", "wake")

    def __init__(self, wake: Callable[[], Any], undo: Callable[[Any], Any] | None = None, keep: Any = None) -> None:
        self.wake = wake
        self.undo = undo
        self.keep = keep
        self.name: Any = None
        self.reply: SessionReply | None = None
        self.error: BaseException | None = None
        self.over = False
        self.given_up = False

    def end(self, reply: SessionReply | None, error: BaseException | None = None) -> None:
        """There is an answer, or there will be none."""
        self.reply, self.error = reply, error
        self.over = True
        if self.given_up:
            self.give_back()
        else:
            self.wake()

    def value(self) -> Any:
        """What the scheduler has answered; raises its error."""
        if self.error is not None:
            raise self.error
        assert self.reply is not None
        if self.reply.error is not None:
            raise unpack_error(self.reply.error)[0]
        return None if self.reply.body is None else loads_plain(self.reply.body)

    def give_back(self) -> None:
        """Nobody took the answer: undo what it granted."""
        if self.undo is None:
            return
        try:
            value = self.value()
        except Exception:
            return
        self.undo(value)


class Link:
    """One client's way to the coordination tables, and the leases that it holds."""

    def __init__(self, client: Any) -> None:
        self.session = client.session
        # Lease -> what to do when the scheduler says that it has ended without us.
        self.leases: dict[int, Callable[[int], None]] = {}
        # Another object for each session: what the scheduler was told in an earlier one it has forgotten.
        self.epoch = object()
        self.homes = Homes(self)
        self._open: dict[int, Answer] = {}
        self._numbers = itertools.count(1)
        self._renewing = False
        self._of_worker = str(client.session.link.name).startswith("worker-")
        self._is_only_client: Callable[[], bool] = defaults.load("distributed.client.client:is_only_client")

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask_here(self, op: str, kwargs: dict[str, Any], undo: Callable[[Any], Any] | None = None) -> Any:
        """Ask, and block the calling thread until the answer is there."""
        lock = threading.Lock()
        lock.acquire()
        answer = Answer(lock.release, undo)
        number = self.post(op, kwargs, answer)
        limit = kwargs.get("timeout")
        deadline = math.inf if limit is None else time.monotonic() + limit + _SLACK_S
        take_back: Callable[[], None] | None = None
        try:
            if not lock.acquire(timeout=_PATIENCE_S):
                take_back = _lend_slot(op, kwargs)
                while not lock.acquire(timeout=_LOOK_S):
                    if time.monotonic() >= deadline:
                        raise self._unanswered(op, limit)
                    if self.session.status == "closed" and not answer.over:
                        raise CommClosedError(f"the client was closed while a thread waited for the answer to {op!r}")
        except BaseException:
            loop = self.session.loop
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._give_up, answer, number)
            raise
        finally:
            if take_back is not None:
                take_back()
        return answer.value()

    async def ask(self, op: str, kwargs: dict[str, Any], undo: Callable[[Any], Any] | None = None) -> Any:
        """Ask, from a coroutine on the client's loop."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        answer = Answer(wake, undo)
        number = self.post(op, kwargs, answer)
        limit = kwargs.get("timeout")
        take_back = _lend_slot(op, kwargs)
        try:
            if limit is None:
                await future
            elif not (await asyncio.wait([future], timeout=limit + _SLACK_S))[0]:
                self._give_up(answer, number)
                raise self._unanswered(op, limit)
        except asyncio.CancelledError:
            self._give_up(answer, number)
            raise
        finally:
            if take_back is not None:
                take_back()
        return answer.value()

    def tell(self, op: str, kwargs: dict[str, Any], keep: Any = None) -> None:
        """Have the scheduler do something, without waiting for that. Any thread may call this. ``keep`` lives until it
        is done."""
        if self.session.status not in CLOSED:  # else there is nobody who would have to know
            self.post(op, kwargs, Answer(nothing, None, keep))

    def may_go_on(self) -> bool:
        """Whether a caller may go on before the scheduler has done what needs no answer.

        Nobody can tell the difference as long as all that the caller does next goes the same way, in the same order.
        It does not when the caller runs in a task (the task's end goes by its worker), beside another client of this
        process, or in the scheduler's own process.
        """
        connection = self.session.connection
        return (
            connection is not None
            and not connection.same_process
            and not self._of_worker
            and len(self._open) < MAX_TOLD
            and defaults.current_worker.get()() is None
            and self._is_only_client()
        )

    def check_open(self) -> None:
        """Raise ``ClosedClientError`` when the client is closed."""
        if self.session.status in CLOSED:
            raise defaults.load("distributed.client:ClosedClientError")(
                "the client is closed: locks, queues and the like need one that is open"
            )

    def post(self, op: str, kwargs: dict[str, Any], answer: Answer) -> int:
        """Send a request, whose end is ``answer``; returns its number. Any thread may call this."""
        self.check_open()
        session = self.session
        # At once, so that the end of a session finds both or none.
        with session.table.lock:
            if self.homes.by_place:
                home = self.homes.concerned(op, kwargs)
                if home is not None:
                    self.homes.give_back_locked(home)
            request = self.request(op, kwargs, answer)
            session.outgoing.add(request)
        if request.quiet and not op.endswith("_release"):
            session.wake()
        else:  # somebody waits for it, here or elsewhere
            session.send_here()
        return request.number

    def request(self, op: str, kwargs: dict[str, Any], answer: Answer | None = None) -> SessionRequest:
        """The message of a request, whose end is ``answer``. Call with the table's lock held."""
        if answer is None:
            answer = Answer(nothing)
        number = next(self._numbers)
        answer.name = kwargs.get("name")
        request = SessionRequest(number, op, dumps_plain(kwargs), answer.wake is nothing)
        self._open[number] = answer
        return request

    def on_news(self, news: SessionNews) -> None:
        """The scheduler offers a name, or wants one back."""
        what, *rest = loads_plain(news.body)
        if what == "recall":
            self.homes.recalled(*rest)
        else:
            kind, name, lease, number, state = rest
            self.homes.offered(kind, name, lease, state, functools.partial(self._is_busy, number))
            self.session.wake()

    def _is_busy(self, after: int, name: Any) -> bool:
        """Whether requests about a name that are later than this one are on their way."""
        return any(number > after and answer.name == name for number, answer in self._open.items())

    def _unanswered(self, op: str, limit: float | None) -> TimeoutError:
        why = self.session.link.down_text() or "the scheduler does not answer, though it is connected"
        return TimeoutError(f"no answer to {op!r} within {limit:g} s: {why}")

    def _give_up(self, answer: Answer, number: int) -> None:
        if answer.over:
            answer.give_back()
        else:
            answer.given_up = True
            self.tell("coordination_withdraw", {"request": number})

    def answered(self, reply: SessionReply) -> None:
        """The scheduler has answered a request."""
        answer = self._open.pop(reply.number, None)
        if answer is not None:
            answer.end(reply)

    def forget(self) -> Callable[[str], None]:
        """The session with the scheduler is over: what was asked will not be answered, and all leases have ended."""
        self.epoch = object()
        self.homes.forget_locked()
        answers, self._open = self._open, {}
        leases, self.leases = self.leases, {}

        def tell(reason: str) -> None:
            for answer in answers.values():
                answer.end(None, CommClosedError(f"the session with the scheduler ended before it answered: {reason}"))
            if self.session.status != "closing":  # not by our own wish: holders have to be warned
                for lease, lost in leases.items():
                    lost(lease)

        return tell

    # -- leases --------------------------------------------------------------------------------------------------------

    def hold_granted(self, lease: int, lost: Callable[[int], None]) -> None:
        """The same for a lease just granted, which may be that of a lock that is kept here."""
        with self.session.table.lock:
            if not self.homes.is_here(lease, lost):
                self.hold(lease, lost)

    def hold(self, lease: int, lost: Callable[[int], None]) -> None:
        """Renew the lease until it is dropped; ``lost`` is called (on the loop) when the scheduler has ended it."""
        self.leases[lease] = lost
        if not self._renewing:
            self._renewing = True
            self.session.loop.call_soon_threadsafe(self._renew_later)

    def drop(self, lease: int) -> None:
        """The lease is given back."""
        self.leases.pop(lease, None)

    def _renew_later(self) -> None:
        timeout = lease_timeout_s()
        if timeout is None:
            self._renewing = False
        else:
            self.session.loop.call_later(timeout / _RENEWALS, self._renew)

    def _renew(self) -> None:
        if not self.leases or self.session.status in CLOSED:
            self._renewing = False
            return
        self._renew_later()
        answer = Answer(lambda: self._renewed(answer))
        self.post("lease_renew", {"leases": list(self.leases)}, answer)

    def _renewed(self, answer: Answer) -> None:
        try:
            lost = answer.value()
        except Exception as e:
            logger.debug("Could not renew leases: %s", e)
            return
        for lease in lost:
            tell = self.leases.pop(lease, None)
            if tell is not None:
                tell(lease)


def nothing() -> None:
    """What to wake when nobody waits."""


def link_of(client: Any) -> Link:
    """The link of a client; made when first asked for."""
    link: Link | None = client.extensions.get(_EXTENSION)
    if link is None:
        link = client.session.requests = client.extensions.setdefault(_EXTENSION, Link(client))
    return link


def _lend_slot(op: str, kwargs: dict[str, Any]) -> Callable[[], None] | None:
    """Before a task blocks: offer its slot. A scheduler, where this module is loaded too, has no worker's code."""
    if defaults.current_worker.get()() is None:
        return None
    lend: Callable[[str], Callable[[], None] | None] = defaults.load("distributed.worker.runtime:lend_slot")
    return lend(_what(op, kwargs))


def _what(op: str, kwargs: dict[str, Any]) -> str:
    """What a request waits for, in words: ``lock 'x'``."""
    kind = "lock" if kwargs.get("transient") else op.rpartition("_")[0].replace("_", "-")
    name = kwargs["names"] if "names" in kwargs else kwargs.get("name")
    return f"the {kind} {name!r}" + (" (full)" if op == "queue_put" else "")
