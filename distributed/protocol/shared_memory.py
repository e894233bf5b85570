"""Large buffers in memory that several processes of one machine map: written once, read in place by all. Shell.

A *segment* is an anonymous memory file (memfd), or several that are mapped side by side: they have no name in any file
system, so nothing is left behind by a process that is killed, and they are gone when the last process has closed and
unmapped them. Their writer seals them before anybody else sees them: they can no longer be written, cut or grown by
anyone. Each process maps them privately, so that arrays on them are writable, and what one process writes nobody else
sees. Several files, because only one thread at a time can write to one.

A buffer of which we know that it lies unchanged in a segment need not be copied again: the segment's descriptors are
sent instead (``comm.sockets``). docs/decisions/0008-shared-memory.md says why it is so and not otherwise. Linux only;
loaded when it is first used.
"""

from __future__ import annotations

import bisect
import concurrent.futures
import ctypes
import fcntl
import itertools
import logging
import mmap
import os
import resource
import struct
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from distributed.base.daemon_pool import DaemonThreadPool
from distributed.base.errors import FrameError
from distributed.messages.payload import Attached, Payload

logger = logging.getLogger("distributed.comm")

SHARE_FROM = 512 * 1024
"""Bytes of a value that are worth a segment; fewer are cheaper to send."""
MAX_DESCRIPTORS = 240
"""Of one frame; the kernel takes 253 at once. What more there is travels as bytes."""
_BUFFER_FROM = 64 * 1024
_ALIGNMENT = 64
_N_WRITERS = 2
_PART_FROM = 8 * 1024 * 1024
"""Bytes that are worth a file and a thread of their own."""
_DESCRIPTOR = struct.Struct("!HHxxxxQQ")  # a segment: its first file, of how many; the place in it: offset, length

_PROT_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_PROT_NONE = 0
_MAP_FIXED = 0x10
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0)
_SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
# The uppermost byte of a page's entry in pagemap: bit 7 present, 6 swapped out, 5 of a file. Clean is a page that is
# not there, or is the file's own; one that was written to has become ours.
_CLEAN_PAGES = bytes([flags for flags in range(256) if flags & 0xE0 in (0x00, 0xA0)])
_FLAGS_BYTE = 7 if sys.byteorder == "little" else 0
_ENTRIES_AT_ONCE = 1 << 17

_lock = threading.Lock()
_starts: list[int] = []
"""Addresses of the mappings of this process, ascending."""
_mappings: dict[int, tuple[int, tuple[int, ...]]] = {}
"""By address: length, and the descriptors of the files (none: they are closed)."""
_gone: deque[int] = deque()
"""Addresses that have been unmapped; a finaliser, which may run at any time, takes no lock."""


# ---------------------------------------------------------------- writing


def share(payload: Payload) -> Payload:
    """``payload`` with its large buffers in a segment of its own; as it is when there is little to share, or no room.

    Copies, so call it in a thread.
    """
    attached = payload.attached
    if attached is None or attached.is_live or attached.nbytes < SHARE_FROM:
        return payload
    buffers = list(attached.buffers)
    places = [i for i, b in enumerate(buffers) if memoryview(b).nbytes >= _BUFFER_FROM and locate(b) is None]
    views = [memoryview(buffers[i]).cast("B") for i in places]
    if sum(view.nbytes for view in views) < SHARE_FROM or len(_mappings) >= _most_mappings():
        return payload
    try:
        written = _write(views)
    except (OSError, RuntimeError) as error:  # no memory, no descriptor, no thread
        logger.debug("A value of %d bytes is not shared: %s", payload.nbytes, error)
        return payload
    for i, view in zip(places, written, strict=True):
        buffers[i] = view
    return Payload(payload.data, Attached(buffers))


def _write(views: Sequence[memoryview]) -> list[memoryview]:
    """The same bytes in a fresh segment. Raises OSError when there is no room for them."""
    offsets = []
    end = 0
    for view in views:
        offsets.append(offset := -(-end // _ALIGNMENT) * _ALIGNMENT)
        end = offset + view.nbytes
    placed = list(zip(offsets, views, strict=True))
    bounds = _bounds(end)
    fds: list[int] = []
    try:
        while len(fds) < len(bounds) - 1:
            fds.append(os.memfd_create("distributed-value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        _write_files(list(zip(fds, itertools.pairwise(bounds), strict=True)), placed)
        whole = _map(fds, [last - first for first, last in itertools.pairwise(bounds)])
    except BaseException:
        _close(fds)
        raise
    return [whole[offset : offset + view.nbytes] for offset, view in placed]


def _bounds(nbytes: int) -> list[int]:
    """Where the files of a segment begin, at pages, and where the last one ends."""
    n = max(1, min(_N_WRITERS, nbytes // _PART_FROM))
    return [nbytes * i // n // mmap.PAGESIZE * mmap.PAGESIZE for i in range(n)] + [nbytes]


def _write_files(parts: Sequence[tuple[int, tuple[int, int]]], placed: Sequence[tuple[int, memoryview]]) -> None:
    """Each in a thread of its own; to begin one is nothing beside what it writes."""
    pool = DaemonThreadPool(_N_WRITERS, "Dask-Share")
    others: list[concurrent.futures.Future[None]] = []
    try:
        for fd, part in parts[1:]:
            others.append(pool.submit(_write_file, fd, part, placed))
        _write_file(*parts[0], placed)
    finally:
        concurrent.futures.wait(others)
        pool.shutdown(wait=False)
    for other in others:
        other.result()


def _write_file(fd: int, part: tuple[int, int], placed: Sequence[tuple[int, memoryview]]) -> None:
    """Fill the file with ``part``, from byte to byte, of a segment, and seal it."""
    first, last = part
    os.ftruncate(fd, last - first)  # what is written may end a little before: buffers are aligned
    for offset, view in placed:
        view = view[max(first - offset, 0) : max(last - offset, 0)]
        offset = max(offset, first) - first
        while view.nbytes:
            n = os.pwrite(fd, view, offset)
            offset += n
            view = view[n:]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALED)


# ---------------------------------------------------------------- mapping


def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


_c = _libc()


def _map(fds: Sequence[int], sizes: Sequence[int]) -> memoryview:
    """A private, writable view of a segment, whose files lie in it side by side and belong to it from now on.

    All sizes but the last are those of whole pages. Not the class of Python's library: that one keeps a second
    descriptor, and does not tell its address. Raises OSError, and then has not taken the files.
    """
    nbytes = sum(sizes)
    start = _mmap(None, nbytes, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE, -1)
    try:
        place = start
        for fd, size in zip(fds, sizes, strict=True):
            _mmap(place, size, _PROT_READ_WRITE, mmap.MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE, fd)
            place += size
    except OSError:
        _c.munmap(start, nbytes)
        raise
    memory = (ctypes.c_ubyte * nbytes).from_address(start)
    with _lock:
        _forget_gone()
        kept = tuple(fds) if len(_mappings) < _most_mappings() else ()
        bisect.insort(_starts, start)
        _mappings[start] = (nbytes, kept)
    weakref.finalize(memory, _unmap, start, nbytes, kept).atexit = False
    if not kept:
        _close(fds)
    return memoryview(memory).cast("B")


def _mmap(place: int | None, nbytes: int, protection: int, flags: int, fd: int) -> int:
    start = _c.mmap(place, nbytes, protection, flags, fd, 0)
    if start is None or start == ctypes.c_void_p(-1).value:
        raise OSError(number := ctypes.get_errno(), os.strerror(number))
    return int(start)


def _unmap(start: int, nbytes: int, fds: Iterable[int]) -> None:
    _gone.append(start)  # before the address can be given to another mapping
    _c.munmap(start, nbytes)
    _close(fds)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _forget_gone() -> None:
    while _gone:
        start = _gone.popleft()
        if _mappings.pop(start, None) is not None:
            del _starts[bisect.bisect_left(_starts, start)]


def _most_mappings() -> int:
    """How many segments may keep their files open here: a quarter of what the process may have, all being large."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 4096 if soft == resource.RLIM_INFINITY else min(4096, soft // (4 * _N_WRITERS))


class _PyBuffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def address_of(buffer: Any) -> int:
    """Where the bytes of a contiguous buffer lie in this process."""
    struct = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(struct), 0)
    address = struct.buf or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(struct))
    return address


def locate(buffer: Any) -> tuple[int, int] | None:
    """``(address of the mapping, offset in it)`` of a buffer whose bytes are still those of a segment, of which the
    files are open; None for any other one."""
    if not _mappings:
        return None
    address = address_of(buffer)
    nbytes = memoryview(buffer).nbytes
    with _lock:
        _forget_gone()
        i = bisect.bisect_right(_starts, address) - 1
        if i < 0:
            return None
        start = _starts[i]
        size, fds = _mappings[start]
    if not fds or address + nbytes > start + size or not _is_clean(address, nbytes):
        return None
    return start, address - start


def _is_clean(address: int, nbytes: int) -> bool:
    """Whether nobody in this process has written to these pages; False when that cannot be told."""
    page, last = address // mmap.PAGESIZE, (address + nbytes - 1) // mmap.PAGESIZE
    try:
        pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        while page <= last:
            entries = os.pread(pagemap, 8 * min(last + 1 - page, _ENTRIES_AT_ONCE), 8 * page)
            if len(entries) < 8 or entries[_FLAGS_BYTE::8].translate(None, _CLEAN_PAGES):
                return False
            page += len(entries) // 8
    except OSError:
        return False
    finally:
        os.close(pagemap)
    return True


# ---------------------------------------------------------------- from process to process


def take_out(segments: list[Any]) -> tuple[tuple[int, ...], list[int]]:
    """Replace those segments of a frame that lie in shared memory by where they lie in it.

    Returns the places of these in the list, and the descriptors to send along, which are open for as long as the
    buffers that were replaced exist. A part of a mapping that is less than half of it stays: whoever gets it would
    keep all of it in memory.
    """
    by_mapping: dict[int, list[tuple[int, int, int]]] = {}
    if _mappings:
        for i, segment in enumerate(segments):
            if type(segment) is memoryview and segment.nbytes >= _BUFFER_FROM:
                found = locate(segment)
                if found is not None:
                    by_mapping.setdefault(found[0], []).append((i, found[1], segment.nbytes))
    places: list[int] = []
    fds: list[int] = []
    for start, parts in by_mapping.items():
        size, files = _mappings[start]
        if 2 * sum(part[2] for part in parts) < size or len(fds) + len(files) > MAX_DESCRIPTORS:
            continue
        for i, offset, nbytes in parts:
            segments[i] = _DESCRIPTOR.pack(len(fds), len(files), offset, nbytes)
            places.append(i)
        fds += files
    return tuple(places), fds


def put_in(descriptions: Sequence[Any], fds: deque[int]) -> list[memoryview]:
    """The segments of a frame that a peer has described by :func:`take_out`; the descriptors are taken from ``fds``.

    Raises FrameError when they are not what was announced, or memory that could change under our hands.
    """
    try:
        parts = [_DESCRIPTOR.unpack(description) for description in descriptions]
    except struct.error as error:
        raise FrameError(f"not a place in shared memory: {error}") from None
    segments = sorted({(first, n_files) for first, n_files, _, _ in parts})
    count = 0
    for first, n_files in segments:
        if first != count or not n_files:
            raise FrameError(f"files {first} to {first + n_files} of shared memory, where {count} comes next")
        count += n_files
    if count > len(fds):
        raise FrameError(f"{count} descriptors of shared memory were announced, {len(fds)} have come")
    wholes = {first: _adopt([fds.popleft() for _ in range(n_files)]) for first, n_files in segments}
    views = []
    for first, _, offset, nbytes in parts:
        whole = wholes[first]
        if offset + nbytes > whole.nbytes:
            raise FrameError(f"bytes {offset} to {offset + nbytes} of shared memory of {whole.nbytes} bytes")
        views.append(whole[offset : offset + nbytes])
    return views


def _adopt(fds: list[int]) -> memoryview:
    try:
        if any(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALED != _SEALED for fd in fds):
            raise FrameError("shared memory that is not sealed")
        sizes = [os.fstat(fd).st_size for fd in fds]
        if any(size % mmap.PAGESIZE for size in sizes[:-1]):
            raise FrameError(f"files of shared memory that do not end with a page: {sizes} bytes")
        return _map(fds, sizes)
    except BaseException as error:
        _close(fds)
        if isinstance(error, OSError):
            raise FrameError(f"shared memory cannot be mapped: {error}") from None
        raise
