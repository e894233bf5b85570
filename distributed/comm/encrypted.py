"""TLS over a connected socket: the handshake, and the comm behind it.

:class:`EncryptedStream` looks to its users like a socket that does not block, so that the code for plain sockets serves
here too. The one difference is that bytes may wait in it which the event loop knows nothing of (``pending``).
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from distributed.base.errors import FrameError, PeerAlert
from distributed.comm.knock import PeerEnded
from distributed.comm.sockets import SocketComm

_JOIN = 64 * 1024
_CHUNK = 256 * 1024
_SEND_QUOTA = 1 << 20


class EncryptedStream:
    """A socket's face over ``ssl.SSLSocket``: "not now" is BlockingIOError, damaged bytes are FrameError."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls
        # What TLS has begun to send is given to it again unchanged until it has gone.
        self._stuck: Any = None
        # Found behind bytes that were good: TLS tells it once, and the next read shall.
        self._broken: OSError | None = None

    def pending(self) -> bool:
        """Whether bytes wait that have been decrypted already, or an error."""
        return self._tls.fileno() >= 0 and (self._broken is not None or self._tls.pending() > 0)

    def recv_into(self, view: memoryview) -> int:
        """Fill as much of ``view`` as there is; 0 at the peer's farewell."""
        if self._broken is not None:
            raise self._broken
        have = 0
        size = len(view)
        try:
            while have < size:
                n = self._tls.recv_into(view[have:])
                if not n:
                    break
                have += n
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not have:
                raise BlockingIOError from None
        except ssl.SSLError as e:
            if not have:
                raise _told(e) from e
            self._broken = _told(e)
        return have

    def recv(self, nbytes: int, flags: int = 0) -> bytes:
        """Up to ``nbytes`` bytes; with MSG_PEEK only whether there are any."""
        if flags:
            return b"?" if self.pending() else socket.socket.recv(self._tls, 1, flags)
        if self._tls._sslobj is None:  # type: ignore[attr-defined]  # after shutdown
            return socket.socket.recv(self._tls, nbytes)
        try:
            return self._tls.recv(nbytes)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as e:
            raise _told(e) from e

    def send(self, data: Any) -> int:
        """Send the beginning of ``data``; how much of it has gone."""
        return self.sendmsg([memoryview(data)])

    def sendmsg(self, views: Sequence[Any]) -> int:
        """Send from the beginning of the views, which still begin with what could not leave the last time."""
        total = 0
        try:
            while total < _SEND_QUOTA:
                chunk = self._stuck if self._stuck is not None else _next_chunk(views, total)
                if not len(chunk):
                    break
                self._stuck = chunk
                n = self._tls.send(chunk)
                self._stuck = None if n == len(chunk) else chunk[n:]
                total += n
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not total:
                raise BlockingIOError from None
        except ssl.SSLError as e:
            raise _told(e) from e
        return total

    def fileno(self) -> int:
        return self._tls.fileno()

    def getsockname(self) -> Any:
        return self._tls.getsockname()

    def getpeername(self) -> Any:
        return self._tls.getpeername()

    def shutdown(self, how: int) -> None:
        """Say farewell, so that the peer knows that nothing was cut off, and shut down."""
        if self._tls._sslobj is not None and self._stuck is None:  # type: ignore[attr-defined]
            try:
                self._tls._sslobj.shutdown()  # type: ignore[attr-defined]
            except (ssl.SSLError, OSError):
                pass
        self._tls.shutdown(how)

    def close(self) -> None:
        self._tls.close()


def _next_chunk(views: Sequence[Any], skip: int) -> Any:
    """What to give to TLS at once: small buffers joined, a large one in pieces, behind the first ``skip`` bytes."""
    parts: list[Any] = []
    size = 0
    for view in views:
        n = len(view)
        if skip >= n:
            skip -= n
            continue
        rest = view[skip:] if skip else view
        skip = 0
        if not parts and len(rest) >= _JOIN:
            return rest[:_CHUNK]
        parts.append(rest[: _JOIN - size])
        size += len(parts[-1])
        if size >= _JOIN:
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _told(error: ssl.SSLError) -> OSError:
    if isinstance(error, ssl.SSLEOFError):
        return PeerEnded("the peer ended without a farewell")
    kind = PeerAlert if "ALERT" in (error.reason or "") else FrameError
    return kind(f"the encrypted stream cannot be used: {error.reason or error}")


async def encrypt(
    sock: socket.socket, context: ssl.SSLContext, *, listening: bool, server_hostname: str | None = None
) -> EncryptedStream:
    """TLS over ``sock``, which belongs to the stream afterwards and is closed when this raises.

    Raises ``ssl.SSLError``, or ``OSError`` when the connection breaks. Has no deadline of its own.
    """
    loop = asyncio.get_running_loop()
    tls: ssl.SSLSocket | None = None
    try:
        tls = context.wrap_socket(
            sock,
            server_side=listening,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
            server_hostname=server_hostname,
        )
        while True:
            try:
                tls.do_handshake()
                return EncryptedStream(tls)
            except ssl.SSLWantReadError:
                await readable(loop, tls.fileno())
            except ssl.SSLWantWriteError:
                await _ready(loop, tls.fileno(), loop.add_writer, loop.remove_writer)
    except BaseException:
        (tls or sock).close()
        raise


async def readable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    """Wait until there is something to read."""
    await _ready(loop, fd, loop.add_reader, loop.remove_reader)


async def _ready(loop: asyncio.AbstractEventLoop, fd: int, add: Any, remove: Any) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    add(fd, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove(fd)


def fingerprint_of(stream: EncryptedStream) -> bytes:
    """SHA-256 of the peer's certificate."""
    return hashlib.sha256(stream._tls.getpeercert(binary_form=True) or b"").digest()


class TLSComm(SocketComm):
    """A comm over an :class:`EncryptedStream`."""

    _sock: Any
    sends_from_threads = False  # one TLS object is no place for two threads

    def _read_on(self) -> None:
        super()._read_on()
        self._read_pending()

    def _on_readable(self) -> None:
        super()._on_readable()
        self._read_pending()

    def _read_pending(self) -> None:
        """The loop does not see what was decrypted and not read."""
        if self._reading and self._sock.pending():
            self._loop.call_soon(self._on_pending)

    def _on_pending(self) -> None:
        if self._reading:
            self._on_readable()
