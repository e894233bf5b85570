"""Large buffers in memory that several processes of one machine map: written once, read in place by all. Shell.

A *segment* is an anonymous memory file (memfd): it has no name in any file system, so nothing is left behind by a
process that is killed, and it is gone when the last process has closed and unmapped it. Its writer seals it before
anybody else sees it: it can no longer be written, cut or grown by anyone. Each process maps it privately, so that
arrays on it are writable, and what one process writes nobody else sees.

A buffer of which we know that it lies unchanged in a segment need not be copied again: the segment's descriptor is
sent instead (``comm.sockets``). docs/decisions/0008-shared-memory.md says why it is so and not otherwise. Linux only;
loaded when it is first used.
"""

from __future__ import annotations

import bisect
import ctypes
import fcntl
import logging
import mmap
import os
import resource
import struct
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from distributed.base.errors import FrameError
from distributed.messages.payload import Attached, Payload

logger = logging.getLogger("distributed.comm")

SHARE_FROM = 512 * 1024
"""Bytes of a value that are worth a segment; fewer are cheaper to send."""
MAX_DESCRIPTORS = 240
"""Of one frame; the kernel takes 253 at once. What more there is travels as bytes."""
_BUFFER_FROM = 64 * 1024
_ALIGNMENT = 64
_DESCRIPTOR = struct.Struct("!IxxxxQQ")  # which of the frame's segments, offset in it, length

_PROT_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
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
_mappings: dict[int, tuple[int, int]] = {}
"""By address: length, and the descriptor (-1: closed)."""
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
    if sum(view.nbytes for view in views) < SHARE_FROM or len(_mappings) >= _most_descriptors():
        return payload
    try:
        written = _write(views)
    except OSError as error:
        logger.debug("A value of %d bytes is not shared: %s", payload.nbytes, error)
        return payload
    for i, view in zip(places, written, strict=True):
        buffers[i] = view
    return Payload(payload.data, Attached(buffers))


def _write(views: Sequence[memoryview]) -> list[memoryview]:
    """The same bytes in a fresh segment. Raises OSError when there is no room for them."""
    fd = os.memfd_create("distributed-value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        offsets = []
        end = 0
        for view in views:
            offsets.append(offset := -(-end // _ALIGNMENT) * _ALIGNMENT)
            end = offset + view.nbytes
            while view.nbytes:
                n = os.pwrite(fd, view, offset)
                offset += n
                view = view[n:]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALED)
        whole = _map(fd, end)
    except BaseException:
        os.close(fd)
        raise
    return [whole[offset : offset + view.nbytes] for offset, view in zip(offsets, views, strict=True)]


# ---------------------------------------------------------------- mapping


def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


_c = _libc()


def _map(fd: int, nbytes: int) -> memoryview:
    """A private, writable view of a segment, which owns ``fd`` from now on. Raises OSError.

    Not the class of Python's library: that one keeps a second descriptor, and does not tell its address.
    """
    start = _c.mmap(None, nbytes, _PROT_READ_WRITE, mmap.MAP_PRIVATE | _MAP_NORESERVE, fd, 0)
    if start is None or start == ctypes.c_void_p(-1).value:
        raise OSError(number := ctypes.get_errno(), os.strerror(number))
    memory = (ctypes.c_ubyte * nbytes).from_address(start)
    with _lock:
        _forget_gone()
        keep = len(_mappings) < _most_descriptors()
        bisect.insort(_starts, start)
        _mappings[start] = (nbytes, fd if keep else -1)
    weakref.finalize(memory, _unmap, start, nbytes, fd if keep else -1).atexit = False
    if not keep:
        os.close(fd)
    return memoryview(memory).cast("B")


def _unmap(start: int, nbytes: int, fd: int) -> None:
    _gone.append(start)  # before the address can be given to another mapping
    _c.munmap(start, nbytes)
    if fd >= 0:
        os.close(fd)


def _forget_gone() -> None:
    while _gone:
        start = _gone.popleft()
        if _mappings.pop(start, None) is not None:
            del _starts[bisect.bisect_left(_starts, start)]


def _most_descriptors() -> int:
    """How many segments may keep their descriptor open here: a quarter of what the process may have."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 4096 if soft == resource.RLIM_INFINITY else min(4096, soft // 4)


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
    descriptor is open; None for any other one."""
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
        size, fd = _mappings[start]
    if fd < 0 or address + nbytes > start + size or not _is_clean(address, nbytes):
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
        size, fd = _mappings[start]
        if 2 * sum(part[2] for part in parts) < size or len(fds) == MAX_DESCRIPTORS:
            continue
        for i, offset, nbytes in parts:
            segments[i] = _DESCRIPTOR.pack(len(fds), offset, nbytes)
            places.append(i)
        fds.append(fd)
    return tuple(places), fds


def put_in(descriptions: Sequence[Any], fds: deque[int]) -> list[memoryview]:
    """The segments of a frame that a peer has described by :func:`take_out`; the descriptors are taken from ``fds``.

    Raises FrameError when they are not what was announced, or memory that could change under our hands.
    """
    try:
        parts = [_DESCRIPTOR.unpack(description) for description in descriptions]
    except struct.error as error:
        raise FrameError(f"not a place in shared memory: {error}") from None
    count = max(index for index, _, _ in parts) + 1
    if count > len(fds):
        raise FrameError(f"{count} descriptors of shared memory were announced, {len(fds)} have come")
    wholes = [_adopt(fds.popleft()) for _ in range(count)]
    views = []
    for index, offset, nbytes in parts:
        whole = wholes[index]
        if offset + nbytes > whole.nbytes:
            raise FrameError(f"bytes {offset} to {offset + nbytes} of shared memory of {whole.nbytes} bytes")
        views.append(whole[offset : offset + nbytes])
    return views


def _adopt(fd: int) -> memoryview:
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALED != _SEALED:
            raise FrameError("shared memory that is not sealed")
        return _map(fd, os.fstat(fd).st_size)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError):
            raise FrameError(f"shared memory cannot be mapped: {error}") from None
        raise
