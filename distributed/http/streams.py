"""Connections of visitors: small buffers, and an answer also to those whose header does not end. Shell."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

from tornado.iostream import IOStream, SSLIOStream, UnsatisfiableReadError

MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 30\r\nConnection: close\r\n\r\n"
    b"431 The header is over 16 kiB\n"
)
_LINGER_S = 1.0
_LINGER_BYTES = 1 << 20


class VisitorStream(IOStream):
    """Says so when a header is too large, where tornado only closes. (Over TLS it only closes.)"""

    _refused = False

    def close(self, exc_info: Any = False) -> None:
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            self._refused = True
        super().close(exc_info)

    def close_fd(self) -> None:
        if not self._refused:
            super().close_fd()
            return
        sock, self.socket = self.socket, None  # type: ignore[assignment]
        _Farewell(sock)


class _Farewell:
    """A refusal arrives only if what the visitor still sends is read: a little of it, for a little while."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._left = _LINGER_BYTES
        self._loop = asyncio.get_running_loop()
        try:
            sock.send(_TOO_LARGE)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        self._timer = self._loop.call_later(_LINGER_S, self._end)
        self._loop.add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
        try:
            n = len(self._sock.recv(65536))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            n = 0
        self._left -= n
        if not n or self._left <= 0:
            self._end()

    def _end(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()


def serve(server: Any, sock: socket.socket, address: Any, tls: ssl.SSLContext | None = None) -> None:
    """Hand an accepted connection to tornado's server; ``tls`` encrypts it."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        kind = VisitorStream if tls is None else SSLIOStream
        server.handle_stream(kind(sock, max_buffer_size=2 * MAX_BODY_BYTES), address)
    except OSError:  # gone already
        with contextlib.suppress(OSError):
            sock.close()
