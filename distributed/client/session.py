"""The client's link with the scheduler, and everything that goes over it.

User threads only write: a message on the ``outgoing`` queue, a dead future on the list of drops, and one wake-up of
the loop
for however many. The loop drains both in order, merges single submissions into batches, keeps functions from going
twice,
and waits when the scheduler is too slow to take more; then submitting threads wait too. Shell.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from distributed.base import defaults, settings
from distributed.base.errors import CommClosedError
from distributed.base.keys import Key, user_key
from distributed.client.future_table import FutureState, FutureTable, Ready, run_ready
from distributed.comm import registry
from distributed.messages.client_to_scheduler import (
    CancelKeys,
    ClientClosing,
    ClientHeartbeat,
    FireAndForget,
    ReleaseKeys,
    RetryKeys,
    TaskOptions,
    TaskSpec,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.control import Refused, RegisterClient, Registered
from distributed.messages.payload import FunctionBlob
from distributed.messages.scheduler_to_client import EventLogged, NoWorkerForTasks, SchedulerClosing
from distributed.messages.scheduler_to_worker import PeerLost
from distributed.rpc.connection import Connection
from distributed.rpc.loop_runner import sync
from distributed.rpc.pool import ConnectionPool

logger = logging.getLogger("distributed.client")

MAX_QUEUED_TASKS = 20_000
"""Submitting threads wait while more tasks than this have not left the client."""
MAX_PENDING_BYTES = 16 << 20
"""No more is handed to the socket while the scheduler has so much not yet taken."""
TASKS_A_TURN = 2_000
"""Tasks sent per turn of the loop, so that answers are taken in meanwhile."""

RUNNING = "running"
_VERSIONS = "distributed.base.versions:own_versions"
_MISMATCH = "distributed.base.versions:VersionMismatchWarning"


class ClosedClientError(RuntimeError):
    """The client is closed, or not yet connected."""


class Submission:
    """What the parts of one large submission share."""

    __slots__ = ("fifo_timeout_s", "number", "options", "parent", "rank")

    def __init__(self, options: list[TaskOptions], fifo_timeout_s: float, parent: Key | None) -> None:
        self.options = options
        self.fifo_timeout_s = fifo_timeout_s
        self.parent = parent
        self.number = -1
        self.rank = 0


class Part:
    """Some tasks of a :class:`Submission`."""

    __slots__ = ("blobs", "last", "submission", "tasks", "wanted")

    def __init__(
        self,
        submission: Submission,
        tasks: list[TaskSpec],
        blobs: tuple[FunctionBlob, ...],
        last: bool,
        wanted: list[Key] | None = None,
    ) -> None:
        self.submission = submission
        self.tasks = tasks
        self.blobs = blobs
        self.last = last
        self.wanted = wanted


class Session:
    """One client's connection, outgoing queue and table of futures.

    Attributes
    ----------
    status : ``newly-created``, ``connecting``, ``running``, ``closing`` or ``closed``
    live : values go to the workers as the objects they are, because all of them are in this process
    shares_memory : the scheduler is in this process, the workers are not
    """

    def __init__(self, client_id: str, name: str = "") -> None:
        self.id = client_id
        self.name = name
        self.status = "newly-created"
        self.table = FutureTable()
        self.address: str | None = None
        self.live = False
        self.shares_memory = False
        self.registered: Registered | None = None
        self.connection: Connection | None = None
        self.pool: ConnectionPool = ConnectionPool(role="client")
        self.on_event: Callable[[EventLogged], None] | None = None
        self.on_lost: Callable[[], Any] | None = None
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._secret: Any = None
        self._outgoing: deque[Any] = deque()
        self._drops: deque[FutureState] = deque()
        self._awake = False
        self._enqueued = 0  # written with the table's lock held
        self._sent = 0  # written on the loop
        self._room = threading.Condition()
        self._crowd = 0
        self._draining = False
        self._functions: set[bytes] = set()
        self._numbers = itertools.count()
        self._heartbeat: asyncio.TimerHandle | None = None
        self._heartbeat_s = 5.0
        self._callbacks: concurrent.futures.ThreadPoolExecutor | None = None
        self._ending: SchedulerClosing | None = None
        self._reconnecting: asyncio.Task[None] | None = None

    # -- used from any thread ------------------------------------------------------------------------------------------

    def check_open(self, what: str = "update-graph") -> None:
        """Raise :class:`ClosedClientError` unless things can be sent."""
        if self.status != RUNNING and self.status != "connecting":
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
        self._outgoing.append(message)
        self.wake()

    def submit(self, spec: TaskSpec, options: TaskOptions | None, blob: FunctionBlob, fifo: float, parent: Any) -> None:
        """Queue one task. Call with the table's lock held, then call :meth:`wake`."""
        self._outgoing.append((spec, options, blob, fifo, parent))
        self._enqueued += 1

    def submit_part(self, part: Part) -> None:
        """Queue many tasks. Call with the table's lock held, then call :meth:`wake`."""
        self._outgoing.append(part)
        self._enqueued += len(part.tasks)

    def make_room(self) -> None:
        """Wait while too many tasks are queued (not on the loop's own thread, which has to send them)."""
        if self._enqueued - self._sent < MAX_QUEUED_TASKS or self.on_loop_thread():
            return
        with self._room:
            self._crowd += 1
            try:
                while self._enqueued - self._sent > MAX_QUEUED_TASKS // 2 and self.status in (RUNNING, "connecting"):
                    self._room.wait(1.0)
            finally:
                self._crowd -= 1

    def want(self, key: Key) -> FutureState:
        """The state of a key that was not submitted here and now; its count is one higher."""
        self.check_open("want-keys")
        with self.table.lock:
            state, new = self.table.hold(key)
            if new:
                self._outgoing.append(WantKeys([key]))
        if new:
            self.wake()
        return state

    def settle(self) -> None:
        """Have the scheduler know all that was submitted here, as far as the calling thread may wait for that."""
        if self.on_loop_thread():
            self._send_some()
        elif self.status == RUNNING:
            sync(self.loop, self.call, "ping", callback_timeout=10)

    def drop(self, state: FutureState) -> None:
        """A Future of this state has died. Takes no lock: may be called by the collector at any point."""
        if self.status != "closed":
            self._drops.append(state)
            if not self._awake:
                self.wake()

    def cancel(self, keys: list[Key], force: bool, reason: str, msg: str) -> None:
        """Stop these tasks; their futures are cancelled at once."""
        self.check_open("cancel-keys")
        with self.table.lock:
            self._outgoing.append(CancelKeys(keys, force, reason, msg))
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
            with self._room:
                if self._callbacks is None:
                    self._callbacks = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="Future-callbacks")
                executor = self._callbacks
        try:
            executor.submit(_call_back, fn, future)
        except RuntimeError:  # the client is closed: what comes now is the news of that
            _call_back(fn, future)

    # -- on the loop: life ---------------------------------------------------------------------------------------------

    async def open(
        self, address: str, timeout: float, secret: Any, heartbeat_s: float, retry_refused_s: float = 0
    ) -> None:
        """Connect and register. Raises OSError or TimeoutError when that fails."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._secret = secret
        self._heartbeat_s = heartbeat_s
        self.address = address
        self.status = "connecting"
        try:
            await self._connect(timeout, retry_refused_s)
        except BaseException:
            self.status = "closed"
            with contextlib.suppress(Exception):
                await self.pool.close()
            raise
        self._beat()

    async def _connect(self, timeout: float, retry_refused_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        assert self.address is not None
        comm = await registry.connect(
            self.address, timeout, role="client", secret=self._secret, retry_refused_s=min(timeout, retry_refused_s)
        )
        connection = Connection(comm, {}, unpickle=True, owner=self.id)
        welcome: asyncio.Future[Registered] = loop.create_future()

        def on_first(messages: list[Any]) -> None:
            answer = messages[0]
            connection.on_messages = self._on_messages
            if welcome.done():
                return
            if type(answer) is Registered:
                welcome.set_result(answer)
            else:
                reason = answer.reason if isinstance(answer, (Refused, SchedulerClosing)) else f"unexpected {answer!r}"
                welcome.set_exception(
                    CommClosedError(f"the scheduler at {self.address} turned this client away: {reason}")
                )
            if messages[1:]:
                self._on_messages(messages[1:])

        def on_closed(error: BaseException | None) -> None:
            if not welcome.done():
                text = f"the scheduler at {self.address} closed the connection before it let this client in"
                welcome.set_exception(CommClosedError(text if error is None else f"{text}: {error}"))

        connection.on_messages = on_first
        connection.add_on_closed(on_closed)
        connection.send(RegisterClient(self.id, _versions_for(connection), self.name))
        try:
            async with asyncio.timeout_at(deadline):
                registered = await welcome
            if registered.warning:
                warnings.warn(registered.warning, defaults.load(_MISMATCH), stacklevel=2)
        except TimeoutError:
            connection.abort()
            raise TimeoutError(f"the scheduler at {self.address} has not answered within {timeout:g} s") from None
        except BaseException:
            connection.abort()
            raise
        self.registered = registered
        # The scheduler's own idea of its address is the one that workers know, too.
        self.live = (registered.scheduler or self.address or "").startswith("inproc://")
        self.shares_memory = connection.same_process and not self.live
        self.connection = connection
        self._functions.clear()
        self.status = RUNNING
        connection.add_on_closed(self._on_closed)
        self._flush()

    def _beat(self) -> None:
        if self._loop is not None and self.status in (RUNNING, "connecting"):
            if self.connection is not None and not self.connection.closed:
                self.connection.send(ClientHeartbeat())
            self._heartbeat = self._loop.call_later(self._heartbeat_s, self._beat)

    def _on_closed(self, error: BaseException | None) -> None:
        """The scheduler is gone, or the network between us."""
        if self.status != RUNNING:
            return
        self.connection = None
        ending = self._ending
        reason = "scheduler-connection-lost"
        text = (ending.reason if ending is not None else "") or (str(error) if error is not None else "")
        self._forget_outgoing()
        self._apply_ready(self.table.cancel_all(reason, text))
        assert self._loop is not None
        if ending is not None:
            self._lost()
            return
        self.status = "connecting"
        self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        limit = registry.connect_timeout()
        logger.warning("Lost the scheduler at %s; trying to reach it for %g s", self.address, limit)
        try:
            await self._connect(limit, retry_refused_s=limit)
        except (OSError, TimeoutError) as e:
            logger.warning("The scheduler at %s stays away: %s", self.address, e)
            if self.status == "connecting":
                self._lost()
        else:
            logger.warning("Connected again to the scheduler at %s; futures from before are cancelled", self.address)

    def _lost(self) -> None:
        self.status = "closing"
        if self.on_lost is not None:
            self.on_lost()

    def _forget_outgoing(self) -> None:
        self._outgoing.clear()
        self._drops.clear()
        with self.table.lock:
            self._sent = self._enqueued
        self._call_crowd()

    async def close(self, timeout: float = 5.0, reason: str = "client-closed") -> None:
        """Say good-bye and cancel what is pending. Idempotent."""
        if self.status == "closed":
            return
        was_running = self.status == RUNNING
        if was_running:
            self._flush_all()
        self.status = "closing"
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if self._reconnecting is not None and self._reconnecting is not asyncio.current_task():
            self._reconnecting.cancel()
        connection, self.connection = self.connection, None
        if connection is not None and not connection.closed:
            with contextlib.suppress(CommClosedError):
                connection.send(ClientClosing())
        self._forget_outgoing()
        self._apply_ready(self.table.cancel_all(reason, "the client is closed"))
        if connection is not None:
            await connection.close(timeout)
        with contextlib.suppress(Exception):
            await self.pool.close()
        self.status = "closed"
        if self._callbacks is not None:
            self._callbacks.shutdown(wait=False)

    # -- on the loop: sending ------------------------------------------------------------------------------------------

    def _flush_all(self) -> None:
        while self._outgoing or self._drops:
            self._send_some()

    def _flush(self) -> None:
        self._awake = False
        if self.connection is None or self._draining:
            return
        self._send_some()
        if not self._outgoing:
            return
        assert self._loop is not None
        if self.connection.pending_bytes > MAX_PENDING_BYTES:
            self._draining = True
            self._drainer = self._loop.create_task(self._drain())
        elif not self._awake:
            self._awake = True
            self._loop.call_soon(self._flush)

    async def _drain(self) -> None:
        try:
            if self.connection is not None:
                await self.connection.drain()
        except CommClosedError:
            pass
        finally:
            self._draining = False
        self._flush()

    def _send_some(self) -> None:
        if self._drops:
            self._process_drops()
        outgoing = self._outgoing
        batch: list[Struct] = []
        budget = TASKS_A_TURN
        single: UpdateGraph | None = None
        parent: Any = None
        while outgoing and budget > 0:
            item = outgoing.popleft()
            kind = type(item)
            if kind is tuple:
                spec, options, blob, fifo, parent = item
                if single is None or single.fifo_timeout_s != fifo or single.submitting_task != parent:
                    single = UpdateGraph(
                        next(self._numbers), [], [], [], None, 0, fifo_timeout_s=fifo, submitting_task=parent
                    )
                    batch.append(single)
                if options is not None:
                    spec.options = _place(single.options, options)
                if blob.digest not in self._functions:
                    self._functions.add(blob.digest)
                    single.functions.append(blob)
                single.tasks.append(spec)
                budget -= 1
                self._sent += 1
                continue
            single = None
            if kind is Part:
                batch.append(self._update_graph(item))
                budget -= len(item.tasks)
                self._sent += len(item.tasks)
            else:
                batch.append(item)
        if batch and self.connection is not None:
            with contextlib.suppress(CommClosedError):
                self.connection.send_many(batch)
                self.connection.flush()
        if self._crowd:
            self._call_crowd()

    def _call_crowd(self) -> None:
        with self._room:
            self._room.notify_all()

    def _update_graph(self, part: Part) -> UpdateGraph:
        submission = part.submission
        if submission.number < 0:
            submission.number = next(self._numbers)
        new = [blob for blob in part.blobs if blob.digest not in self._functions]
        self._functions.update([blob.digest for blob in new])
        message = UpdateGraph(
            submission.number,
            part.tasks,
            new,
            submission.options,
            part.wanted,
            submission.rank,
            fifo_timeout_s=submission.fifo_timeout_s,
            submitting_task=submission.parent,
            last=part.last,
        )
        submission.rank += len(part.tasks)
        return message

    def _process_drops(self) -> None:
        drops = self._drops
        dead = []
        with contextlib.suppress(IndexError):
            while True:
                dead.append(drops.popleft())
        with self.table.lock:
            released = self.table.drop(dead)
            if released:
                self._outgoing.append(ReleaseKeys(released))

    # -- on the loop: receiving ----------------------------------------------------------------------------------------

    def _on_messages(self, messages: list[Any]) -> None:
        self._apply_ready(self.table.apply(messages))
        for message in messages:
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
            elif type(message) is SchedulerClosing:
                self._ending = message

    def _apply_ready(self, ready: Ready) -> None:
        for callback, state in ready:
            try:
                callback(state)
            except Exception:
                logger.exception("Error in a callback of %r", state.key)

    # -- on the loop: questions ----------------------------------------------------------------------------------------

    async def call(self, op: str, /, **kwargs: Any) -> Any:
        """Ask the scheduler. Raises :class:`ClosedClientError` when the client is closed."""
        if self.connection is None:
            if self.status == "connecting" and self._reconnecting is not None:
                await asyncio.shield(self._reconnecting)
            if self.connection is None:
                raise ClosedClientError(f"the client is {self.status}: it cannot ask the scheduler for {op!r}")
        self._send_some()  # what was submitted before the question is there before it
        return await self.connection.request(op, kwargs)

    async def worker_call(self, worker: str, op: str, /, **kwargs: Any) -> Any:
        """Ask a worker directly."""
        return await getattr(self.pool(worker), op)(**kwargs)

    @property
    def is_foreign_process(self) -> bool:
        """Whether this is a fork of the process that made the client."""
        return self._pid != os.getpid()


def _place(options: list[TaskOptions], wanted: TaskOptions) -> int:
    if not options:
        options.append(TaskOptions())
    if options[-1] is wanted:
        return len(options) - 1
    options.append(wanted)
    return len(options) - 1


def _versions_for(connection: Connection) -> dict[str, Any]:
    """What runs here, for a scheduler that may have something else."""
    if connection.same_process:
        return {}
    found: dict[str, Any] = defaults.load(_VERSIONS)()  # reads package metadata: not for everyone
    return found


def _call_back(fn: Callable[[Any], Any], future: Any) -> None:
    try:
        fn(future)
    except Exception:
        logger.exception("Error in callback %r of %r", fn, future)


def seconds(value: Any, name: str = "timeout") -> float | None:
    """Seconds of a public ``timeout`` argument; None stays None. Raises TypeError or ValueError that names the
    argument.
    """
    if value is None:
        return None
    if isinstance(value, bool) or (not isinstance(value, (int, float, str)) and not hasattr(value, "total_seconds")):
        raise TypeError(f"{name}= must be a number of seconds or text such as '10s', not {value!r}")
    parsed: float | None = settings.parse_timedelta(value)
    return parsed


def timeout_text(timeout: float | None) -> str:
    return f"timed out after {timeout:g} s." if timeout is not None else "timed out"


def deadline_of(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
