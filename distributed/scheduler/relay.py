"""Links of a program that hands errors on without opening them. Shell.

A worker's error reaches the client that asked through the scheduler as what it was; the scheduler never opens it.
"""

from __future__ import annotations

from typing import Any

from distributed.base.errors import RemoteError
from distributed.messages.control import Reply, Request
from distributed.messages.payload import ErrorInfo
from distributed.protocol.serialize import pack_error, unpack_error
from distributed.rpc.connection import Connection

MAX_TEXT = 10_000


class RelayedError(RemoteError):
    """An error of a peer, still closed; ``info`` is what came. Its pickle opens as the original error."""

    info: ErrorInfo

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.type_name, info.message, info.traceback_text)
        self.info = info

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.info,)


def _opened(info: ErrorInfo) -> BaseException:
    return unpack_error(info)[0]


def as_info(error: BaseException) -> ErrorInfo:
    """``error`` ready to travel; one that came from elsewhere as it came."""
    return error.info if isinstance(error, RelayedError) else pack_error(error, MAX_TEXT)


class RelayConnection(Connection):
    """A link whose errors are not opened on the way in, and leave as they came."""

    def _remote_error(self, info: ErrorInfo) -> BaseException:
        # Within one process there is nothing that this program lacks and the peer has.
        return super()._remote_error(info) if self.same_process else RelayedError(info)

    def _reply_error(self, request: Request, error: BaseException) -> None:
        if isinstance(error, RelayedError):
            self._post(Reply(request.id, None, error.info))
        else:
            super()._reply_error(request, error)
