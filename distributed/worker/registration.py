"""A worker's (or nanny's) way in: finds the scheduler, connects, introduces itself, and takes the answer. Shell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distributed.base import settings
from distributed.base.errors import CommClosedError, HandshakeRefused
from distributed.comm import registry, secrets
from distributed.comm.addressing import (
    address_from_user_args,
    as_host_port,
    get_local_address_for,
    parse_host_port,
)
from distributed.comm.keys import Secret
from distributed.comm.transport import Comm
from distributed.messages.control import Refused, Registered
from distributed.rpc.connection import Connection

logger = logging.getLogger("distributed.worker")

_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 1.0
_SECRET_COMES_S = 1.0
"""A scheduler that has just begun to listen is about to store its secret."""


def scheduler_address(given: Any, port: int | None, scheduler_file: str | None) -> str | None:
    """The address that the arguments name: text, ``(host, port)``, a Scheduler or a cluster; None: it is to come from
    the
    file, or nothing was said. ``ValueError`` when there is nothing to go by."""
    if given is None and scheduler_file is None:
        given = settings.get("scheduler-address", None)
        if not given:
            raise ValueError("no scheduler: give its address, or scheduler_file=, or set DASK_SCHEDULER_ADDRESS")
    if given is None:
        return None
    if not isinstance(given, (str, tuple, list)):
        given = getattr(given, "scheduler_address", None) or given.address
    return as_host_port("127.0.0.1" if given == "" else given, port)


def listening_address(
    scheduler: str, host: str | None, port: int | None, interface: str | None, protocol: str | None
) -> str:
    """Where to listen. Without ``host`` and ``interface``: only on the interface that leads to the scheduler."""
    scheme = (protocol or scheduler.partition("://")[0]).rstrip(":/")
    if scheme == "inproc":
        return "inproc://"
    if not host and not interface:
        own, _, location = get_local_address_for(scheduler).partition("://")
        host = "127.0.0.1" if own == "inproc" else parse_host_port(location, 0)[0]
    return address_from_user_args(host=host, port=port, interface=interface, protocol=scheme, peer=scheduler)


async def read_file(path: str, deadline: float | None) -> tuple[str, Secret | None]:
    """Address and secret of a scheduler file, which may be written yet."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            document, secret = secrets.read_scheduler_file(path)
            return str(document["address"]), secret
        except (FileNotFoundError, ValueError) as error:
            if deadline is not None and loop.time() >= deadline:
                raise TimeoutError(f"the scheduler file {path!r} has not come: {error}") from None
        await asyncio.sleep(_FIRST_PAUSE_S if Path(path).exists() else 0.2)


async def find_secret(
    address: str, security: Any, role: str, deadline: float | None
) -> tuple[Secret | None, Comm | None]:
    """The secret of the scheduler at ``address``, which may not have started yet: it is asked which one it is, by
    the comm that comes with the answer, for :func:`register`.

    Raises as :func:`register` does.
    """
    found: Secret | None = getattr(security, "secret", None) or secrets.lookup_certain(address)
    if found is not None or address.partition("://")[0] not in ("tcp", "tls"):
        return found or secrets.lookup(address), None
    loop = asyncio.get_running_loop()
    begin, pause, refused_at, warned = loop.time(), _FIRST_PAUSE_S, 0.0, False
    while True:
        limit = registry.connect_timeout()
        if deadline is not None:
            limit = max(0.01, min(limit, deadline - loop.time()))
        try:
            comm = await registry.connect(address, limit, role=role, security=security)
        except HandshakeRefused:
            refused_at = refused_at or loop.time()
            if loop.time() - refused_at > _SECRET_COMES_S:
                raise
        except (OSError, TimeoutError) as error:
            now = loop.time()
            if deadline is not None and now + pause >= deadline:
                raise TimeoutError(_too_late(role, address, now - begin, error)) from error
            if not warned and now - begin > 1.0:
                warned = True
                logger.info("The scheduler at %s cannot be reached yet (%s)", address, error)
        else:
            return secrets.lookup_by_id(comm.secret_id, address), comm
        await asyncio.sleep(pause)
        pause = min(_MAX_PAUSE_S, pause * 1.5)


def _too_late(who: str, address: str, seconds: float, error: BaseException) -> str:
    return (
        f"the {who} could not register with the scheduler at {address} within {seconds:.1f} s (death_timeout): {error}"
    )


async def open_connection(
    address: str,
    timeout: float,
    *,
    role: str,
    secret: Secret | None,
    security: Any,
    handlers: Mapping[str, Callable[..., Any]],
    blocked: Any = (),
    tasks: set[asyncio.Task[Any]] | None = None,
    opened: Comm | None = None,
) -> Connection:
    """Connect to the scheduler, unless ``opened`` is a comm to it that has carried nothing yet. Raises what
    ``comm.connect`` does, and HandshakeRefused when it is no scheduler."""
    comm = opened
    if comm is None:
        comm = await registry.connect(address, timeout, role=role, secret=secret, security=security)
    elif secret is not None:
        secrets.remember(secret)
    if comm.peer_role not in ("scheduler", ""):
        comm.abort()
        raise HandshakeRefused(f"who listens at {address} is a {comm.peer_role}, not a scheduler")
    return Connection(comm, handlers, unpickle=True, blocked=blocked, owner=role, tasks=tasks)


async def register(
    address: str,
    first_message: Any,
    *,
    role: str,
    secret: Secret | None,
    handlers: Mapping[str, Callable[..., Any]],
    blocked: Any = (),
    tasks: set[asyncio.Task[Any]] | None = None,
    deadline: float | None = None,
    security: Any = None,
    look_again: Callable[[], tuple[str, Secret | None] | None] = lambda: None,
    opened: Comm | None = None,
) -> tuple[Connection, Registered]:
    """Connect to the scheduler, however long that takes, and introduce ourselves. When nobody of ours is at
    ``address``, ``look_again`` is asked for another one. ``opened`` is a comm to it that has carried nothing yet.

    The connection's ``on_messages`` is still unset: what comes behind ``Registered`` waits until it is set.

    Raises
    ------
    TimeoutError
        ``deadline`` (of the loop's clock) has passed first.
    HandshakeRefused, ValueError
        The scheduler does not want us; the text says why.
    """
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE_S
    warned = False
    begin = loop.time()
    while True:
        limit = registry.connect_timeout()
        if deadline is not None:
            limit = max(0.01, min(limit, deadline - loop.time()))
        try:
            comm, opened = opened, None
            connection = await open_connection(
                address, limit, role=role, secret=secret, security=security, handlers=handlers, blocked=blocked,
                tasks=tasks, opened=comm,
            )  # fmt: skip
            rest_s = None if deadline is None else max(0.01, deadline - loop.time())
            return connection, await introduce(connection, first_message, rest_s)
        except HandshakeRefused:
            found = look_again()
            if found is None:
                raise
            address, secret = found
        except (OSError, TimeoutError) as error:
            now = loop.time()
            found = look_again()
            if found is not None:
                address, secret = found
                continue
            if deadline is not None and now + pause >= deadline:
                raise TimeoutError(_too_late(role, address, now - begin, error)) from error
            if not warned and now - begin > 1.0:
                warned = True
                logger.info("The scheduler at %s cannot be reached yet (%s)", address, error)
        await asyncio.sleep(pause)
        pause = min(_MAX_PAUSE_S, pause * 1.5)


def newer_address(path: str | None, address: str | None) -> tuple[str, Secret | None] | None:
    """What a scheduler file says now, if that is not ``address``, at which was a scheduler that has ended."""
    if path is None:
        return None
    try:
        document, secret = secrets.read_scheduler_file(path)
    except (OSError, ValueError):
        return None
    return (str(document["address"]), secret) if document["address"] != address else None


async def introduce(connection: Connection, first_message: Any, timeout: float | None) -> Registered:
    """Say who we are over a new connection, and take the answer. Raises ValueError when we are refused, OSError or
    TimeoutError when there is no answer."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_first(messages: list[Any]) -> None:
        connection.on_messages = None
        if len(messages) > 1:
            connection.hold(messages[1:])
        if not answer.done():
            answer.set_result(messages[0])

    def on_closed(error: BaseException | None) -> None:
        if not answer.done():
            answer.set_exception(
                CommClosedError(
                    f"the scheduler at {connection.peer_address} closed the connection: {error or 'no reason'}"
                )
            )

    connection.on_messages = on_first
    connection.add_on_closed(on_closed)
    try:
        connection.send(first_message)
        async with asyncio.timeout(timeout):
            message = await answer
    except BaseException:
        connection.abort()
        raise
    if isinstance(message, Refused):
        connection.abort()
        raise ValueError(message.reason)
    if not isinstance(message, Registered):
        connection.abort()
        raise CommClosedError(f"the scheduler answered with {type(message).__name__}")
    return message
