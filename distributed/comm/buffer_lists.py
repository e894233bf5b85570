"""``distributed.comm.utils``: lists of buffers to frames and back, for transports of other packages.

What passes such a transport is a list of bytes-like objects (see :mod:`distributed.comm.core`): each is a frame, behind
one that says so. Nothing is ever unpickled here, because what comes from a peer is read before the peer has proved
anything. Pure but for the lookup of this machine's address.
"""

from __future__ import annotations

from typing import Any

from distributed.base.errors import FrameError
from distributed.comm import addressing

_TAG = b"buffers"


async def to_frames(msg: Any, allow_offload: bool = True, **kwargs: Any) -> list[Any]:
    """The frames of a message, which must be a list of bytes-like objects; nothing is copied.

    Raises
    ------
    TypeError
        It is something else.
    """
    try:
        return [_TAG, *(memoryview(item).cast("B") if len(item) else b"" for item in msg)]
    except TypeError:
        raise TypeError(
            f"a comm carries lists of bytes-like objects here, not {type(msg).__name__}: messages of other kinds go "
            "over the connections of Scheduler, Worker and Client"
        ) from None


async def from_frames(
    frames: Any, deserialize: bool = True, deserializers: Any = None, allow_offload: bool = True
) -> list[Any]:
    """The message that ``to_frames`` made frames of: a list of the buffers in ``frames``, uncopied.

    Raises
    ------
    FrameError
        They are not of ``to_frames``.
    """
    first, *rest = frames or [b""]
    if bytes(memoryview(first)[: len(_TAG) + 1]) != _TAG:
        raise FrameError("these frames are not of this protocol")
    return rest


def ensure_concrete_host(host: str, default_host: str | None = None) -> str:
    """``host``, or an address of this machine when it means every interface.

    >>> ensure_concrete_host("0.0.0.0", default_host="10.0.0.1")
    '10.0.0.1'
    """
    if host in ("", "0.0.0.0"):
        return default_host or addressing.get_ip()
    if host in ("::", "[::]"):
        return default_host or addressing.get_ipv6()
    return host


def get_tcp_server_address(tcp_server: Any) -> tuple[Any, ...]:
    """Where a started ``tornado.tcpserver.TCPServer`` listens: host and port, as ``getsockname`` says them."""
    sockets = list(tcp_server._sockets.values())
    if not sockets:
        raise RuntimeError("the TCP server does not listen")
    name: tuple[Any, ...] = sockets[0].getsockname()
    return name
