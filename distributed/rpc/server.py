"""A program that listens: what Scheduler, Worker and Nanny have in common.

A :class:`Server` has listeners, a table of handlers (operation -> function), a pool of connections to others, a
status, and a
life: created, started once, closed once. It knows nothing of tasks. A first stream message that registers the peer
goes to ``on_register``; everything else on the stream goes to whoever ``on_register`` names by setting
``connection.on_messages``.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Coroutine, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from distributed.base.errors import CommClosedError
from distributed.base.lazy import lazy_module
from distributed.base.status import Status
from distributed.comm import registry, secrets
from distributed.comm.addressing import get_address_host_port
from distributed.comm.keys import Secret
from distributed.comm.transport import Comm, Listener
from distributed.messages.control import Refused, RegisterClient, RegisterNanny, RegisterWorker
from distributed.rpc.connection import Connection, Handler
from distributed.rpc.loop_runner import as_asyncio_loop, as_io_loop, run_soon, running_loop, sync
from distributed.rpc.pool import ConnectionPool
from distributed.rpc.rotation import SecretRotation

if TYPE_CHECKING:
    from tornado import ioloop
else:
    ioloop = lazy_module("tornado.ioloop")

logger = logging.getLogger("distributed.rpc")

T = TypeVar("T")
S = TypeVar("S", bound="Server")

Registration = RegisterClient | RegisterWorker | RegisterNanny
_REGISTRATIONS = (RegisterClient, RegisterWorker, RegisterNanny)


class Server:
    """A process's face to its peers.

    Parameters
    ----------
    handlers: operation -> function, sync or async, added to those that every server has (identity, echo, ping,
        terminate)
    blocked_handlers: names of operations to refuse
    stream_handlers: operation -> function for custom stream operations; a table for subclasses and extensions
    role: scheduler, worker, nanny or client
    secret: the cluster's; None: found for the first listener's address, or made
    loop: an IOLoop (or asyncio loop) for a server that is made outside of a coroutine; None: the running one at start
    unpickle: open pickles in questions and answers
    timeout: seconds for connects of the pool
    """

    default_port = 0
    connection_class: type[Connection] = Connection
    security: Any = None

    def __init__(
        self,
        handlers: Mapping[str, Handler] | None = None,
        *,
        blocked_handlers: Iterable[str] | None = None,
        stream_handlers: Mapping[str, Handler] | None = None,
        role: str = "worker",
        secret: Secret | None = None,
        loop: Any = None,
        io_loop: Any = None,
        unpickle: bool = True,
        timeout: float | None = None,
        name: Any = None,
    ) -> None:
        self.handlers: dict[str, Handler] = {
            "identity": self.identity,
            "echo": self.echo,
            "ping": self.ping,
            "terminate": self.terminate,
        }
        self.rotation = SecretRotation(self)
        if role in ("worker", "nanny"):
            self.handlers["take_secret"] = self.rotation.take
        self.handlers.update(handlers or {})
        self.stream_handlers: dict[str, Handler] = dict(stream_handlers or {})
        self.blocked_handlers: list[str] = list(blocked_handlers or ())
        self.role = role
        self.id = f"{type(self).__name__}-{uuid.uuid4()}"
        self.name = name
        self.unpickle = unpickle
        self.listeners: list[Listener] = []
        self.connections: set[Connection] = set()
        self._secret = secret
        self._status = Status.created
        self._given_loop = as_io_loop(loop or io_loop) if (loop or io_loop) is not None else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._handler_tasks: set[asyncio.Task[Any]] = set()
        self._starting: asyncio.Task[Any] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._ended = False  # everything is let go of, also after a start that failed
        self._close_waiters: set[asyncio.Task[Any]] = set()
        self._finished: asyncio.Event | None = None
        self._registered_addresses: list[str] = []
        self.rpc = ConnectionPool(
            role,
            secret=secret,
            unpickle=unpickle,
            handlers=self.handlers,
            timeout=timeout,
            owner=type(self).__name__,
            tasks=self._handler_tasks,
        )

    # --- facts

    @property
    def status(self) -> Status:
        """Where the server stands in its life."""
        return self._status

    @status.setter
    def status(self, value: Status) -> None:
        if not isinstance(value, Status):
            raise TypeError(f"expected Status, got {value!r}")
        self._status = value

    @property
    def secret(self) -> Secret | None:
        """What peers must know; None before the first ``listen``."""
        return self._secret

    @secret.setter
    def secret(self, value: Secret | None) -> None:
        self._secret = self.rpc.secret = value

    @property
    def good_secrets(self) -> list[Secret]:
        """``secret``, and those of before a rotation that are good for a while yet."""
        return [self._secret, *self.rotation.old] if self._secret is not None else []

    @property
    def address(self) -> str:
        """Where others find this server. Raises ValueError when it does not listen."""
        if not self.listeners:
            raise ValueError(f"{type(self).__name__} does not listen, so it has no address")
        return self.listeners[0].contact_address

    @property
    def address_safe(self) -> str:
        """``address``, or a word when there is none."""
        return self.listeners[0].contact_address if self.listeners else "not-running"

    @property
    def listen_address(self) -> str:
        """Where it listens (``tcp://0.0.0.0:8786``)."""
        if not self.listeners:
            raise ValueError(f"{type(self).__name__} does not listen, so it has no address")
        return self.listeners[0].listen_address

    @property
    def listener(self) -> Listener | None:
        return self.listeners[0] if self.listeners else None

    @property
    def port(self) -> int:
        """The port of ``address``; 0 when that has none."""
        try:
            return get_address_host_port(self.address)[1]
        except ValueError:
            return 0

    @property
    def ip(self) -> str:
        """The host of ``address``."""
        try:
            return get_address_host_port(self.address)[0]
        except ValueError:
            return "127.0.0.1"

    @property
    def loop(self) -> ioloop.IOLoop:
        """The event loop, as tornado's."""
        if self._given_loop is None:
            loop = self._loop or running_loop()
            if loop is None:
                return ioloop.IOLoop.current()
            self._given_loop = as_io_loop(loop)
        return self._given_loop

    @property
    def io_loop(self) -> ioloop.IOLoop:
        """An older name of ``loop``."""
        return self.loop

    @property
    def asyncio_loop(self) -> asyncio.AbstractEventLoop:
        return as_asyncio_loop(self.loop)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address_safe!r}, status: {self._status.name}>"

    # --- operations that every server has

    def identity(self) -> dict[str, Any]:
        """What this is."""
        return {"type": type(self).__name__, "id": self.id}

    def echo(self, data: Any = None) -> Any:
        """``data`` again."""
        return data

    def ping(self) -> str:
        return "pong"

    def terminate(self, **kwargs: Any) -> str:
        """Close this server, after the answer to this question has left."""
        asyncio.get_running_loop().call_later(0.01, lambda: self.add_task(self.close()))
        return "OK"

    # --- listening

    async def listen(self, address: str | int | None = None, **options: Any) -> Listener:
        """Listen at one more address; may be called several times, the first one is ``self.address``.

        Parameters
        ----------
        address: an address, a port, or None for ``tcp://`` with ``default_port``
        options: ``contact_host``, ``more_ports``, ``twin`` (see ``comm.listen``)
        """
        if address is None or isinstance(address, int):
            address = f"tcp://:{self.default_port if address is None else address}"
        if self._secret is None:
            self.secret = secrets.from_environment() or Secret.new()
        options.setdefault("default_port", self.default_port)
        self.rpc.security = self.security
        options.setdefault("security", self.security)
        listener = registry.listen(address, self._on_comm, role=self.role, secret=self._secret, **options)
        await listener.start()
        self.listeners.append(listener)
        if self._secret is not None:
            secrets.register(listener.contact_address, self._secret)
            self._registered_addresses.append(listener.contact_address)
        return listener

    def stop(self) -> None:
        """Take no new connections; those that stand go on (what ``tornado.tcpserver.TCPServer.stop`` does)."""
        for listener in self.listeners:
            listener.stop()

    def share_secret(self, *more_addresses: str) -> None:
        """Put the secret into this user's store, so that the user's other programs find it by our addresses."""
        if self._secret is not None:
            addresses = [a for li in self.listeners for a in (li.contact_address, li.listen_address)]
            secrets.save(self._secret, [*addresses, *more_addresses])

    def unshare_secret(self) -> None:
        """Take it out again."""
        if self._secret is not None:
            secrets.remove(self._secret)

    def _on_comm(self, comm: Comm) -> None:
        if self._closing is not None:
            comm.abort()
            return
        connection = self.connection_class(
            comm,
            self.handlers,
            unpickle=self.unpickle,
            blocked=self.blocked_handlers,
            owner=type(self).__name__,
            tasks=self._handler_tasks,
        )
        self.connections.add(connection)
        connection.add_on_closed(lambda error: self._connection_closed(connection, error))
        connection.on_messages = lambda messages: self._on_first_messages(connection, messages)

    def _connection_closed(self, connection: Connection, error: BaseException | None) -> None:
        self.connections.discard(connection)
        if error is not None and self._closing is None:
            logger.debug("%r lost: %s", connection, error)

    def _on_first_messages(self, connection: Connection, messages: list[Any]) -> None:
        """The stream begins with who is there; the rest waits until ``on_register`` has taken that in."""
        connection.on_messages = None
        first, rest = messages[0], messages[1:]
        if not isinstance(first, _REGISTRATIONS):
            connection.abort(CommClosedError(f"expected a registration, got {type(first).__name__}"))
            return
        if rest:
            connection.hold(rest)
        self.add_task(self._register(connection, first))

    async def _register(self, connection: Connection, first: Registration) -> None:
        try:
            await self.on_register(connection, first)
        except Exception as e:
            if connection.closed:
                return
            logger.info("Turned away %s at %s: %s", connection.peer_role, connection.peer_address, e)
            connection.send(Refused(str(e) or type(e).__name__))
            await connection.close()

    async def on_register(self, connection: Connection, first_message: Registration) -> None:
        """A peer has introduced itself. Override: answer with Registered, and set ``connection.on_messages``.

        What it raises is sent to the peer as the reason for turning it away.
        """
        raise ValueError(f"a {self.role} takes no {type(first_message).__name__}")

    # --- work in the background

    def add_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``coroutine`` as a task that ends with the server; what it raises is logged."""
        task = run_soon(asyncio.get_running_loop(), coroutine, self._tasks)
        task.add_done_callback(_log_failure)
        return task

    # --- life

    def start(self: S, address: str | int | None = None) -> Awaitable[S]:
        """Start once; later calls wait for the first. Await the result.

        Where no event loop runs in this thread, and one was given (``loop=``): returns when the server has started;
        the loop is run for that long when nobody runs it yet.
        """
        here = running_loop()
        if here is not None and (self._given_loop is None or as_asyncio_loop(self._given_loop) is here):
            return self._start_task(here, address)
        loop = self._given_loop
        if loop is None:
            loop = self._given_loop = ioloop.IOLoop.current()
        inner = as_asyncio_loop(loop)
        if inner.is_running():
            sync(loop, self._start_here, address)
        else:
            inner.run_until_complete(self._start_here(address))
        return _Done(self)

    async def _start_here(self: S, address: str | int | None) -> S:
        return await self._start_task(asyncio.get_running_loop(), address)

    def _start_task(self: S, loop: asyncio.AbstractEventLoop, address: str | int | None) -> asyncio.Task[S]:
        if self._starting is None:
            self._loop = loop
            self._starting = loop.create_task(self._start_once(address))
            # The error is raised to whoever awaits; nobody may.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._starting

    async def _start_once(self: S, address: str | int | None) -> S:
        if self._status is Status.closed or self._closing is not None:
            raise RuntimeError(f"{type(self).__name__} is closed and cannot be started again")
        self._finished = self._finished or asyncio.Event()
        self._status = Status.starting
        try:
            await self.on_start(address)
        except BaseException as e:
            self._status = Status.failed
            try:
                await self._close_once()
            finally:
                self._status = Status.failed
            if not isinstance(e, Exception) or isinstance(e, TimeoutError):
                raise
            raise RuntimeError(f"{type(self).__name__} failed to start: {e}") from e
        if self._status is Status.starting:
            self._status = Status.running
        return self

    async def on_start(self, address: str | int | None = None) -> None:
        """What starting means. Override; ``address`` is what ``start`` was given."""
        await self.listen(address)

    def __await__(self: S) -> Generator[Any, None, S]:
        return self.start().__await__()

    async def __aenter__(self: S) -> S:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def finished(self) -> None:
        """Return when this server is closed."""
        if self._finished is None:
            self._finished = asyncio.Event()
        if not self._ended and self._status is not Status.failed:
            await self._finished.wait()

    async def close(self, **options: Any) -> None:
        """End in order: no new connections, what is to be said is said, everything is let go of. Idempotent; callers
        after the first wait for it."""
        if self._closing is None:
            if self._ended:
                return
            self._closing = asyncio.get_running_loop().create_task(self._close_once(**options))
        me = asyncio.current_task()
        if me is None or me is self._closing:
            return
        # Cancelling a task that waits for our end (a handler that closes its server) would help nobody.
        self._close_waiters.add(me)
        try:
            await asyncio.shield(self._closing)
        finally:
            self._close_waiters.discard(me)

    async def on_close(self, **options: Any) -> None:
        """What a subclass has to do first, while connections are still open. Override."""

    async def _close_once(self, **options: Any) -> None:
        failed = self._status is Status.failed
        self._status = Status.failed if failed else Status.closing
        try:
            await self.on_close(**options)
        except Exception:
            logger.exception("Error while closing %r", self)
        finally:
            await self._let_go()
            # Whoever waits for our hanging up (``Client.shutdown``) finds us closed then.
            self._status = Status.failed if failed else Status.closed
            await self._hang_up()
            self._ended = True
            if self._finished is not None:
                self._finished.set()

    async def _let_go(self) -> None:
        self.rotation.stop()
        self.stop()
        for address in self._registered_addresses:
            secrets.forget(address)
        self._registered_addresses.clear()
        # Handlers that still run answer with an error; the answers leave with the connections' last flush.
        me = asyncio.current_task()
        left = {*self._handler_tasks, *self._tasks} - self._close_waiters - {me, self._closing, self._starting}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=5)

    async def _hang_up(self) -> None:
        if self.connections:
            await asyncio.gather(*(c.close(2.0) for c in list(self.connections)), return_exceptions=True)
        self.connections.clear()
        await self.rpc.close()


class _Done(Awaitable[S]):
    """The answer of a ``start()`` that has waited already."""

    def __init__(self, server: S) -> None:
        self._server = server

    def __await__(self) -> Generator[Any, None, S]:
        return self._server
        yield


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        error = task.exception()
        if error is not None and not isinstance(error, CommClosedError):
            logger.error("Error in the background: %s", error, exc_info=error)
