"""Connections to peers by address, reused; and the small objects by which one asks a peer: ``pool(address).op(...)``,
``rpc``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import Any

from distributed.base.errors import CommClosedError
from distributed.comm import registry
from distributed.comm.addressing import as_host_port, normalize_address
from distributed.comm.keys import Secret
from distributed.rpc.connection import Connection, Handler
from distributed.rpc.loop_runner import LoopRunner, running_loop
from distributed.rpc.quiet import QuietLinks

logger = logging.getLogger("distributed.rpc")


async def connect(
    address: str,
    timeout: float | None = None,
    *,
    role: str = "client",
    secret: Secret | None = None,
    handlers: Mapping[str, Handler] | None = None,
    unpickle: bool = True,
    on_messages: Callable[[list[Any]], None] | None = None,
    on_closed: Callable[[BaseException | None], None] | None = None,
    retry_refused_s: float = 0.0,
    shortcuts: bool = True,
    owner: str = "",
    security: Any = None,
) -> Connection:
    """A :class:`Connection` to whoever listens at ``address``; see ``comm.connect`` for what it raises."""
    comm = await registry.connect(
        address,
        timeout,
        role=role,
        secret=secret,
        retry_refused_s=retry_refused_s,
        shortcuts=shortcuts,
        security=security,
    )
    return Connection(
        comm, handlers, unpickle=unpickle, on_messages=on_messages, on_closed=on_closed, owner=owner or role
    )


class _GivenArgs:
    """As much of a ``Security`` as connecting needs, made of its answer."""

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = args

    def get_connection_args(self, role: str) -> dict[str, Any]:
        return self._args


class _Caller:
    """Any attribute is an operation of the peer: a coroutine function that takes its keyword arguments."""

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("__"):
            raise AttributeError(op)

        def call(**kwargs: Any) -> Any:
            return self._call(op, kwargs)

        call.__name__ = call.__qualname__ = op
        return call

    def _call(self, op: str, kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError


class _Done:
    """Has happened already; for code that awaits it."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class PooledRPC(_Caller):
    """``pool(address)``: each attribute is an operation of that peer. Keeps no connection of its own."""

    def __init__(self, address: str, pool: ConnectionPool) -> None:
        self.address = address
        self.pool = pool

    async def _call(self, op: str, kwargs: dict[str, Any]) -> Any:
        connection = await self.pool.connect(self.address)
        return await connection.request(op, kwargs)

    def close_rpc(self) -> Awaitable[None]:
        """Nothing to close: connections belong to the pool."""
        return _Done()

    async def __aenter__(self) -> PooledRPC:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    def __repr__(self) -> str:
        return f"<pooled rpc to {self.address!r}>"


class ConnectionPool:
    """One connection for each address, made when first asked for, shared by all who ask, made anew after it has closed.

    Parameters
    ----------
    role: what we are: client, worker, nanny or scheduler
    secret: the cluster's; None: looked up by address
    unpickle: open pickles in answers
    handlers: what peers may ask over these connections
    timeout: seconds for a connect (default: setting ``comm.timeouts.connect``)
    """

    def __init__(
        self,
        role: str = "client",
        *,
        secret: Secret | None = None,
        unpickle: bool = True,
        handlers: Mapping[str, Handler] | None = None,
        timeout: float | None = None,
        shortcuts: bool = True,
        owner: str = "",
        tasks: set[asyncio.Task[Any]] | None = None,
    ) -> None:
        self.role = role
        self.secret = secret
        self.security: Any = None  # for transports of other packages
        self.unpickle = unpickle
        self.handlers = handlers
        self.timeout = timeout
        self.shortcuts = shortcuts
        self.owner = owner or role
        self.closed = False
        self.connections: dict[str, Connection] = {}
        self._connecting: dict[str, asyncio.Task[Connection]] = {}
        self._tasks = tasks
        self._quiet = QuietLinks(lambda: self.connections)

    def look(self) -> None:
        """To be called now and then: connections that lead nowhere any more are ended (see ``rpc.quiet``)."""
        self._quiet.look()

    def __call__(self, address: Any) -> PooledRPC:
        return PooledRPC(as_host_port(address), self)

    async def connect(self, address: str, timeout: float | None = None) -> Connection:
        """The connection to ``address``; concurrent callers share one attempt."""
        if self.closed:
            raise CommClosedError(f"the connections of this {self.owner} are closed")
        address = normalize_address(address)
        connection = self.connections.get(address)
        if connection is not None and not connection.closed:
            return connection
        attempt = self._connecting.get(address)
        if attempt is None:
            attempt = asyncio.get_running_loop().create_task(self._connect(address, timeout))
            self._connecting[address] = attempt
            attempt.add_done_callback(lambda task: self._attempted(address, task))
        # A caller that is cancelled must not take the attempt from the others.
        return await asyncio.shield(attempt)

    def _attempted(self, address: str, task: asyncio.Task[Connection]) -> None:
        self._connecting.pop(address, None)
        if not task.cancelled():
            task.exception()  # seen: whoever waited has it

    async def _connect(self, address: str, timeout: float | None) -> Connection:
        comm = await registry.connect(
            address,
            self.timeout if timeout is None else timeout,
            role=self.role,
            secret=self.secret,
            shortcuts=self.shortcuts,
            security=self.security,
        )
        if self.closed:
            comm.abort()
            raise CommClosedError(f"the connections of this {self.owner} are closed")
        connection = Connection(comm, self.handlers, unpickle=self.unpickle, owner=self.owner, tasks=self._tasks)
        self.connections[address] = connection
        connection.add_on_closed(lambda error: self._forget(address, connection))
        return connection

    def _forget(self, address: str, connection: Connection) -> None:
        if self.connections.get(address) is connection:
            del self.connections[address]

    def remove(self, address: str) -> None:
        """Drop the connection to a peer that is known to be gone: open questions to it fail now."""
        connection = self.connections.pop(normalize_address(address), None)
        if connection is not None:
            connection.abort()

    async def close(self, timeout: float = 2.0) -> None:
        """Close every connection. Idempotent; later calls raise CommClosedError."""
        self.closed = True
        self._quiet.stop()
        for attempt in list(self._connecting.values()):
            attempt.cancel()
        connections, self.connections = list(self.connections.values()), {}
        if connections:
            await asyncio.gather(*(c.close(timeout) for c in connections), return_exceptions=True)

    def __repr__(self) -> str:
        return f"<ConnectionPool of {self.owner}: {len(self.connections)} open, {len(self._connecting)} connecting>"


class rpc(_Caller):
    """Ask the server at an address by name of operation, over a connection of one's own.

    In coroutines, with ``async with`` or ``close_rpc()``::

        async with rpc("tcp://127.0.0.1:8786") as scheduler:
            await scheduler.identity()

    In plain code, with ``with``: each call waits for the answer. Without an event loop, outside of ``with``, each
    call opens and closes a connection of its own.

    Parameters
    ----------
    address: address, ``host:port`` or ``(host, port)``
    timeout: seconds for connecting (default: setting ``comm.timeouts.connect``)
    connection_args: what a transport of another package is given, as ``Security.get_connection_args`` makes it
    """

    def __init__(
        self,
        address: Any = None,
        timeout: float | None = None,
        *,
        secret: Secret | None = None,
        connection_args: dict[str, Any] | None = None,
        **ignored: Any,
    ) -> None:
        self.address = as_host_port(address)
        self.timeout = timeout
        self.status = "running"
        self._secret = secret
        self._security = None if connection_args is None else _GivenArgs(connection_args)
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._runner: LoopRunner | None = None

    def _call(self, op: str, kwargs: dict[str, Any]) -> Any:
        if self.status == "closed":
            raise CommClosedError(f"{self!r} is closed")
        if running_loop() is not None:
            return self._ask(op, kwargs)
        if self._runner is not None:
            return self._runner.run_sync(self._ask, op, kwargs)
        return LoopRunner().run_sync(self._ask_once, op, kwargs)

    async def _connected(self) -> Connection:
        while True:
            connection = self._connection
            if connection is not None and not connection.closed:
                return connection
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(
                    connect(self.address, self.timeout, secret=self._secret, owner="rpc", security=self._security)
                )
            attempt = self._connecting
            try:
                self._connection = await asyncio.shield(attempt)
            finally:
                if attempt.done() and self._connecting is attempt:
                    self._connecting = None

    async def _ask(self, op: str, kwargs: dict[str, Any]) -> Any:
        connection = await self._connected()
        try:
            return await connection.request(op, kwargs)
        except CommClosedError:
            # Who is asked to end may end before the answer has left.
            if op in ("terminate", "close"):
                return None
            raise

    async def _ask_once(self, op: str, kwargs: dict[str, Any]) -> Any:
        try:
            return await self._ask(op, kwargs)
        finally:
            await self._close()

    async def _close(self) -> None:
        attempt, self._connecting = self._connecting, None
        if attempt is not None:
            attempt.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(1.0)

    def close_rpc(self) -> Awaitable[None]:
        """Close the connection. Idempotent; later calls raise CommClosedError. The answer may be awaited, or not."""
        self._close_now()
        return _Done()

    def _close_now(self) -> None:
        if self.status == "closed":
            return
        self.status = "closed"
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                runner.run_sync(self._close)
            finally:
                runner.stop()
            return
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.flush()
            self._connection.abort()
            self._connection = None

    async def __aenter__(self) -> rpc:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.status = "closed"
        await self._close()

    def __enter__(self) -> rpc:
        if running_loop() is None:
            self._runner = LoopRunner()
            self._runner.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_rpc()

    def __del__(self) -> None:
        runner = self.__dict__.get("_runner")
        if runner is not None:
            runner.stop(0.1)

    def __repr__(self) -> str:
        return f"<rpc to {self.address!r}{' (closed)' if self.status == 'closed' else ''}>"
