"""One client's futures, outgoing queue and link with the scheduler, put together.

User threads only write: a message on the outgoing queue, a dead future on the list of drops, and one wake-up of the
loop for however many. The loop drains both in order, and waits when the scheduler is too slow to take more; then
submitting threads wait too. Shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from distributed.base.daemon_pool import DaemonThreadPool
from distributed.base.errors import CommClosedError
from distributed.base.keys import Key, user_key
from distributed.client.future_table import FutureState, FutureTable, Ready, run_ready
from distributed.client.outgoing import Outgoing
from distributed.client.scheduler_link import ClosedClientError, SchedulerLink
from distributed.messages.client_to_scheduler import (
    CancelKeys,
    FireAndForget,
    ReleaseKeys,
    RetryKeys,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.control import Registered
from distributed.messages.scheduler_to_client import (
    EventLogged,
    KeyInMemory,
    NoWorkerForTasks,
    SchedulerClosing,
    SessionNews,
    SessionReply,
)
from distributed.messages.scheduler_to_worker import PeerLost
from distributed.protocol.serialize import pack_error
from distributed.rpc.connection import Connection
from distributed.rpc.loop_runner import sync
from distributed.rpc.pool import ConnectionPool

__all__ = ["RUNNING", "ClosedClientError", "Session"]

logger = logging.getLogger("distributed.client")

MAX_PENDING_BYTES = 16 << 20
"""No more is handed to the socket while the scheduler has so much not yet taken."""
TASKS_A_TURN = 2_000
BYTES_A_TURN = 8 << 20
"""What is sent per turn of the loop, so that answers are taken in meanwhile, and the limits above mean something."""
RELEASE_AFTER_S = 0.02
"""A key is given up one to two times so long after its last future has died, together with all others of that time, or
before the next question; a function that is run on the workers next still finds the value."""
RELEASE_SOON_NBYTES = 1 << 20
"""A value from this size on is given up with the next message of any kind."""

RUNNING = "running"
LOST = "scheduler-connection-lost"
"""Why futures are cancelled when the scheduler has gone, or has forgotten this client."""


class Requests(Protocol):
    """Who has posted ``SessionRequest`` messages, and waits for what becomes of them."""

    def answered(self, reply: SessionReply) -> None:
        """One is answered."""

    def on_news(self, news: SessionNews) -> None:
        """The scheduler says something about them."""

    def forget(self) -> Callable[[str], None]:
        """The session is over: the others will not be. Called with the table's lock held; call what it returns with the
        reason, without the lock."""


class Session:
    """What the workers of this room share: the table of futures, and the way to the scheduler.

    Attributes
    ----------
    status : ``newly-created``, ``connecting``, ``running``, ``closing`` or ``closed``
    live : values go to the workers as the objects they are, because all of them are in this process
    shares_memory : the scheduler is in this process, the workers are not
    """

    def __init__(self, client_id: str, name: str = "") -> None:
        self.id = client_id
        self.status = "newly-created"
        self.table = FutureTable()
        self.table.on_given_up = self._release_given_up
        self.outgoing = Outgoing()
        self.link = SchedulerLink(client_id, name, self)
        self.live = False
        self.shares_memory = False
        self.pool: ConnectionPool = ConnectionPool(role="client")
        self.actor_links: dict[str, Any] = {}
        self.on_event: Callable[[EventLogged], None] | None = None
        self.on_lost: Callable[[], Any] | None = None
        self.on_new_session: Callable[[], Any] | None = None
        self.requests: Requests | None = None
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[None] | None = None
        self._thread = 0
        self._drops: deque[FutureState] = deque()
        self._awake = False
        self._lingering = False
        self._n_old_drops = 0  # those that are given up at the next turn
        self._large_dropped = False
        self._draining = False
        self._heartbeat: asyncio.TimerHandle | None = None
        self._heartbeat_s = 5.0
        self._callbacks: DaemonThreadPool | None = None
        self._callbacks_lock = threading.Lock()

    # -- used from any thread ------------------------------------------------------------------------------------------

    @property
    def address(self) -> str | None:
        """The scheduler's."""
        return self.link.address

    @property
    def connection(self) -> Connection | None:
        """To the scheduler; None while there is none."""
        return self.link.connection

    @property
    def is_open(self) -> bool:
        """Whether things can be sent, now or when the scheduler is back."""
        return self.status == RUNNING or self.status == "connecting"

    def check_open(self, what: str = "update-graph") -> None:
        """Raise :class:`ClosedClientError` unless things can be sent."""
        if not self.is_open:
            raise ClosedClientError(f"the client is {self.status}: it cannot send {what!r}")

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop on which the client runs. Raises :class:`ClosedClientError` before it is connected."""
        if self._loop is None:
            raise ClosedClientError(f"Client is {self.status}.")
        return self._loop

    def on_loop_thread(self) -> bool:
        """Whether the caller must not block, because the loop runs in this thread."""
        return self._thread == threading.get_ident()

    def wake(self) -> None:
        """Have the loop look at the queues, once for however many calls."""
        if not self._awake:
            self._awake = True
            loop = self._loop
            if loop is None or self.status == "closed":
                self._awake = False
                return
            try:
                if self._thread == threading.get_ident():
                    loop.call_soon(self._flush)
                else:
                    loop.call_soon_threadsafe(self._flush)
            except RuntimeError:  # the loop is closed
                self._awake = False

    def post(self, message: Struct) -> None:
        """Send a stream message, after everything posted before."""
        self.outgoing.add(message)
        self.wake()

    def send_here(self) -> None:
        """Send what is queued from the calling thread, which is to wait for the answer next: that saves two changes of
        the thread. Where that cannot be, or it is much, have the loop do it."""
        if self._thread != threading.get_ident() and self.link.sends_from_threads and not self._draining:
            with self.link.sending:
                requests = self.outgoing.few_requests() if self.link.sends_from_threads else None
                if requests is not None:
                    self.link.send_past(requests, self.outgoing.drop_first)
                    return
        self.wake()

    def make_room(self) -> None:
        """Wait while too many tasks are queued (not on the loop's own thread, which has to send them)."""
        if self.outgoing.crowded and not self.on_loop_thread():
            self.outgoing.make_room(lambda: self.is_open)

    def want(self, key: Key) -> FutureState:
        """The state of a key that was not submitted here and now; its count is one higher."""
        self.check_open("want-keys")
        with self.table.lock:
            state, new = self.table.hold(key)
            if new:
                self.outgoing.add(WantKeys([key]))
        if new:
            self.wake()
        return state

    def settle(self) -> None:
        """Have the scheduler know all that was submitted here, as far as the calling thread may wait for that."""
        if self.on_loop_thread():
            self._send_some()
        elif self.is_open:
            sync(self.loop, self.call, "ping", callback_timeout=10)

    def drop(self, state: FutureState) -> None:
        """A Future of this state has died. Takes no lock: may be called by the collector at any point."""
        if self.status != "closed":
            self._drops.append(state)
            if state.nbytes >= RELEASE_SOON_NBYTES:
                self._large_dropped = True
            if not self._lingering:
                self._linger()

    def _linger(self) -> None:
        loop = self._loop
        if loop is None:
            return  # on_up does it
        self._lingering = True
        try:
            if self._thread == threading.get_ident():
                # Not at once: the collector may have come amid the loop's own work on its timers.
                loop.call_soon(loop.call_later, RELEASE_AFTER_S, self._release_old)
            else:
                loop.call_soon_threadsafe(loop.call_later, RELEASE_AFTER_S, self._release_old)
        except RuntimeError:  # the loop is closed
            self._lingering = False

    def _release_old(self) -> None:
        """Give up the keys that had been dropped at the last turn already."""
        self._lingering = False
        self.release_dropped(self._n_old_drops)
        self._n_old_drops = len(self._drops)
        if self._n_old_drops:
            self._linger()
        if self.outgoing and not self._awake:
            self.wake()

    def cancel(self, keys: list[Key], force: bool, reason: str, msg: str) -> None:
        """Stop these tasks; their futures are cancelled at once."""
        self.check_open("cancel-keys")
        with self.table.lock:
            self.outgoing.add(CancelKeys(keys, force, reason, msg))
        run_ready(self.table.cancel(keys, reason, msg))
        self.wake()

    def retry(self, keys: list[Key]) -> None:
        """Run failed tasks again; their futures are pending at once."""
        self.check_open("retry-keys")
        again = self.table.retry(keys)
        if again:
            self.post(RetryKeys(again))

    def fire_and_forget(self, keys: list[Key]) -> None:
        """Have these run although nobody holds them."""
        self.check_open("fire-and-forget")
        self.post(FireAndForget(keys))

    def run_callback(self, fn: Callable[[Any], Any], future: Any) -> None:
        """Run a user's callback in the client's callback thread."""
        executor = self._callbacks
        if executor is None:
            with self._callbacks_lock:
                if self._callbacks is None:
                    self._callbacks = DaemonThreadPool(1, "Future-callbacks")
                executor = self._callbacks
        try:
            executor.submit(_call_back, fn, future)
        except RuntimeError:  # the client is closed: what comes now is the news of that
            _call_back(fn, future)

    @property
    def is_foreign_process(self) -> bool:
        """Whether this is a fork of the process that made the client."""
        return self._pid != os.getpid()

    # -- on the loop: life ---------------------------------------------------------------------------------------------

    def begin(self, address: str | None) -> None:
        """From now on things may be submitted, which wait for :meth:`open`; so do questions."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._opened = self._loop.create_future()
        # Until it is known, what is packed must be right wherever the scheduler turns out to be.
        self.live = address is not None and address.startswith("inproc://")
        self.shares_memory = not self.live
        self.status = "connecting"

    def fail(self, error: BaseException) -> None:
        """There will be no connection: what waits for it is told so."""
        if self.status == "closed":
            return
        text = str(error) or type(error).__name__
        if self._opened is not None:
            self._cancel_all(LOST, f"the client could not connect to a scheduler: {text}")
        self.status = "closed"
        self._end_opening()

    def _end_opening(self) -> None:
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    async def open(
        self,
        address: str,
        timeout: float,
        secret: Any,
        heartbeat_s: float,
        retry_refused_s: float = 0,
        security: Any = None,
    ) -> None:
        """Connect and register. Raises OSError or TimeoutError when that fails."""
        if self._opened is None:
            self.begin(address)
        self._heartbeat_s = heartbeat_s
        try:
            self.pool.security = security
            await self.link.open(address, timeout, secret, retry_refused_s, security)
        except BaseException as e:
            self.fail(e)
            with contextlib.suppress(Exception):
                await self.pool.close()
            raise
        self._end_opening()
        self._beat()

    def on_up(self, registered: Registered, over: str | None) -> None:
        """The link stands. An earlier session that is over takes its futures with it."""
        # The scheduler's own idea of its address is the one that workers know, too.
        self.live = (registered.scheduler or self.address or "").startswith("inproc://")
        self.shares_memory = self.connection is not None and self.connection.same_process and not self.live
        self.status = RUNNING
        if over:
            self._cancel_all(LOST, f"the session with the scheduler is over: {over}")
            if self.on_new_session is not None:
                self.on_new_session()
        if self._drops and not self._lingering:
            self._linger()
        self._flush()

    def on_down(self) -> None:
        """The connection broke; futures wait until it stands again."""
        if self.status == RUNNING:
            self.status = "connecting"

    def on_over(self, reason: str) -> None:
        """The scheduler is gone for good."""
        if not self.is_open:
            return
        self._cancel_all(LOST, reason)
        self.status = "closing"
        if self.on_lost is not None:
            self.on_lost()

    def _beat(self) -> None:
        if self._loop is not None and self.is_open:
            self.link.beat()
            self.pool.look()
            self._heartbeat = self._loop.call_later(self._heartbeat_s, self._beat)

    def _cancel_all(self, reason: str, text: str) -> None:
        with self.link.sending, self.table.lock:
            # At once with the states, so that nothing submitted meanwhile is half here.
            self.outgoing.forget()
            self._drops.clear()
            ready = self.table.cancel_all(reason, text)
            tell_askers = None if self.requests is None else self.requests.forget()
        if tell_askers is not None:
            tell_askers(text)
        self.outgoing.call_crowd()
        self._apply_ready(ready)

    async def close(self, timeout: float = 5.0, reason: str = "client-closed") -> None:
        """Say good-bye and cancel what is pending. Idempotent."""
        if self.status == "closed":
            return
        if self.status == RUNNING:
            self._send_all()
        self.status = "closing"
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self.link.say_goodbye()
        self._cancel_all(reason, "the client is closed")
        await self.link.close(timeout)
        with contextlib.suppress(Exception):
            await self.pool.close()
        self.status = "closed"
        self._end_opening()
        if self._callbacks is not None:
            self._callbacks.shutdown(wait=False)

    def say_goodbye(self) -> None:
        """The program ends, and the loop runs no more: send what is queued, and the good-bye, as far as they leave at
        once."""
        if self.status == RUNNING:
            self._send_all()
            self.link.say_goodbye()
        self.status = "closed"

    # -- on the loop: sending ------------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        while self.outgoing or self._drops:
            self._send_some()

    def _flush(self) -> None:
        self._awake = False
        connection = self.connection
        # Without a connection, and while the scheduler is behind, things wait here: on_up and on_messages come back.
        if connection is None or self._draining or self.link.full:
            return
        if self._large_dropped:
            self.release_dropped()
        self._send_batch()
        if not self.outgoing:
            return
        assert self._loop is not None
        if connection.pending_bytes > MAX_PENDING_BYTES:
            self._draining = True
            self._drainer = self._loop.create_task(self._drain(connection))
        elif not self._awake:
            self._awake = True
            self._loop.call_soon(self._flush)

    async def _drain(self, connection: Connection) -> None:
        try:
            await connection.drain()
        except CommClosedError:
            pass
        finally:
            self._draining = False
        self._flush()

    def _send_some(self) -> None:
        self.release_dropped()
        self._send_batch()

    def _send_batch(self) -> None:
        with self.link.sending:  # in the order in which they are taken
            batch = self.outgoing.take(TASKS_A_TURN, BYTES_A_TURN)
            if batch:
                self.link.send(batch)

    def release_dropped(self, limit: int | None = None) -> None:
        """Give up now what nobody holds any more (the first ``limit``), so that the same key is a new task."""
        drops = self._drops
        if not drops:
            return
        if limit is None:
            self._large_dropped = False
        dead: list[FutureState] = []
        with contextlib.suppress(IndexError):
            while limit is None or len(dead) < limit:
                dead.append(drops.popleft())
        with self.table.lock:
            released = self.table.drop(dead)
            if released:
                self.outgoing.add(ReleaseKeys(released))

    # -- on the loop: receiving ----------------------------------------------------------------------------------------

    def on_messages(self, messages: list[Any]) -> None:
        """News of the scheduler."""
        self._apply_ready(self.table.apply(messages))
        for message in messages:
            if type(message) is KeyInMemory:
                continue  # as nearly always: the table has it
            if type(message) is EventLogged:
                if self.on_event is not None:
                    self.on_event(message)
            elif type(message) is PeerLost:
                self.pool.remove(message.worker)  # who waits for an answer of it would wait for ever
            elif type(message) is NoWorkerForTasks:
                logger.warning(
                    "No worker can take %d task(s), %r among them: %s. They wait for one that can.",
                    message.n_tasks,
                    user_key(message.keys[0]),
                    message.reason,
                )
            elif type(message) is SessionReply:
                if self.requests is not None:
                    self.requests.answered(message)
            elif type(message) is SessionNews:
                if self.requests is not None:
                    self.requests.on_news(message)
            elif type(message) is SchedulerClosing:
                self.link.expect_end(message.reason)
        if self.outgoing and not self._awake:
            self.wake()

    def _release_given_up(self, keys: list[Key]) -> None:
        self.outgoing.add(ReleaseKeys(keys))

    def on_unsendable(self, message: Any, error: Exception) -> None:
        """Futures of tasks that cannot be sent fail here."""
        if type(message) is not UpdateGraph:
            return
        for spec in message.tasks:
            state = self.table.states.get(spec.key)
            if state is not None and not state.done:
                self._apply_ready(self.table.fail_here(state, pack_error(error)))

    def _apply_ready(self, ready: Ready) -> None:
        for callback, state in ready:
            try:
                callback(state)
            except Exception:
                logger.exception("Error in a callback of %r", state.key)

    # -- on the loop: questions ----------------------------------------------------------------------------------------

    async def call(self, op: str, /, **kwargs: Any) -> Any:
        """Ask the scheduler. Raises :class:`ClosedClientError` when the client is closed."""
        if self._opened is not None and not self._opened.done():
            await asyncio.wait([self._opened])  # which is not cancelled with us
        return await self.link.call(op, kwargs, self.status)

    def before_question(self, op: str) -> None:
        """What was submitted and given up before the question is there before it; a function that is run on the workers
        (``broadcast``) still finds the values there."""
        if op == "broadcast":
            self._send_batch()
        else:
            self._send_some()


def _call_back(fn: Callable[[Any], Any], future: Any) -> None:
    try:
        fn(future)
    except Exception:
        logger.exception("Error in callback %r of %r", fn, future)
