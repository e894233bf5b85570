"""The client's link with the scheduler: register, go on after a break, ask. Shell; on the loop's thread.

When the connection breaks the client comes back under its id, and both ends of the session send again what the other
has not taken in (:mod:`distributed.rpc.session`): nothing is lost and nothing done twice, so whoever waits goes on
waiting. Only when the scheduler has no such session any more, or cannot be reached for long, is the earlier one over.

What a broken connection does to questions: those that only look (:data:`REPEATABLE`) are asked again; others fail,
because nobody knows whether they were done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from distributed.base import defaults
from distributed.base.errors import CommClosedError, FatalCommClosedError
from distributed.comm import registry
from distributed.messages.client_to_scheduler import ClientClosing, ClientHeartbeat
from distributed.messages.control import Refused, RegisterClient, Registered
from distributed.messages.scheduler_to_client import SchedulerClosing
from distributed.rpc.connection import Connection
from distributed.rpc.session import SessionLink, session_buffer

logger = logging.getLogger("distributed.client")

PATIENCE_S = 5.0
"""A scheduler that is away for longer is worth a warning."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.02, 1.0

REPEATABLE = frozenset(
    """adaptive_target call_stack check_idle echo events explain gather get_events get_logs get_metadata has_what
    identity list_detached logs nanny_logs nbytes ncores nthreads ping processing publish_get publish_list scatter_plan
    story subscribe_topic unsubscribe_topic versions who_has worker_logs workers_to_close""".split()  # noqa: SIM905
)
"""Operations that may be asked twice."""


_VERSIONS = "distributed.base.versions:own_versions"
_MISMATCH = "distributed.base.versions:VersionMismatchWarning"


class ClosedClientError(RuntimeError):
    """The client is closed, or not yet connected."""


class LinkOwner(Protocol):
    """Who is told what becomes of the link."""

    def on_up(self, registered: Registered, over: str | None) -> None:
        """Connected. ``over``: None at first, empty when the session goes on, else why the earlier one has ended."""

    def on_down(self) -> None:
        """The connection broke; the link is looking for the scheduler."""

    def on_over(self, reason: str) -> None:
        """There will be no other connection."""

    def on_messages(self, messages: list[Any]) -> None:
        """News, each once and in order; or none, when the scheduler has only taken in more of ours."""

    def on_unsendable(self, message: Any, error: Exception) -> None:
        """This message cannot be encoded; the scheduler will never see it."""

    def before_question(self, op: str) -> None:
        """Send what has to be there before the question ``op``."""


class SchedulerLink:
    """The link of one client.

    Attributes
    ----------
    registered
        The scheduler's last answer to our registration.
    down_since
        Since when (on the loop's clock) the connection is broken; None: it stands, or never stood.
    problem
        Why the connection broke or could not be made again, in words.
    last_heard
        When (on the loop's clock) the scheduler last said something.
    sending
        Held by whoever changes the state of the session, and by whoever takes something off a queue to send it.
    """

    def __init__(self, client_id: str, name: str, owner: LinkOwner) -> None:
        self.id = client_id
        self.name = name
        self.address: str | None = None
        self.registered: Registered | None = None
        self.down_since: float | None = None
        self.problem = ""
        self.last_heard = 0.0
        self.sending = threading.RLock()
        self._owner = owner
        self._stream = SessionLink(session_buffer())
        self._secret: Any = None
        self._security: Any = None
        self._closing = False
        self._ending: str | None = None
        self._reconnecting: asyncio.Task[None] | None = None

    # -- facts ---------------------------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection | None:
        """The connection that stands now."""
        return self._stream.connection

    @property
    def full(self) -> bool:
        """The scheduler has not yet acknowledged so much that nothing more should be sent."""
        return self._stream.end.full

    @property
    def counts(self) -> dict[str, int]:
        """How often the session went on over a new connection, messages sent again, and received again."""
        end = self._stream.end
        return {"resumed": end.n_resumed, "resent": end.n_resent, "duplicates": end.n_duplicates}

    def down_s(self) -> float | None:
        """For how long the connection has been broken; None: it is not. From any thread."""
        since, task = self.down_since, self._reconnecting
        if since is None or task is None:
            return None
        return max(0.0, task.get_loop().time() - since)

    def down_text(self) -> str:
        """The same in words; empty when the connection stands."""
        down = self.down_s()
        return "" if down is None else f"disconnected since {down:.1f} s"

    def why_silent(self) -> str:
        """Why the scheduler says nothing, for people."""
        down = self.down_text()
        if down:
            return (
                f"{down}: the scheduler at {self.address} cannot be reached ({self.problem}). The client goes on "
                "trying; what was submitted runs on meanwhile, and its results come when the connection stands again"
            )
        silent = asyncio.get_running_loop().time() - self.last_heard
        return f"the scheduler at {self.address} does not answer; it was last heard {silent:.1f} s ago"

    # -- connecting ----------------------------------------------------------------------------------------------------

    async def open(
        self, address: str, timeout: float, secret: Any, retry_refused_s: float, security: Any = None
    ) -> None:
        """Connect for the first time. Raises OSError or TimeoutError when that fails."""
        self.address = address
        self._secret = secret
        self._security = security
        await self._connect(timeout, retry_refused_s)

    async def _connect(self, timeout: float, retry_refused_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        assert self.address is not None
        comm = await registry.connect(
            self.address,
            timeout,
            role="client",
            secret=self._secret,
            retry_refused_s=min(timeout, retry_refused_s),
            security=self._security,
        )
        if comm.peer_role not in ("scheduler", ""):
            comm.abort()
            raise FatalCommClosedError(f"who listens at {self.address} is a {comm.peer_role}, not a scheduler")
        connection = Connection(comm, {}, unpickle=True, owner=self.id)
        connection.on_unsendable = self._owner.on_unsendable
        welcome: asyncio.Future[None] = loop.create_future()

        def on_first(messages: list[Any]) -> None:
            if welcome.done():
                return
            answer = messages[0]
            if type(answer) is not Registered:
                reason = answer.reason if isinstance(answer, (Refused, SchedulerClosing)) else f"unexpected {answer!r}"
                welcome.set_exception(
                    FatalCommClosedError(f"the scheduler at {self.address} turned this client away: {reason}")
                )
                return
            self._enter(connection, answer)
            welcome.set_result(None)
            if messages[1:]:
                self._on_messages(connection, messages[1:])

        def on_closed(error: BaseException | None) -> None:
            if not welcome.done():
                text = f"the scheduler at {self.address} closed the connection before it let this client in"
                welcome.set_exception(CommClosedError(text if error is None else f"{text}: {error}"))

        connection.on_messages = on_first
        connection.add_on_closed(on_closed)
        first = self.registered is None
        stream = self._stream
        session = "" if first else stream.id
        connection.send(RegisterClient(self.id, _versions_for(connection), self.name, session, stream.end.applied))
        try:
            async with asyncio.timeout_at(deadline):
                await welcome
            if first and self.registered is not None and self.registered.warning:
                warnings.warn(self.registered.warning, defaults.load(_MISMATCH), stacklevel=2)
        except TimeoutError:
            connection.abort()
            raise TimeoutError(f"the scheduler at {self.address} has not answered within {timeout:g} s") from None
        except BaseException:
            connection.abort()
            raise

    def _enter(self, connection: Connection, registered: Registered) -> None:
        """The scheduler has let us in: go on with the session, or begin one."""
        first = self.registered is None
        with self.sending:
            back = (
                not first and registered.session == self._stream.id and self._stream.end.can_resume(registered.applied)
            )
            if not first and not back:
                self._stream = SessionLink(session_buffer())
            self._stream.id = registered.session
            self._stream.attach(connection, registered.applied if back else 0)
        self.registered = registered
        self.down_since = None
        self.last_heard = asyncio.get_running_loop().time()
        connection.on_messages = lambda messages: self._on_messages(connection, messages)
        connection.add_on_closed(lambda error: self._on_closed(connection, error))
        over = None if first else "" if back else registered.ended or "the scheduler does not know it"
        self._owner.on_up(registered, over)

    # -- when it breaks ------------------------------------------------------------------------------------------------

    def _on_closed(self, connection: Connection, error: BaseException | None) -> None:
        if self._stream.connection is not connection:
            return
        with self.sending:
            self._stream.detach()
        if self._closing:
            return
        if self._ending is not None:
            self._owner.on_over(self._ending)
            return
        loop = asyncio.get_running_loop()
        self.down_since = loop.time()
        self.problem = str(error or "") or "the connection was closed"
        self._reconnecting = loop.create_task(self._reconnect(self.down_since))
        self._owner.on_down()

    async def _reconnect(self, since: float) -> None:
        loop = asyncio.get_running_loop()
        grace_s = 0.0 if self.registered is None else self.registered.grace_s
        limit = max(registry.connect_timeout(), grace_s)
        logger.info("Lost the scheduler at %s (%s); looking for it for %g s", self.address, self.problem, limit)
        warning = loop.call_later(PATIENCE_S, self._warn, limit)
        pause = FIRST_PAUSE_S
        try:
            while True:
                left = since + limit - loop.time()
                try:
                    await self._connect(left, retry_refused_s=left)
                    away_s = loop.time() - since
                    log = logger.warning if away_s > PATIENCE_S else logger.info
                    log("Connected again to the scheduler at %s after %.1f s", self.address, away_s)
                    return
                except FatalCommClosedError as e:
                    self.problem = str(e)
                    break
                except (OSError, TimeoutError) as e:
                    self.problem = str(e)
                if loop.time() + pause >= since + limit:
                    break
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(MAX_PAUSE_S, pause * 2)
        finally:
            warning.cancel()
        away = f"the scheduler at {self.address} could not be reached for {loop.time() - since:.1f} s: {self.problem}"
        logger.warning("Gave up: %s", away)
        if not self._closing:
            self._owner.on_over(away)

    def _warn(self, limit: float) -> None:
        logger.warning(
            "The scheduler at %s has been away for %g s (%s). Futures stay pending until it is back, for at most %g s.",
            self.address,
            PATIENCE_S,
            self.problem,
            limit,
        )

    # -- the stream ----------------------------------------------------------------------------------------------------

    def send(self, messages: list[Any], ask: bool = False) -> None:
        """Send now, or when the connection stands again. ``ask``: have the scheduler say how far it is."""
        with self.sending:
            self._stream.send(messages, ask)

    @property
    def sends_from_threads(self) -> bool:
        """Whether ``send_past`` can be called."""
        connection = self._stream.connection
        return connection is not None and connection.comm.sends_from_threads and not connection.closed and not self.full

    def send_past(self, messages: list[Any], sent: Callable[[int], None]) -> None:
        """Send now, from any thread that holds ``sending`` (where ``sends_from_threads``); ``sent`` takes their number,
        also when the thread is interrupted meanwhile (Ctrl-C), once they belong to the session."""
        stream = self._stream
        before = stream.end.sent
        try:
            if messages:
                stream.send_past(messages)
        finally:
            sent(stream.end.sent - before)

    def beat(self) -> None:
        """A sign of life, which the scheduler answers."""
        if self.connection is not None:
            self.send([ClientHeartbeat()], ask=True)

    def _on_messages(self, connection: Connection, messages: list[Any]) -> None:
        self.last_heard = asyncio.get_running_loop().time()
        with self.sending:
            fresh = self._stream.receive(connection, messages)
        self._owner.on_messages(fresh)

    def expect_end(self, reason: str) -> None:
        """The scheduler has said that it ends: when the connection closes there will be no other one."""
        self._ending = reason

    # -- questions -----------------------------------------------------------------------------------------------------

    async def call(self, op: str, kwargs: dict[str, Any], status: str) -> Any:
        """Ask the scheduler. Raises :class:`ClosedClientError` when there is no connection and none will come."""
        while True:
            if self.connection is None and self._reconnecting is not None and not self._closing:
                await asyncio.shield(self._reconnecting)
            connection = self.connection
            if connection is None:
                raise ClosedClientError(f"the client is {status}: it cannot ask the scheduler for {op!r}")
            self._owner.before_question(op)
            try:
                return await connection.request(op, kwargs)
            except CommClosedError as e:
                if not connection.closed or self._closing or self._ending is not None:
                    raise
                if op not in REPEATABLE:
                    raise CommClosedError(
                        f"the connection to the scheduler broke before it answered {op!r}, so it is not known whether "
                        f"that was done ({e}). The client connects again by itself: ask again if that does no harm"
                    ) from e

    # -- ending --------------------------------------------------------------------------------------------------------

    def say_goodbye(self) -> None:
        """The client ends: what only it wants may be released at once."""
        self._closing = True
        connection = self.connection
        if connection is not None and not connection.closed:
            with contextlib.suppress(CommClosedError):
                self.send([ClientClosing()])

    async def close(self, timeout: float) -> None:
        """After :meth:`say_goodbye`: send what waits, and end. Idempotent."""
        self._closing = True
        self.down_since = None
        task = self._reconnecting
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        connection = self.connection
        self._stream.detach()
        if connection is not None:
            await connection.close(timeout)


def _versions_for(connection: Connection) -> dict[str, Any]:
    """What runs here, for a scheduler that may have something else."""
    if connection.same_process:
        return {}
    found: dict[str, Any] = defaults.load(_VERSIONS)()  # reads package metadata: not for everyone
    return found
