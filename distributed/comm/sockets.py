"""A comm over one stream socket (tcp or unix), straight on the event loop's readiness callbacks.

Not ``asyncio.Transport``: measured here, it moves a large buffer through plain asyncio at a tenth of the speed of the
socket (it copies the rest of what the kernel does not take), and gains nothing on uvloop. So small messages are read
into a scratch buffer shared by the thread and decoded there; a large segment is received by ``recv_into`` in the
buffer it will live in; writes hand the list of buffers to ``sendmsg`` without joining them. No coroutine, future or
timer a message.

Over a unix socket, segments that lie in shared memory do not travel: their descriptors go along with the first byte of
the frame, and the kernel keeps what they name until the peer has taken or lost them.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import socket
import threading
from collections import deque
from typing import Any, ClassVar

from distributed.base import settings
from distributed.base.errors import CommClosedError, FrameError, PeerAlert
from distributed.comm import bad_streams
from distributed.comm.descriptors import ANCILLARY_BYTES, CUT_OFF, Parcel, packed, peer_pid, unpacked
from distributed.comm.offers import share_no_more
from distributed.comm.transport import Comm, OnBatch, OnClose, WireCodec
from distributed.protocol.frames import MAX_FIRST_SEGMENT, MAX_FRAME_BYTES, Frame, FrameReader, frame_buffers

logger = logging.getLogger("distributed.comm")

_SCRATCH = 256 * 1024
# Bytes moved for one comm before the loop's other callbacks get their turn.
_READ_QUOTA = 16 << 20
_IOV = 512
# Until it is tried again to send what the kernel refuses for now, without saying when it will take it.
_REST_S = 0.01
HIGH_WATER = 8 << 20
LOW_WATER = 1 << 20

OPEN_FDS: set[int] = set()
"""Descriptors of the house's own connections in this process."""


def max_frame_bytes() -> int:
    """Bytes that one frame may have at most (setting ``comm.max-frame-bytes``)."""
    return int(settings.get_bytes("distributed.comm.max-frame-bytes", MAX_FRAME_BYTES))


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.view = memoryview(bytearray(_SCRATCH))
        self.views = [self.view]


_scratch = _Scratch()


class SocketComm(Comm):
    """One connected, authenticated stream socket.

    Parameters
    ----------
    compression: for the segments that gain by it
    checked: frames have checksums, both ways
    shares_memory: both ends take descriptors of shared memory
    """

    sends_from_threads: ClassVar[bool] = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        local: str,
        peer: str,
        role: str = "",
        peer_role: str = "",
        compression: str | None = None,
        checked: bool = False,
        shares_memory: bool = False,
    ) -> None:
        self.local_address = local
        self.peer_address = peer
        self.role = role
        self.peer_role = peer_role
        self.compression = compression
        self.checked = checked
        self.shares_memory = shares_memory
        self.peer_pid = peer_pid(sock) if shares_memory else 0
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        OPEN_FDS.add(self._fd)
        # Of all that sending changes, and of the socket's end: a descriptor that is closed may be another's at once.
        self._sending = threading.RLock()
        self._thread = threading.get_ident()
        self._out: deque[Any] = deque()  # memoryviews, and parcels between them
        self._out_bytes = 0
        self._writing = False
        self._reading = False
        self._paused = False
        self._closing = False
        self._closed = False
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._flushed: asyncio.Future[None] | None = None
        self._on_batch: OnBatch | None = None
        self._on_close: OnClose | None = None
        self._codec: WireCodec | None = None
        self._max_frame_bytes = max_frame_bytes()
        self._fds: deque[int] = deque()  # those that have come, and whose frame is not whole
        open_shared = self._open_shared if shares_memory else None
        self._reader = FrameReader(self._max_frame_bytes, checked=checked, open_shared=open_shared)
        # How many messages have come and gone: frames are numbered by them, so that a lost or doubled one is noticed.
        self._received = 0
        self._sent = 0

    # --- receiving

    def start(self, on_batch: OnBatch, on_close: OnClose, codec: WireCodec) -> None:
        self._on_batch = on_batch
        self._on_close = on_close
        self._codec = codec
        self._thread = threading.get_ident()
        if self._closed:
            self._loop.call_soon(self._tell_closed, None)
            return
        self._read_on()

    def _read_on(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        scratch = _scratch.view
        reader = self._reader
        sock = self._sock
        quota = _READ_QUOTA
        try:
            while quota > 0 and not self._closed and not self._paused:
                target = reader.target()
                if target is None:
                    n = self._receive_both() if self.shares_memory else sock.recv_into(scratch)
                    if not n:
                        self._eof()
                        return
                    frames = reader.feed(scratch[:n])
                    more = n == _SCRATCH
                else:
                    n = sock.recv_into(target)
                    if not n:
                        self._eof()
                        return
                    frames = reader.filled(n)
                    # The kernel has given all it had, or the segment is complete and little follows it.
                    more = True
                quota -= n
                self.received_bytes += n
                for frame in frames:
                    self._on_frame(frame)
                if not more:
                    return
        except (BlockingIOError, InterruptedError):
            pass
        except FrameError as e:
            self._fail_badly(e)
        except OSError as e:
            self._fail(e)

    def _receive_both(self) -> int:
        n, ancillary, flags, _ = self._sock.recvmsg_into(_scratch.views, ANCILLARY_BYTES)
        if ancillary:
            self._fds.extend(unpacked(ancillary))
        if flags & CUT_OFF:
            share_no_more("too many open files (raise the limit: ulimit -n)")
            raise FrameError("descriptors of shared memory were lost: too many open files (ulimit -n)")
        return n

    def _open_shared(self, places: list[memoryview]) -> list[memoryview]:
        from distributed.protocol import shared_memory

        return shared_memory.put_in(places, self._fds)

    def _on_frame(self, frame: Frame) -> None:
        assert self._codec is not None
        try:
            if frame.first != self._received:
                raise FrameError(f"message {self._received} should come next, not {frame.first}")
            batch = self._codec.decode(frame.segments)
            self._received += len(batch)
        except Exception as e:
            self._fail_badly(e)
            return
        on_batch = self._on_batch
        if on_batch is None:
            return
        try:
            on_batch(batch)
        except Exception:  # a fault of ours is no reason to lose the messages behind this one
            logger.exception("Error while handling messages from %s", self.peer_address)

    def _eof(self) -> None:
        if self._reader.idle:
            self._finish(None)
        else:
            self._fail_badly(FrameError("the peer ended in the middle of a message"))

    # --- sending

    def send(self, batch: list[Any]) -> None:
        assert self._codec is not None, "start() comes before send()"
        if self._closed or self._closing:
            raise CommClosedError(f"{self!r} is closed")
        segments = self._codec.encode(batch)
        if len(segments[0]) > MAX_FIRST_SEGMENT:
            raise ValueError(f"messages of {len(segments[0])} bytes are too large to send at once")
        with self._sending:
            if self._closed or self._closing:
                raise CommClosedError(f"{self!r} is closed")
            self._send_frame(segments, len(batch))

    def _send_frame(self, segments: list[Any], n_messages: int) -> None:
        parcel, places = packed(segments) if self.shares_memory and len(segments) > 1 else (None, ())
        buffers, nbytes = frame_buffers(
            segments, self._sent, 0, self.compression, self.checked, self._max_frame_bytes, places
        )
        self._sent += n_messages
        self.sent_bytes += nbytes
        if parcel is not None or self._writing:
            if parcel is not None:
                self._out.append(parcel)
            self._out.extend(buffers)
            self._out_bytes += nbytes
            if not self._writing:
                self._write_on()
            return
        try:
            sent = self._sock.send(buffers[0]) if len(buffers) == 1 else self._sock.sendmsg(buffers[:_IOV])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as e:
            self._fail_to_send(e)
            return
        if sent != nbytes:
            self._out.extend(buffers)
            self._out_bytes += nbytes
            self._advance(sent)
            self._write_on()

    def _write_on(self) -> None:
        if self._out and not self._closed:
            self._writing = True
            if self._thread == threading.get_ident():
                self._loop.add_writer(self._fd, self._on_writable)
            else:
                self._loop.call_soon_threadsafe(self._write_on)

    def _advance(self, sent: int) -> None:
        self._out_bytes -= sent
        out = self._out
        while sent:
            first = out[0]
            n = first.nbytes
            if n > sent:
                out[0] = first[sent:]
                return
            sent -= n
            out.popleft()
        while out and type(out[0]) is memoryview and not out[0].nbytes:
            out.popleft()

    def _on_writable(self) -> None:
        with self._sending:
            self._write_some()

    def _write_some(self) -> None:
        out = self._out
        try:
            # One call a turn: it takes what the kernel has room for, which is megabytes.
            if len(out) == 1:
                sent = self._sock.send(out[0])
            elif type(out[0]) is Parcel:
                sent = self._sock.sendmsg(self._next_views(1), out[0].ancillary)
                out.popleft()
            else:
                sent = self._sock.sendmsg(self._next_views(0))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            if e.errno == errno.ETOOMANYREFS:  # so many descriptors of this user are on their way already
                self._loop.remove_writer(self._fd)
                self._loop.call_later(_REST_S, self._write_on)
                return
            self._fail_to_send(e)
            return
        self._advance(sent)
        if not out:
            self._writing = False
            self._loop.remove_writer(self._fd)
            if self._flushed is not None and not self._flushed.done():
                self._flushed.set_result(None)
        if self._drain_waiters and self._out_bytes <= LOW_WATER:
            self._release_drains()

    def _next_views(self, start: int) -> list[memoryview]:
        """What the next call may send: up to the next parcel."""
        views: list[memoryview] = []
        for item in itertools.islice(self._out, start, start + _IOV):
            if type(item) is Parcel:
                break
            views.append(item)
        return views

    def _release_drains(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def pending_bytes(self) -> int:
        return self._out_bytes

    async def drain(self) -> None:
        if self._out_bytes > HIGH_WATER and not self._closed:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._drain_waiters.append(waiter)
            await waiter
        if self._closed:
            raise CommClosedError(f"{self!r} is closed")

    # --- ending

    @property
    def closed(self) -> bool:
        return self._closed or self._closing

    async def close(self, timeout: float = 5.0) -> None:
        if self._closed:
            return
        self._closing = True
        if self._out:
            if self._flushed is None:
                self._flushed = self._loop.create_future()
            # asyncio.wait neither cancels the shared future nor raises when the time is over.
            await asyncio.wait([self._flushed], timeout=timeout)
        self._discard_input()
        self._finish(None)

    def _discard_input(self) -> None:
        """Unread input at close makes the kernel reset the connection, and what we sent last would be lost."""
        if self._closed:
            return
        try:
            for _ in range(64):
                if not self._sock.recv_into(_scratch.view):
                    return
        except OSError:
            pass

    def abort(self, error: BaseException | None = None) -> None:
        if error is None:
            self._finish(None)
        else:
            self._fail(error)

    def _fail_badly(self, error: Exception) -> None:
        """What came is not what the peer sent, or not what it may send: nothing of it is used."""
        if self._closed:
            return
        if isinstance(error, PeerAlert):  # it is counted where it was noticed
            self._fail(error)
            return
        text = bad_streams.note(self.peer_address, self.peer_role, error)
        failure = FrameError(f"{self!r}: bad bytes received, connection closed: {text}")
        failure.__cause__ = error
        self._fail(failure)

    def _fail_to_send(self, error: OSError) -> None:
        """The peer takes nothing more. What it said before it went (good-bye, perhaps) is here, and is read first."""
        self._closing = True
        if self._thread == threading.get_ident():
            self._end_sending(error)
        else:
            self._loop.call_soon_threadsafe(self._end_sending, error)

    def _end_sending(self, error: OSError) -> None:
        self._out.clear()
        self._out_bytes = 0
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        self._loop.call_soon(self._read_rest, error)

    def _read_rest(self, error: OSError) -> None:
        before = -1
        while self._reading and not self._closed and self.received_bytes != before:
            before = self.received_bytes
            self._on_readable()
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, OSError) and not isinstance(error, CommClosedError):
            wrapped = CommClosedError(f"{self!r}: {error.strerror or error}")
            wrapped.__cause__ = error
            error = wrapped
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        OPEN_FDS.discard(self._fd)
        with self._sending:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._sock.close()
        self._out.clear()
        while self._fds:
            os.close(self._fds.popleft())
        self._out_bytes = 0
        self._release_drains()
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)
        if self._on_close is not None:
            self._loop.call_soon(self._tell_closed, error)

    def _tell_closed(self, error: BaseException | None) -> None:
        on_close, self._on_close, self._on_batch = self._on_close, None, None
        if on_close is not None:
            on_close(error)

    def pause_reading(self) -> None:
        self._paused = True
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        self._paused = False
        if self._on_batch is not None:
            self._read_on()
