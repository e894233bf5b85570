"""``TCP`` and ``TLS`` of ``distributed.comm.tcp``: comms over a tornado stream that another package has opened.

For transports that bring their own connect, as dask-gateway does. How the stream was made, and whom it trusts, is the
business of who made it. A connection of ours takes the socket over (:meth:`TCP.take_socket`), so that it leads to every
``tcp://`` and ``tls://`` listener; for who reads and writes by itself, one message is the number of its frames, their
lengths, then the frames.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import sys
import weakref
from typing import Any, NoReturn

from tornado.iostream import IOStream, StreamClosedError

from distributed.base.errors import CommClosedError, FatalCommClosedError, FrameError
from distributed.comm import addressing
from distributed.comm.buffer_lists import from_frames, to_frames
from distributed.comm.core import Comm
from distributed.comm.encrypted import EncryptedStream
from distributed.comm.sockets import max_frame_bytes
from distributed.protocol.frames import MAX_SEGMENTS

__all__ = ["MAX_BUFFER_SIZE", "TCP", "TLS", "convert_stream_closed_error", "get_stream_address"]

MAX_BUFFER_SIZE = sys.maxsize
"""What a stream may buffer: its comm limits messages itself (``comm.max-frame-bytes``)."""
_COUNT = struct.Struct("!Q")
# The codec's segments, the number that leads a batch, and the frame that says what they are.
_MOST_FRAMES = MAX_SEGMENTS + 2
_AT_ONCE = 64 << 20


def get_stream_address(comm: Any) -> str:
    """``host:port`` of this end of a tornado stream. Raises CommClosedError when it is closed."""
    if comm.closed():
        raise CommClosedError("the stream is closed")
    try:
        name = comm.socket.getsockname()
    except OSError as error:
        raise CommClosedError(f"the stream has no address: {error}") from error
    return addressing.unparse_host_port(*name[:2])


def convert_stream_closed_error(obj: Any, exc: BaseException) -> NoReturn:
    """Raise a CommClosedError that says why a stream of ``obj`` is closed; a fatal one when a
    certificate was not trusted."""
    cause = getattr(exc, "real_error", None)
    if cause is None:
        raise CommClosedError(f"in {obj!r}: {exc}") from exc
    if isinstance(cause, ssl.SSLError) and ("UNKNOWN_CA" in str(cause) or "CERTIFICATE" in str(cause)):
        raise FatalCommClosedError(f"in {obj!r}: {type(cause).__name__}: {cause}") from cause
    raise CommClosedError(f"in {obj!r}: {type(cause).__name__}: {cause}") from cause


class TCP(Comm):
    """A comm over an open tornado stream.

    Parameters
    ----------
    stream : tornado.iostream.IOStream
    local_addr, peer_addr : str
        What the ends are called, with a scheme.
    deserialize : bool
        Kept; what passes here are bytes.
    """

    max_shard_size = _AT_ONCE

    def __init__(self, stream: IOStream, local_addr: str, peer_addr: str, deserialize: bool = True) -> None:
        super().__init__(deserialize)
        self._local_addr = local_addr
        self._peer_addr = peer_addr
        self.stream: IOStream | None = stream
        self._finalizer = weakref.finalize(self, stream.close)
        self._finalizer.atexit = False
        self._extra: dict[str, Any] = {}
        stream.set_nodelay(True)

    @property
    def local_address(self) -> str:
        return self._local_addr

    @property
    def peer_address(self) -> str:
        return self._peer_addr

    @property
    def extra_info(self) -> dict[str, Any]:
        return self._extra

    def _open_stream(self) -> IOStream:
        if self.stream is None:
            raise CommClosedError(f"{self!r} is closed")
        return self.stream

    def take_socket(self) -> Any:
        """The socket below, or what encrypts it; the stream is of no use afterwards. Raises CommClosedError when it is
        closed, or when something has been read from it already."""
        stream = self._open_stream()
        if stream.closed() or stream._read_buffer or stream.writing():
            raise CommClosedError(f"{self!r}: the stream is closed or in use")
        sock = stream.socket
        stream.io_loop.remove_handler(sock)
        stream.socket = None  # type: ignore[assignment]  # as tornado's own start_tls does
        self.stream = None
        self._finalizer.detach()
        return EncryptedStream(sock) if isinstance(sock, ssl.SSLSocket) else sock

    async def read(self, deserializers: Any = None) -> Any:
        stream = self._open_stream()
        limit = max_frame_bytes()
        try:
            (count,) = _COUNT.unpack(await stream.read_bytes(_COUNT.size))
            if not 0 < count <= _MOST_FRAMES:
                raise FrameError(f"{self!r}: a message of {count} frames")
            lengths = struct.unpack(f"!{count}Q", await stream.read_bytes(8 * count))
            if sum(lengths) > limit:
                raise FrameError(f"{self!r}: a message of {sum(lengths)} bytes (comm.max-frame-bytes is {limit})")
            frames = [await self._read_frame(stream, n) for n in lengths]
        except StreamClosedError as error:
            self.abort()
            convert_stream_closed_error(self, error)
        except BaseException:  # in the middle of a message; also when the read was given up
            self.abort()
            raise
        return await from_frames(frames, self.deserialize, deserializers)

    @staticmethod
    async def _read_frame(stream: IOStream, nbytes: int) -> bytearray:
        frame = bytearray()
        # Room is made as the bytes come, so that a length that is a lie costs little.
        while len(frame) < nbytes:
            frame += await stream.read_bytes(min(_AT_ONCE, nbytes - len(frame)), partial=True)
        return frame

    async def write(self, msg: Any, serializers: Any = None, on_error: Any = "message") -> int:
        stream = self._open_stream()
        frames = await to_frames(msg)
        lengths = [len(frame) for frame in frames]
        head = _COUNT.pack(len(frames)) + struct.pack(f"!{len(frames)}Q", *lengths)
        try:
            # Small frames go along with the head; large ones are handed over uncopied, one after another.
            pending = bytearray(head)
            for frame in frames:
                if len(frame) < 1 << 16:
                    pending += frame
                    continue
                await stream.write(bytes(pending))
                pending.clear()
                for start in range(0, len(frame), _AT_ONCE):
                    await stream.write(frame[start : start + _AT_ONCE])
            if pending:
                await stream.write(bytes(pending))
        except StreamClosedError as error:
            self.abort()
            convert_stream_closed_error(self, error)
        except BaseException:
            self.abort()
            raise
        return len(head) + sum(lengths)

    async def close(self) -> None:
        stream, self.stream = self.stream, None
        self._finalizer.detach()
        if stream is None or stream.closed():
            return
        try:
            if stream.writing():
                async with asyncio.timeout(5):
                    await stream.write(b"")  # goes behind what is pending
        except (OSError, TimeoutError):
            pass
        finally:
            stream.close()

    def abort(self) -> None:
        stream, self.stream = self.stream, None
        self._finalizer.detach()
        if stream is not None and not stream.closed():
            stream.close()

    def closed(self) -> bool:
        return self.stream is None or self.stream.closed()


class TLS(TCP):
    """A comm over an open, encrypted tornado stream; ``extra_info`` has ``peercert`` and ``cipher``."""

    def __init__(self, stream: IOStream, local_addr: str, peer_addr: str, deserialize: bool = True) -> None:
        super().__init__(stream, local_addr, peer_addr, deserialize)
        sock: Any = stream.socket
        self._extra = {"peercert": sock.getpeercert(), "cipher": sock.cipher()}
