"""Frames cut from a byte stream, and made for one: pure; no socket here.

A frame is a head (magic, flags, number of segments, number of the first message in it), the length of each segment, and the
segments. Every number is checked against its limit before anything is allocated for it. A segment that arrives in pieces and
is large is received straight into the buffer in which it will be used (:meth:`FrameReader.target`).
"""

from __future__ import annotations

import mmap
import struct
from typing import Any

from distributed.base.errors import FrameError

MAGIC = 0xD6
MAX_SEGMENTS = 65535
MAX_FRAME_BYTES = 1 << 40
MAX_FIRST_SEGMENT = 1 << 31
"""The first segment holds the messages themselves; bulk travels beside it."""

_HEAD = struct.Struct("!BBHQ")
# Smaller frames leave as one buffer: a copy of so much costs less than a longer list for the kernel.
_JOIN_BELOW = 32 * 1024
# A segment of which more than this is missing is received in place; less comes with whatever follows it, in one read.
_DIRECT_FROM = 64 * 1024

# From this size on a buffer is a mapping of its own with huge pages: with pages of 4 kB, the page faults of a fresh buffer cost
# more than receiving into it (measured: 1.7 GB/s against 4.9). Its memory goes back to the system when it is freed.
_HUGE_FROM = 4 << 20
_HUGE_PAGES: int | None = getattr(mmap, "MADV_HUGEPAGE", None)

_lengths: dict[int, struct.Struct] = {n: struct.Struct(f"!{n}Q") for n in range(1, 65)}


def _length_struct(n: int) -> struct.Struct:
    return _lengths.get(n) or struct.Struct(f"!{n}Q")


def frame_buffers(segments: list[Any], first: int, flags: int = 0) -> tuple[list[memoryview], int]:
    """What to write for ``segments``, in order, and its length in bytes.

    Parameters
    ----------
    segments: bytes-like; the first holds the messages
    first: the number of the first message, which the receiver checks
    """
    count = len(segments)
    if not 0 < count <= MAX_SEGMENTS:
        raise FrameError(f"a frame has 1 to {MAX_SEGMENTS} segments, not {count}")
    views = []
    for segment in segments:
        view = segment if type(segment) is memoryview else memoryview(segment)
        views.append(view if view.format == "B" and view.ndim == 1 and view.contiguous else view.cast("B"))
    lengths = [view.nbytes for view in views]
    head = _HEAD.pack(MAGIC, flags, count, first) + _length_struct(count).pack(*lengths)
    total = len(head) + sum(lengths)
    if total <= _JOIN_BELOW or count == 1 and total <= 4 * _JOIN_BELOW:
        return [memoryview(b"".join((head, *views)))], total
    return [memoryview(head), *(view for view in views if view.nbytes)], total


def new_buffer(nbytes: int) -> Any:
    """Writable zeroed memory to receive ``nbytes`` into."""
    if nbytes < _HUGE_FROM or _HUGE_PAGES is None:
        return bytearray(nbytes)
    try:
        mapping = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mapping.madvise(_HUGE_PAGES)
    except OSError:
        return bytearray(nbytes)
    return memoryview(mapping)


class Frame:
    """A whole frame: its segments, the number of its first message, its flags."""

    __slots__ = ("first", "flags", "segments")

    def __init__(self, segments: list[Any], first: int, flags: int) -> None:
        self.segments = segments
        self.first = first
        self.flags = flags


class FrameReader:
    """Bytes in, whole frames out.

    Either ``feed`` it what was read into a scratch buffer, or, while ``target()`` is not None, read into that and tell with
    ``filled`` how much it was. The first segment of a frame may lie in the scratch buffer: decode it before the next read.
    Raises FrameError for bytes that are no frame or exceed a limit; the connection is of no use then.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._head = bytearray()  # of a frame whose head and lengths have not arrived whole
        self._segments: list[Any] = []
        self._index = -1  # of the segment that is being received; -1: between frames or within a head
        self._got = 0
        self._first = 0
        self._flags = 0

    @property
    def idle(self) -> bool:
        """Whether no frame has begun that is not whole."""
        return self._index < 0 and not self._head

    def target(self) -> memoryview | None:
        """Where to receive next, or None for the scratch buffer."""
        if self._index < 0:
            return None
        segment = self._segments[self._index]
        if len(segment) - self._got < _DIRECT_FROM:
            return None
        return memoryview(segment)[self._got :]

    def filled(self, n: int) -> list[Frame]:
        """``n`` bytes were received in ``target()``."""
        self._got += n
        return self._next_segment()

    def _next_segment(self) -> list[Frame]:
        segments = self._segments
        while self._got == len(segments[self._index]):
            self._index += 1
            self._got = 0
            if self._index == len(segments):
                frame = Frame(segments, self._first, self._flags)
                self._segments = []
                self._index = -1
                return [frame]
        return []

    def feed(self, data: memoryview) -> list[Frame]:
        """Take all of ``data``; it may be overwritten once the frames returned have been decoded."""
        frames: list[Frame] = []
        size = len(data)
        position = 0
        while position < size:
            if self._index >= 0:
                segment = self._segments[self._index]
                n = min(len(segment) - self._got, size - position)
                segment[self._got : self._got + n] = data[position : position + n]
                position += n
                self._got += n
                frames += self._next_segment()
            elif self._head:
                position = self._feed_head(data, position)
            else:
                end = self._whole_frame(data, position, size, frames)
                if end < 0:
                    self._head += data[position : position + _HEAD.size]
                    position = self._feed_head(data, position + len(self._head))
                else:
                    position = end
        return frames

    def _whole_frame(self, data: memoryview, position: int, size: int, frames: list[Frame]) -> int:
        """Cut a frame that lies in ``data`` whole; its end, or -1 when it does not."""
        start = position + _HEAD.size
        if start > size:
            return -1
        magic, flags, count, first = _HEAD.unpack_from(data, position)
        self._check_head(magic, count)
        body = start + 8 * count
        if body > size:
            return -1
        lengths = _length_struct(count).unpack_from(data, start)
        end = body + sum(lengths)
        if end > size or not lengths[0]:  # what is wrong is said in one place
            return -1
        position = body + lengths[0]
        segments: list[Any] = [data[body:position]]
        for n in lengths[1:]:
            segments.append(bytearray(data[position : position + n]))
            position += n
        frames.append(Frame(segments, first, flags))
        return end

    def _feed_head(self, data: memoryview, position: int) -> int:
        head = self._head
        if len(head) < _HEAD.size:
            n = _HEAD.size - len(head)
            head += data[position : position + n]
            position += n
            if len(head) < _HEAD.size:
                return len(data)
        magic, flags, count, first = _HEAD.unpack_from(head)
        self._check_head(magic, count)
        missing = _HEAD.size + 8 * count - len(head)
        if missing > 0:
            head += data[position : position + missing]
            position += missing
            if len(head) < _HEAD.size + 8 * count:
                return len(data)
        lengths = _length_struct(count).unpack_from(head, _HEAD.size)
        if lengths[0] > MAX_FIRST_SEGMENT or sum(lengths) > self._max_frame_bytes:
            raise FrameError(
                f"a message of {sum(lengths)} bytes exceeds the limit of {min(self._max_frame_bytes, MAX_FRAME_BYTES)}"
            )
        if not lengths[0]:
            raise FrameError("a frame without messages")
        try:
            self._segments = [new_buffer(n) for n in lengths]
        except MemoryError:
            raise FrameError(f"no memory for a message of {sum(lengths)} bytes") from None
        self._head = bytearray()
        self._first, self._flags = first, flags
        self._index = self._got = 0
        self._next_segment()
        return position

    @staticmethod
    def _check_head(magic: int, count: int) -> None:
        if magic != MAGIC:
            raise FrameError("these bytes are not the beginning of a frame")
        if not count:
            raise FrameError("a frame without segments")
