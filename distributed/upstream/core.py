"""``distributed.core``: servers, questions between them, their status."""

from __future__ import annotations

from typing import Any

from distributed.base.errors import CommClosedError
from distributed.base.status import Status
from distributed.comm import connect
from distributed.comm.addressing import as_host_port as coerce_to_address
from distributed.messages.payload import ErrorInfo
from distributed.protocol.serialize import pack_error, unpack_error
from distributed.rpc.pool import ConnectionPool, rpc
from distributed.rpc.server import Server

__all__ = [
    "CommClosedError",
    "ConnectionPool",
    "RPCClosed",
    "Server",
    "Status",
    "clean_exception",
    "coerce_to_address",
    "connect",
    "error_message",
    "pingpong",
    "rpc",
]


def pingpong(comm: Any) -> bytes:
    """A handler that shows that a server answers."""
    return b"pong"


RPCClosed = CommClosedError
"""What a question raises whose connection was closed on this side."""


def error_message(e: BaseException, status: str = "error") -> dict[str, Any]:
    """An exception as a message; ``clean_exception`` is the way back."""
    info = pack_error(e)
    return {
        "status": status,
        "exception": info,
        "traceback": info.traceback,
        "exception_text": f"{info.type_name}({info.message!r})",
        "traceback_text": info.traceback_text,
    }


def clean_exception(exception: Any, traceback: Any = None, **kwargs: Any) -> tuple[type, BaseException, Any]:
    """``(type, exception, traceback)`` of what :func:`error_message` made."""
    if isinstance(exception, ErrorInfo):
        error, tb = unpack_error(exception)
        return type(error), error, tb
    if isinstance(exception, BaseException):
        return type(exception), exception, traceback or exception.__traceback__
    error = Exception(str(exception))
    return type(error), error, None
