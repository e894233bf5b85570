"""The scheduler's end: requests to the tables, answers to the clients, deadlines by one timer. Shell.

Requests and answers are numbered messages of a client's session, so they survive a broken connection; a request that
waits costs a small object, no task. When the session is over, its requests leave their lines, and what the client holds
is free.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from distributed.base import settings
from distributed.coordination.lease_setting import lease_timeout_s
from distributed.coordination.tables import Tables
from distributed.messages.client_to_scheduler import ReleaseKeys, SessionRequest, WantKeys
from distributed.messages.scheduler_to_client import SessionNews, SessionReply
from distributed.protocol.plain import dumps_plain, loads_plain
from distributed.protocol.serialize import pack_error
from distributed.scheduler.deadline_timer import DeadlineTimer
from distributed.scheduler.state_machine.events import ClientJoined, ClientLeft

logger = logging.getLogger("distributed.coordination")

_HOLDER = "coordination"
"""The mute client that wants the keys of futures in queues, variables and mailboxes."""
_QUIET_S = 0.01
"""Answers for which nobody waits leave with the next that somebody waits for, or after so long."""


class Coordination:
    """The coordination tables of one scheduler, open to its peers.

    Parameters
    ----------
    scheduler
        Gets each table under its name in ``extensions``.
    """

    def __init__(self, scheduler: Any) -> None:
        interval = settings.parse_timedelta(
            settings.get("distributed.scheduler.locks.lease-validation-interval", "10s")
        )
        self.tables = tables = Tables(lease_timeout_s(), max(0.001, float(interval)))
        self._scheduler = scheduler
        self._shell = scheduler.shell
        self._timer = DeadlineTimer(tables.next_deadline, self._on_due)
        self._replies: dict[str, list[SessionNews | SessionReply]] = {}
        self._awaited: dict[str, None] = {}  # clients for which there is something that does not wait for other answers
        self._sends_later = False
        scheduler.extensions.update(
            semaphores=tables.semaphores,
            multi_locks=tables.multi_locks,
            events=tables.events,
            queues=tables.queues,
            variables=tables.variables,
            pubsub=tables.pubsub,
        )
        self._shell.on_requests = self.receive
        self._shell.effects.on_client_gone.append(self.client_gone)

    def receive(self, client: str, requests: list[SessionRequest]) -> None:
        """Requests of one client."""
        now = self._shell.now()
        for request in requests:
            try:
                self._take_in(client, request, now)
            except Exception as e:
                self._answer(client, request.number, e, False)
        self._act()

    def _take_in(self, client: str, request: SessionRequest, now: float) -> None:
        op = request.op
        if op in self._scheduler.blocked_handlers:
            raise ValueError(f"the operation {op!r} is blocked on the scheduler (blocked_handlers)")
        kwargs = loads_plain(request.body, unpickle=False)
        waiter = self.tables.waiters.new(client, request.number, kwargs.pop("timeout", None))
        waiter.quiet = request.quiet
        self.tables.request(op, waiter, now, **kwargs)

    def client_gone(self, client: str) -> None:
        """What the client waits for and holds is free."""
        self._replies.pop(client, None)
        self.tables.client_left(client, self._shell.now())
        self._act()

    # -- what the tables have decided ----------------------------------------------------------------------------------

    def _act(self) -> None:
        tables = self.tables
        if tables.held.has_changed:
            self._want(*tables.held.take_changes())
        for client, news in tables.kept.take_news():
            self._replies.setdefault(client, []).append(SessionNews(dumps_plain(news)))
            self._awaited[client] = None
        for waiter, value in tables.waiters.take_answers():
            self._answer(waiter.client, waiter.number, value, waiter.quiet)
        self._send()
        if tables.stale:
            for lease in tables.stale:
                logger.warning("%r has ended: the client has not renewed it for %s s", lease, tables.leases.timeout_s)
            tables.stale.clear()
        self._timer.arm(asyncio.get_running_loop())

    def _answer(self, client: str, number: int, value: Any, quiet: bool) -> None:
        if isinstance(value, Exception):
            reply = SessionReply(number, None, pack_error(value))
        else:
            reply = SessionReply(number, None if value is None else dumps_plain(value))
        self._replies.setdefault(client, []).append(reply)
        if not quiet:
            self._awaited[client] = None

    def _send(self) -> None:
        awaited, self._awaited = self._awaited, {}
        for client in awaited:
            self._shell.streams.to_client(client, self._replies.pop(client))
        if self._replies and not self._sends_later:
            self._sends_later = True
            asyncio.get_running_loop().call_later(_QUIET_S, self._send_rest)

    def _send_rest(self) -> None:
        self._sends_later = False
        if not self._shell.closed:
            self._awaited.update(dict.fromkeys(self._replies))
            self._send()

    def _want(self, want: list[Any], release: list[Any]) -> None:
        shell = self._shell
        if want:
            shell.apply(ClientJoined(_HOLDER, mute=True))
            shell.apply(WantKeys(want), source=_HOLDER)
        if release:
            shell.apply(ReleaseKeys(release), source=_HOLDER)
            if not len(self.tables.held):
                shell.apply(ClientLeft(_HOLDER))

    def _on_due(self, now: float) -> None:
        if not self._shell.closed:
            self.tables.handle_deadline(now)
            self._act()
