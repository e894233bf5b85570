"""The link of a worker or nanny to its scheduler, which goes on over another connection when one breaks. Shell.

While there is none, what is said is kept (``rpc.counted``), and the scheduler is looked for: for
:data:`PATIENCE` times as long as it waits for us, since one who comes too late is told to start anew. Where its machine
answers that nobody listens: only for :data:`NOBODY_THERE_S`; or, when the connection had been reset, for as long as it
waits for us, since a firewall that rejects gives both. One that is silent although asked is looked for
too, by a second connection; the first stays until that stands.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import structs

from distributed.base.errors import CommClosedError, HandshakeRefused
from distributed.comm.knock import was_cut
from distributed.messages.control import Applied, Registered, SchedulerEnds
from distributed.messages.worker_to_scheduler import TaskFinished
from distributed.rpc.connection import Connection
from distributed.rpc.counted import CountedLink
from distributed.rpc.session import session_buffer
from distributed.worker.registration import introduce

logger = logging.getLogger("distributed.worker")

FIRST_PAUSE_S, MAX_PAUSE_S = 0.02, 1.0
ATTEMPT_S = 5.0
"""How long one try may take: packets that were lost are sent again later and later."""
PATIENCE = 3.0
NOBODY_THERE_S = 5.0
MOST_REFUSALS = 3
"""Where bytes change on the way, the right secret looks wrong now and then."""
REPEATABLE = frozenset(
    """echo identity ncores nthreads ping relay_data set_resources
    shuffle_barrier shuffle_check shuffle_get who_has""".split()  # noqa: SIM905
)
"""Questions that may be asked twice."""
ASK_S = 2.0
SILENT_S = 6.0


class MemberLink:
    """The link of one worker or nanny. Everything is called on the loop's thread.

    Parameters
    ----------
    who
        For log lines: ``worker at ...``.
    open_connection
        Connects within so many seconds; raises what ``comm.connect`` does.
    on_messages
        Takes what the scheduler says, each message once and in order.
    on_over
        Told why there will be no other connection, and whether the scheduler has given us up (then a new process may
        take our place).
    begins_anew
        When the scheduler does not know the session any more another one begins; else that is the end.
    limit_s
        The scheduler is looked for at most so long (``death_timeout``).
    """

    def __init__(
        self,
        who: str,
        open_connection: Callable[[float], Awaitable[Connection]],
        on_messages: Callable[[list[Any]], None],
        on_over: Callable[[str, bool], None],
        begins_anew: bool = False,
        limit_s: float | None = None,
    ) -> None:
        self.who = who
        self.down_since: float | None = None
        self._open = open_connection
        self._take_in = on_messages
        self._on_over = on_over
        self._begins_anew = begins_anew
        self._limit_s = math.inf if limit_s is None else limit_s
        self._link = CountedLink(session_buffer())
        self._first: Any = None
        self._grace_s = 0.0
        self._has_session = False
        self._ending = False
        self._returning: asyncio.Task[None] | None = None
        self._nobody_there_s = NOBODY_THERE_S
        self.latency_s = 0.0
        self._asked_at = 0.0
        self._awaits_answer = False
        self._seen_bytes = 0
        self._silent_since: float | None = None
        self._silent_beats = 0

    # -- facts: latency_s is how long the scheduler took to say how far it is, the last time that it was asked

    @property
    def connection(self) -> Connection | None:
        """The one that stands now."""
        return self._link.connection

    @property
    def stands(self) -> bool:
        """Whether what is sent leaves now."""
        return self._link.stands

    @property
    def _patience_s(self) -> float:
        return min(PATIENCE * self._grace_s, self._limit_s)

    @property
    def counts(self) -> dict[str, int]:
        """How often the session went on over a new connection, and messages sent again."""
        return {"resumed": max(0, self._link.end.n_resumed), "resent": self._link.end.n_resent}

    # -- the stream

    def begin(self, connection: Connection, first: Any, registered: Registered) -> None:
        """The scheduler has let us in, over this connection, upon ``first``."""
        self._first = first
        self._grace_s = registered.grace_s
        self._has_session = bool(registered.session) and registered.grace_s > 0
        self._link.id = registered.session
        self._attach(connection, 0)

    def _attach(self, connection: Connection, applied: int) -> None:
        self._link.attach(connection, applied)
        self.down_since = None
        self._seen_bytes, self._silent_beats, self._silent_since = connection.comm.received_bytes, 0, None
        connection.name = "scheduler"
        connection.on_messages = lambda messages: self._receive(connection, messages)
        connection.add_on_closed(lambda error: self._on_closed(connection, error))

    def send(self, messages: list[Any], delay_s: float = 0.0) -> None:
        """Send now (or within ``delay_s``), or when there is a connection again."""
        link = self._link
        if not link.stands and link.end.unacknowledged_bytes > link.end.limit_bytes // 4:
            messages = [_without_value(message) for message in messages]
        link.send(messages, delay_s)

    def _receive(self, connection: Connection, messages: list[Any]) -> None:
        fresh = self._link.receive(connection, messages)
        if fresh:
            self._take_in(fresh)

    async def ask(self, op: str, kwargs: dict[str, Any], timeout: float | None = None) -> Any:
        """Ask the scheduler, when there is a connection; again over the next one, if that does no harm."""
        while True:
            connection = self._link.connection
            if connection is None and self._returning is not None:
                await asyncio.shield(self._returning)
                connection = self._link.connection
            if connection is None:
                raise CommClosedError(f"{self.who} has no connection to a scheduler, so it cannot ask for {op!r}")
            try:
                return await connection.request(op, kwargs, timeout)
            except CommClosedError:
                if op not in REPEATABLE or self._link.connection is connection or self._ending:
                    raise

    async def catch_up(self, number: int | None) -> None:
        """Return when the scheduler's messages up to this one are here, or will never come; None: all that it has sent.

        It is asked a question, which it answers behind them: so a number that is too high does not make us wait for
        what does not exist. Raises CommClosedError when there is no scheduler any more.
        """
        if number is None or self._link.end.applied < number:
            await self.ask("ping", {})

    def on_control(self, message: Applied | SchedulerEnds) -> None:
        """A message about the link itself."""
        if type(message) is Applied:
            self._link.on_applied(message)
            if self._awaits_answer:
                self._awaits_answer = False
                self.latency_s = asyncio.get_running_loop().time() - self._asked_at
        else:
            self._ending = True

    def beat(self) -> None:
        """Called again and again: has the scheduler say now and then how far it is, and looks for it when it is
        silent for too long."""
        link = self._link
        connection = link.connection
        if connection is None or not link.stands or not self._has_session:
            return
        now = asyncio.get_running_loop().time()
        received = connection.comm.received_bytes
        if received != self._seen_bytes:
            self._seen_bytes, self._silent_beats, self._silent_since = received, 0, None
        else:
            self._silent_beats += 1
            self._silent_since = self._silent_since or now
            # (Our own loop may have stood still: one beat is not enough.)
            if self._silent_beats > 2 and now - self._silent_since > SILENT_S and self._returning is None:
                logger.info("The scheduler does not answer: trying another connection")
                self._return_from("it was silent", connection)
        if now - self._asked_at >= ASK_S:
            self._asked_at = now
            self._awaits_answer = True
            link.tell(ask=True)

    # -- when it breaks

    def _on_closed(self, connection: Connection, error: BaseException | None) -> None:
        link = self._link
        if link.connection is not connection:
            return
        link.detach()
        why = str(error or "") or "it was closed"
        if self._ending or not self._has_session:
            self._over(why, False)
            return
        self._nobody_there_s = max(NOBODY_THERE_S, self._grace_s) if was_cut(error) else NOBODY_THERE_S
        self.down_since = asyncio.get_running_loop().time()
        logger.info("Lost the scheduler (%s); looking for it for %g s", why, self._patience_s)
        if self._returning is None:
            self._return_from(why, None)

    def _return_from(self, why: str, silent: Connection | None) -> None:
        self._returning = asyncio.get_running_loop().create_task(self._return(why, silent))

    async def _return(self, why: str, silent: Connection | None) -> None:
        try:
            await self._try_to_return(why, silent)
        except Exception as error:
            logger.exception("Looking for the scheduler has failed")
            self._returning = None
            self._over(str(error), False)
        finally:
            self._returning = None

    async def _try_to_return(self, why: str, silent: Connection | None) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        pause = FIRST_PAUSE_S
        refused_since: float | None = None
        n_refusals = 0
        while not self._ending:
            stands = silent is not None and self._link.connection is silent
            if stands and self._silent_since is None:
                return  # it speaks again
            try:
                if await self._come_back():
                    return
                refused_since = None
            except ConnectionRefusedError as error:
                why = str(error)
                refused_since = refused_since or loop.time()
            except HandshakeRefused as error:
                why = str(error)
                n_refusals += 1
            except (OSError, TimeoutError) as error:
                why = str(error)
                refused_since = None
            except ValueError as error:
                self._over(str(error), True)
                return
            if stands:  # who is only silent will speak some time
                refused_since, n_refusals, deadline = None, 0, loop.time() + self._patience_s
            nobody = refused_since is not None and loop.time() - refused_since > self._nobody_there_s
            if nobody or n_refusals >= MOST_REFUSALS or loop.time() + pause >= deadline:
                break
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(MAX_PAUSE_S, pause * 2)
        if not self._ending:
            self._over(why, False)

    async def _come_back(self) -> bool:
        """One try. Raises ValueError when the scheduler does not want us any more."""
        link = self._link
        connection = await self._open(ATTEMPT_S)
        # Who has taken this one will read the other no more; what came over it is counted.
        old = link.connection
        link.detach()
        if old is not None:
            self.down_since = asyncio.get_running_loop().time()
            old.abort()
        if self._ending:
            connection.abort()
            return True
        first = structs.replace(self._first, session=link.id, applied=link.end.applied)
        registered = await introduce(connection, first, ATTEMPT_S)
        applied = registered.applied
        if registered.session != link.id or not link.end.can_resume(applied):
            if not self._begins_anew:
                connection.abort()
                raise ValueError("the scheduler does not know this session any more")
            link = self._link = CountedLink(session_buffer(), registered.session)
            applied = 0
        self._attach(connection, applied)
        logger.info("Connected again to the scheduler (%d messages sent again so far)", link.end.n_resent)
        return True

    # -- the end

    def _over(self, why: str, fenced: bool) -> None:
        if not self._ending or not fenced:
            self._on_over(why, fenced)

    def stop(self) -> None:
        """We end: no other connection is looked for."""
        self._ending = True
        task = self._returning
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def close(self, timeout: float) -> None:
        """After :meth:`stop`: send what waits, and end."""
        connection = self._link.connection
        if connection is not None:
            await connection.close(timeout)


def _without_value(message: Any) -> Any:
    """The value stays here, and is fetched when it is asked for."""
    if type(message) is TaskFinished and message.inline is not None and message.unshippable is None:
        return structs.replace(message, inline=None)
    return message
