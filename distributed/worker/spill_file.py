"""One value on disk: written by ``writev`` without a copy, read by mapping the file into memory. Shell; thread-safe.

The file holds the segments of the value's payload, each at an aligned place; where they are is known in memory only,
since no other process reads it. Mapped private and writable, it costs no memory of its own until somebody writes into
the value, and what is written stays out of the file. It is removed when nothing refers to it any more.
"""

from __future__ import annotations

import errno
import functools
import os
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from distributed.base import own_files
from distributed.base.keys import Key
from distributed.messages.payload import Attached, Payload
from distributed.protocol import compression, serialize

ALIGNMENT = 64
MAPPED_NBYTES = 1 << 18
"""Smaller files are read: a mapping costs more."""
_MAX_SEGMENTS = 512
_MADV_POPULATE_READ = 22


class _Segment(NamedTuple):
    """Bytes of the file; ``method``: how they are compressed (0: not), and ``nbytes`` how many they are then."""

    offset: int
    length: int
    method: int
    nbytes: int


class SpillFile:
    """A value that has been written.

    Parameters
    ----------
    producer :
        The worker that its bytes came from, if nobody had opened them.
    remove :
        Gets the path when the file is of no use any more.
    """

    __slots__ = ("key", "path", "file_id", "nbytes", "producer", "segments", "_finalizer", "__weakref__")

    def __init__(
        self,
        key: Key,
        path: str,
        file_id: own_files.FileId,
        nbytes: int,
        segments: list[_Segment],
        producer: str,
        remove: Callable[[str], None],
    ) -> None:
        self.key = key
        self.path = path
        self.file_id = file_id
        self.nbytes = nbytes
        self.segments = segments
        self.producer = producer
        self._finalizer = weakref.finalize(self, remove, path)
        self._finalizer.atexit = False

    def remove(self) -> None:
        """Its value is given up: the file goes now, whoever still refers to this."""
        self._finalizer()

    def payload(self) -> Payload:
        """The value's bytes, in the file where they may be. Raises ``OSError`` when the file is gone, damaged or
        another one."""
        content = self._content()
        first, *others = [self._segment(content, segment) for segment in self.segments]
        return Payload(b"", Attached([first, *others]))

    def open(self) -> Any:
        """The value. Raises ``OSError``, or whatever unpickling raises."""
        return serialize.loads(self.payload())

    def _segment(self, content: memoryview, segment: _Segment) -> Any:
        view = content[segment.offset : segment.offset + segment.length]
        return compression.decompress(segment.method, view, segment.nbytes) if segment.method else view

    def _content(self) -> memoryview:
        fd = own_files.reopen(self.path, self.file_id)
        try:
            found = os.fstat(fd).st_size
            if found != self.nbytes:
                raise OSError(errno.EIO, f"the file has {found} bytes instead of {self.nbytes}", self.path)
            map_file = _mapper() if self.nbytes >= MAPPED_NBYTES else None
            if map_file is not None:
                return map_file(fd, self.nbytes)
            content = bytearray(self.nbytes)
            view = memoryview(content)
            while view:
                n = os.readv(fd, [view])
                if not n:
                    raise OSError(errno.EIO, "the file has become shorter", self.path)
                view = view[n:]
            return memoryview(content)
        finally:
            os.close(fd)

    def __repr__(self) -> str:
        return f"<SpillFile {self.key!r}, {self.nbytes} bytes>"


def write(key: Key, payload: Payload, path: str, method: str | None, producer: str, remove: Any) -> SpillFile:
    """Write a value; nothing is left of it when that fails.

    Parameters
    ----------
    method :
        Name of the compression for segments that shrink by it; None for none.

    Raises
    ------
    OSError
        The disk is full, or the like.
    """
    buffers: list[Any] = [] if payload.attached is None else list(payload.attached.buffers)
    if payload.data:
        buffers.insert(0, payload.data)
    pieces: list[memoryview] = []
    segments: list[_Segment] = []
    end = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        squeezed = compression.compress(view, method) if method is not None else None
        number, view_out = (0, view) if squeezed is None else (squeezed[0], memoryview(squeezed[1]))
        if gap := -end % ALIGNMENT:
            pieces.append(memoryview(bytes(gap)))
        segments.append(_Segment(end + gap, view_out.nbytes, number, view.nbytes))
        end += gap + view_out.nbytes
        pieces.append(view_out)
    fd, file_id = own_files.create(path)
    try:
        _write_all(fd, pieces)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return SpillFile(key, path, file_id, end, segments, producer, remove)


def _write_all(fd: int, pieces: list[memoryview]) -> None:
    start = 0
    while start < len(pieces):
        written = os.writev(fd, pieces[start : start + _MAX_SEGMENTS])
        while start < len(pieces) and written >= pieces[start].nbytes:
            written -= pieces[start].nbytes
            start += 1
        if written:
            pieces[start] = pieces[start][written:]


@functools.cache
def _mapper() -> Callable[[int, int], memoryview] | None:
    """Maps ``(fd, nbytes)``; None where that cannot be. Python's ``mmap`` would keep a descriptor for each value."""
    import ctypes
    import mmap

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        access, private = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE
    except (OSError, AttributeError, TypeError):
        return None

    def map_file(fd: int, nbytes: int) -> memoryview:
        address = libc.mmap(None, nbytes, access, private, fd, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            number = ctypes.get_errno()
            raise OSError(number, f"cannot map {nbytes} bytes: {os.strerror(number)}")
        # What is not in memory is read now, without the interpreter's lock; old kernels read it when it is touched.
        libc.madvise(address, nbytes, _MADV_POPULATE_READ)
        content = (ctypes.c_ubyte * nbytes).from_address(address)
        weakref.finalize(content, libc.munmap, address, nbytes).atexit = False
        return memoryview(content).cast("B")

    return map_file
