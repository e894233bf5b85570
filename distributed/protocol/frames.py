"""Frames cut from a byte stream, and made for one. Pure: no socket here.

A frame is a head (magic, flags, number of segments, number of the first message in it), the length of each segment,
and the segments::

    magic u8 | flags u8 | count u16 | first u64 | count x length u64 | segments
                                                  form u8 in the top byte, when flag 1 is set: a
                                                  compression (such a segment begins with its true
                                                  length, u64), or 255 for one that lies in shared
                                                  memory, of which only the place travels

Where the two ends agreed on checksums, every frame has flag 2 and three CRC-32: of the head, so that a wrong count is
noticed at once; of the lengths, so that nobody waits for bytes that do not come; of all segments as they travel::

    magic .. first | crc u32 of these | lengths | crc u32 of the segments | crc u32 of the lengths and that | segments

Every number is checked against its limit before anything is allocated for it, and memory for a large segment is taken
from the system page by page, as the bytes arrive. What is large is received straight into the buffer in which it will
be used.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from distributed.base.errors import FrameError
from distributed.protocol import compression as compressions
from distributed.protocol.buffers import allocate

MAGIC = 0xD6
FORMED = 1
"""Flag: lengths have the form of their segment in the top byte: 0 as it is, the number of a compression, or
:data:`SHARED`."""
SHARED = 255
CHECKED = 2
"""Flag: the frame has checksums."""

MAX_SEGMENTS = 65535
MAX_FRAME_BYTES = 1 << 40
MAX_FIRST_SEGMENT = 1 << 31
"""The first segment holds the messages themselves; bulk travels beside it."""

_HEAD = struct.Struct("!BBHQ")
# Head and length of a frame of one segment, as nearly all are.
_LONE_HEAD = struct.Struct("!BBHQQ")
_LENGTH = struct.Struct("!Q")
_CRC = struct.Struct("!I")
_TWO_CRCS = struct.Struct("!II")
_LENGTH_MASK = (1 << 56) - 1
# Smaller frames leave as one buffer: a copy of so much costs less than a longer list for the kernel.
_JOIN_BELOW = 32 * 1024
# A segment of which more than this is missing is received in place; less comes with whatever follows it, in one read.
_DIRECT_FROM = 64 * 1024

_lengths: dict[int, struct.Struct] = {n: struct.Struct(f"!{n}Q") for n in range(1, 65)}


def _length_struct(n: int) -> struct.Struct:
    return _lengths.get(n) or struct.Struct(f"!{n}Q")


def as_bytes_view(segment: Any) -> memoryview:
    """A flat view of the bytes of any contiguous buffer."""
    view = segment if type(segment) is memoryview else memoryview(segment)
    return view if view.format == "B" and view.ndim == 1 and view.contiguous else view.cast("B")


def frame_buffers(
    segments: list[Any],
    first: int = 0,
    flags: int = 0,
    compression: str | None = None,
    checked: bool = False,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    shared: Sequence[int] = (),
) -> tuple[list[memoryview], int]:
    """What to write for ``segments``, in order, and its length in bytes.

    Parameters
    ----------
    segments
        Bytes-like; the first holds the messages.
    first
        Number of the first message, which the receiver checks.
    compression
        Name of the compression for segments that gain by it.
    checked
        With checksums.
    max_frame_bytes
        What the receiver will take; ``ValueError`` for more.
    shared
        Which segments are places in shared memory, whose descriptors go along.
    """
    count = len(segments)
    if count == 1 and not checked and type(segments[0]) is bytes:
        n = len(segments[0])
        if n < compressions.MIN_BYTES and n <= max_frame_bytes and not shared:  # the common path stays short
            return [memoryview(_LONE_HEAD.pack(MAGIC, flags, 1, first, n) + segments[0])], _LONE_HEAD.size + n
    if not 0 < count <= MAX_SEGMENTS:
        raise FrameError(f"a frame has 1 to {MAX_SEGMENTS} segments, not {count}")
    views = [as_bytes_view(segment) for segment in segments]
    lengths = [view.nbytes for view in views]
    if (nbytes := sum(lengths)) > max_frame_bytes:
        raise ValueError(
            f"{nbytes} bytes are too large to send at once: the limit is {max_frame_bytes} "
            "(setting distributed.comm.max-frame-bytes, which must be raised at both ends)"
        )
    if compression is not None and max(lengths) >= compressions.MIN_BYTES:
        for i, view in enumerate(views):
            packed = compressions.compress(view, compression)
            if packed is not None:
                number, data = packed
                views[i] = memoryview(_LENGTH.pack(view.nbytes) + data)
                lengths[i] = views[i].nbytes | number << 56
                flags |= FORMED
    for i in shared:
        lengths[i] |= SHARED << 56
        flags |= FORMED
    if checked:
        head = _checked_head(flags, count, first, lengths, views)
    else:
        head = _HEAD.pack(MAGIC, flags, count, first) + _length_struct(count).pack(*lengths)
    total = len(head) + sum([view.nbytes for view in views])
    if total <= _JOIN_BELOW or (count == 1 and total <= 4 * _JOIN_BELOW):
        return [memoryview(b"".join((head, *views)))], total
    return [memoryview(head), *[view for view in views if view.nbytes]], total


def _checked_head(flags: int, count: int, first: int, lengths: list[int], views: list[memoryview]) -> bytes:
    head = _HEAD.pack(MAGIC, flags | CHECKED, count, first)
    body = 0
    for view in views:
        body = zlib.crc32(view, body)
    block = _length_struct(count).pack(*lengths) + _CRC.pack(body)
    return b"".join((head, _CRC.pack(zlib.crc32(head)), block, _CRC.pack(zlib.crc32(block))))


class Frame:
    """A whole frame: its segments, the number of its first message, its flags."""

    __slots__ = ("first", "flags", "segments")

    def __init__(self, segments: list[Any], first: int, flags: int) -> None:
        self.segments = segments
        self.first = first
        self.flags = flags


class FrameReader:
    """Bytes in, whole frames out.

    Either ``feed`` it what was read into a scratch buffer, or, while ``target()`` is not None, read into that and tell
    with ``filled`` how much it was. The first segment of a frame may lie in the scratch buffer: decode it before the
    next read. Every other segment is a writable buffer of its own. Raises FrameError for bytes that are no frame or
    exceed a limit; the connection is of no use then.

    Parameters
    ----------
    max_frame_bytes
        Longest frame, over all its segments, compressed and uncompressed.
    max_segments
        Most segments of a frame.
    checked
        Every frame has checksums, and is refused when they do not agree with it.
    open_shared
        Gives the segments for their places in shared memory; None: there are none on this connection.
    """

    def __init__(
        self,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_segments: int = MAX_SEGMENTS,
        checked: bool = False,
        open_shared: Callable[[list[memoryview]], list[memoryview]] | None = None,
    ) -> None:
        self._open_shared = open_shared
        self._max_frame_bytes = max_frame_bytes
        self._max_segments = max_segments
        self._checked = checked
        self._head_size = _HEAD.size + (_CRC.size if checked else 0)
        self._behind_lengths = _TWO_CRCS.size if checked else 0
        self._crc = 0  # of the segments of the frame in hand, as far as they have arrived
        self._declared_crc = 0
        self._head = bytearray()  # of a frame whose head and lengths have not arrived whole
        self._segments: list[Any] = []  # those of the frame in hand that are whole
        self._lengths: tuple[int, ...] = ()
        self._forms: tuple[int, ...] | None = None
        self._segment: memoryview | None = None  # the one that is being received; None: between frames or within a head
        self._got = 0
        self._first = 0
        self._flags = 0
        self._unpacked = 0

    @property
    def idle(self) -> bool:
        """Whether no frame has begun that is not whole: the stream may end here."""
        return self._segment is None and not self._head

    # --- receiving in place

    def target(self) -> memoryview | None:
        """Where to receive next, or None for the scratch buffer."""
        segment = self._segment
        if segment is None or segment.nbytes - self._got < _DIRECT_FROM:
            return None
        return segment[self._got :]

    def filled(self, n: int) -> list[Frame]:
        """``n`` bytes were received in ``target()``."""
        if self._checked:
            assert self._segment is not None
            self._crc = zlib.crc32(self._segment[self._got : self._got + n], self._crc)
        self._got += n
        return self._next_segment()

    # --- receiving by way of a scratch buffer

    def feed(self, data: Any) -> list[Frame]:
        """Take all of ``data``; it may be overwritten once the frames returned have been decoded."""
        data = as_bytes_view(data)
        size = data.nbytes
        if size > _LONE_HEAD.size and self._segment is None and not self._head and not self._checked:
            magic, flags, count, first, n = _LONE_HEAD.unpack_from(data)
            whole = n == size - _LONE_HEAD.size and count == 1 and not flags and magic == MAGIC
            if whole and n <= self._max_frame_bytes and n <= MAX_FIRST_SEGMENT:
                return [Frame([data[_LONE_HEAD.size :]], first, 0)]  # as nearly always
        frames: list[Frame] = []
        position = 0
        while position < size:
            segment = self._segment
            if segment is not None:
                n = min(segment.nbytes - self._got, size - position)
                segment[self._got : self._got + n] = data[position : position + n]
                if self._checked:
                    self._crc = zlib.crc32(data[position : position + n], self._crc)
                position += n
                self._got += n
                if self._got == segment.nbytes:
                    position = self._next_segments(data, position, frames)
            elif self._head:
                position = self._feed_head(data, position, frames)
            else:
                end = self._whole_frame(data, position, size, frames)
                if end < 0:
                    n = min(self._head_size, size - position)
                    self._head += data[position : position + n]
                    position = self._feed_head(data, position + n, frames)
                else:
                    position = end
        return frames

    def _whole_frame(self, data: memoryview, position: int, size: int, frames: list[Frame]) -> int:
        """Cut a frame that lies in ``data`` whole; its end, or -1 when it does not."""
        start = position + self._head_size
        if start > size:
            return -1
        flags, count, first = self._read_head(data, position)
        body = start + 8 * count + self._behind_lengths
        if body > size:
            return -1
        lengths = self._read_lengths(data, start, count)
        if flags & FORMED:
            return -1  # the common path stays short
        end: int = body + sum(lengths)
        if end > size:
            return -1
        self._check_lengths(lengths)
        if self._checked and zlib.crc32(data[body:end]) != self._declared_crc:
            raise FrameError(_CORRUPT)
        position = body + lengths[0]
        segments: list[Any] = [data[body:position]]
        for n in lengths[1:]:
            segments.append(bytearray(data[position : position + n]))
            position += n
        frames.append(Frame(segments, first, flags))
        return end

    def _feed_head(self, data: memoryview, position: int, frames: list[Frame]) -> int:
        """Complete the head and the lengths; the position behind them, or the end of ``data``."""
        head = self._head
        if head[0] != MAGIC:
            raise FrameError(_NO_FRAME)
        if len(head) < self._head_size:
            n = self._head_size - len(head)
            head += data[position : position + n]
            position += n
            if len(head) < self._head_size:
                return data.nbytes
        flags, count, first = self._read_head(head, 0)
        size = self._head_size + 8 * count + self._behind_lengths
        if len(head) < size:
            n = size - len(head)
            head += data[position : position + n]
            position += n
            if len(head) < size:
                return data.nbytes
        lengths = self._read_lengths(head, self._head_size, count)
        self._forms = None
        if flags & FORMED:
            self._forms = tuple([n >> 56 for n in lengths])
            lengths = tuple([n & _LENGTH_MASK for n in lengths])
        self._check_lengths(lengths)
        self._head = bytearray()
        self._lengths, self._first, self._flags = lengths, first, flags
        self._segments = []
        self._crc = 0
        return self._next_segments(data, position, frames)

    def _next_segments(self, data: memoryview, position: int, frames: list[Frame]) -> int:
        """Take the next segments as far as they lie in ``data`` whole, with one copy each; where that ended."""
        segments = self._segments
        if self._segment is not None:
            segments.append(self._segment)
            self._segment = None
        lengths = self._lengths
        size = data.nbytes
        for n in lengths[len(segments) :]:
            end = position + n
            if end > size:
                self._segment = self._allocate(n)
                self._got = 0
                return position
            if self._checked:
                self._crc = zlib.crc32(data[position:end], self._crc)
            segments.append(memoryview(bytearray(data[position:end])))
            position = end
        frames.append(self._end_of_frame())
        return position

    def _next_segment(self) -> list[Frame]:
        """Go on to the next segment if this one is whole; the frame if that was the last."""
        segment = self._segment
        while segment is not None and self._got == segment.nbytes:
            self._segments.append(segment)
            done = len(self._segments)
            if done == len(self._lengths):
                return [self._end_of_frame()]
            segment = self._segment = self._allocate(self._lengths[done])
            self._got = 0
        return []

    def _end_of_frame(self) -> Frame:
        segments, self._segments = self._segments, []
        self._segment = None
        if self._checked and self._crc != self._declared_crc:
            raise FrameError(_CORRUPT)
        if self._forms is not None:
            self._unpacked = 0
            segments = [self._unpack(n, s) if 0 < n < SHARED else s for n, s in zip(self._forms, segments, strict=True)]
            self._fetch_shared(segments, [i for i, form in enumerate(self._forms) if form == SHARED])
        return Frame(segments, self._first, self._flags & ~(FORMED | CHECKED))

    def _fetch_shared(self, segments: list[Any], places: list[int]) -> None:
        if not places:
            return
        if self._open_shared is None:
            raise FrameError("a place in shared memory, unasked")
        views = self._open_shared([segments[i] for i in places])
        for i, view in zip(places, views, strict=True):
            segments[i] = view
        if sum(view.nbytes for view in views) + self._unpacked > self._max_frame_bytes:
            raise FrameError(f"a frame has more than {self._max_frame_bytes} bytes in shared memory")

    def _unpack(self, number: int, segment: memoryview) -> memoryview:
        if segment.nbytes < _LENGTH.size:
            raise FrameError("a compressed segment without a length")
        (nbytes,) = _LENGTH.unpack_from(segment)
        self._unpacked += nbytes
        if self._unpacked > self._max_frame_bytes:
            raise FrameError(
                f"a compressed message declares {self._unpacked} bytes, more than the limit of {self._max_frame_bytes}"
            )
        return memoryview(compressions.decompress(number, segment[_LENGTH.size :], nbytes))

    @staticmethod
    def _allocate(nbytes: int) -> memoryview:
        try:
            return allocate(nbytes)
        except (MemoryError, OverflowError, OSError, ValueError) as error:
            raise FrameError(f"no memory for a segment of {nbytes} bytes: {error}") from None

    # --- limits

    def _read_head(self, data: memoryview | bytearray, position: int) -> tuple[int, int, int]:
        """Flags, number of segments, number of the first message; checked."""
        magic, flags, count, first = _HEAD.unpack_from(data, position)
        if magic != MAGIC:
            raise FrameError(_NO_FRAME)
        if self._checked:
            (declared,) = _CRC.unpack_from(data, position + _HEAD.size)
            if zlib.crc32(memoryview(data)[position : position + _HEAD.size]) != declared:
                raise FrameError(_CORRUPT)
        if bool(flags & CHECKED) != self._checked:
            raise FrameError("a frame without checksums" if self._checked else "a frame with checksums, unasked")
        if flags & ~(FORMED | CHECKED):
            raise FrameError(f"a frame with unknown flags {flags:#x}: the peer has another version")
        if not 0 < count <= self._max_segments:
            raise FrameError(f"a frame declares {count} segments; the limit is 1 to {self._max_segments}")
        return flags, count, first

    def _read_lengths(self, data: memoryview | bytearray, position: int, count: int) -> tuple[int, ...]:
        """The lengths as they are written, with compressions in them; the checksum behind them is kept."""
        if self._checked:
            end = position + 8 * count + _CRC.size
            self._declared_crc, declared = _TWO_CRCS.unpack_from(data, end - _CRC.size)
            if zlib.crc32(memoryview(data)[position:end]) != declared:
                raise FrameError(_CORRUPT)
        return _length_struct(count).unpack_from(data, position)

    def _check_lengths(self, lengths: tuple[int, ...]) -> None:
        total = sum(lengths)
        if total > self._max_frame_bytes:
            raise FrameError(
                f"a frame declares {total} bytes, more than the limit of {self._max_frame_bytes} "
                "(setting distributed.comm.max-frame-bytes)"
            )
        if lengths[0] > MAX_FIRST_SEGMENT:
            raise FrameError(f"the messages of a frame declare {lengths[0]} bytes; the limit is {MAX_FIRST_SEGMENT}")
        if not lengths[0]:
            raise FrameError("a frame without content")


_CORRUPT = "the bytes were changed on the way (wrong checksum)"
_NO_FRAME = "these bytes are not the beginning of a frame"
