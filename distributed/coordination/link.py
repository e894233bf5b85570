"""The client half that all primitives share: whose client, how to ask, leases kept alive. Shell.

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
import uuid
from collections.abc import Callable
from typing import Any

from distributed.base import defaults, settings
from distributed.base.errors import CommClosedError
from distributed.base.keys import as_key
from distributed.coordination.homes import MISS, Homes
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
LOCAL_IN_A_ROW = 50
"""After so many operations without waiting a coroutine lets others have the loop."""
MAX_TOLD = 1000
"""So much may be on its way unanswered when a caller goes on without waiting: whoever tells faster is slowed down."""
_CLOSED = ("closing", "closed")


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


class Told(Answer):
    """The end of a request whose caller has gone on: its error is logged, and raised by the handle's next call."""

    __slots__ = ("handle", "op", "then")

    def __init__(self, handle: Handle, op: str, then: Callable[[Any], Any] | None, keep: Any) -> None:
        super().__init__(_nothing, None, keep)
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
            if self.handle.client.session.status not in _CLOSED:
                logger.warning("%r: %s has failed, after its caller had gone on: %s", self.handle, self.op, e)
                self.handle.failed(e)


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
        if self.session.status not in _CLOSED:  # else there is nobody who would have to know
            self.post(op, kwargs, Answer(_nothing, None, keep))

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
        if self.session.status in _CLOSED:
            raise defaults.load("distributed.client:ClosedClientError")(
                "the client is closed: locks, queues and the like need one that is open"
            )

    def post(self, op: str, kwargs: dict[str, Any], answer: Answer) -> int:
        """Send a request, whose end is ``answer``; returns its number. Any thread may call this."""
        self.check_open()
        session = self.session
        # At once, so that the end of a session finds both or none.
        with session.table.lock:
            homes = self.homes.by_place
            if homes:
                home = homes.get((op.split("_", 1)[0], kwargs.get("name")))
                if home is not None:
                    self.homes.give_back_locked(home)
            request = self.request(op, kwargs, answer)
            session.outgoing.add(request)
        session.wake()
        return request.number

    def request(self, op: str, kwargs: dict[str, Any], answer: Answer | None = None) -> SessionRequest:
        """The message of a request, whose end is ``answer``. Call with the table's lock held."""
        if answer is None:
            answer = Answer(_nothing)
        number = next(self._numbers)
        answer.name = kwargs.get("name")
        request = SessionRequest(number, op, dumps_plain(kwargs))
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
        if not self.leases or self.session.status in _CLOSED:
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


class Handle:
    """What a user holds of a primitive: its name, and the client by which it speaks. Pickles as its name alone.

    The client is the one given, else that of the place where the handle is first used: in a task that of its worker.
    """

    kind = "handle"
    table = ""
    """The table at the scheduler, where names can be kept by clients."""

    def __init__(self, name: Any, client: Any) -> None:
        self.name = f"{self.kind}-{new_id()}" if name is None else checked_name(name, f"the name of this {self.kind}")
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
        place = (self.table, self.name)
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


def _nothing() -> None:
    return None


def new_id() -> str:
    """A text that nobody else has."""
    return uuid.uuid4().hex


def link_of(client: Any) -> Link:
    """The link of a client; made when first asked for."""
    link: Link | None = client.extensions.get(_EXTENSION)
    if link is None:
        link = client.session.requests = client.extensions.setdefault(_EXTENSION, Link(client))
    return link


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
