"""Copies memory of another process of this user into buffers of our own: one copy, and nothing passes a socket. Shell.

Linux only, and only where the system lets one process read another (``process_vm_readv``; containers and Yama may
forbid it). Nothing here can write to the other process. Loaded when it is first used.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from distributed.protocol.buffers import advise_huge_pages
from distributed.protocol.shared_memory import address_of

Piece = tuple[int, int, int]
"""Address here, address there, length."""

_PIECE_BYTES = 2 << 20
"""A huge page."""
_SLOW_S = 0.0015
"""For a piece: a huge page that the machine has at hand takes a third of it, one that it must get first twice of it."""


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def _reader() -> Any:
    try:
        read = ctypes.CDLL(None, use_errno=True).process_vm_readv
    except (OSError, AttributeError):
        return None
    vector = ctypes.POINTER(_IoVec)
    read.argtypes = [ctypes.c_int, vector, ctypes.c_ulong, vector, ctypes.c_ulong, ctypes.c_ulong]
    read.restype = ctypes.c_ssize_t
    return read


_process_vm_readv = _reader()


def supported() -> bool:
    """Whether there is such a call at all; whether it is permitted, only trying tells."""
    return _process_vm_readv is not None


def pieces_of(buffer: Any, address: int) -> list[Piece]:
    """What fills ``buffer`` with what lies at ``address`` there, in parts that several threads may take from."""
    here, nbytes = address_of(buffer), memoryview(buffer).nbytes
    first = -here % _PIECE_BYTES or _PIECE_BYTES
    cuts = [0, *range(first, nbytes, _PIECE_BYTES), nbytes] if nbytes else [0]
    return [(here + start, address + start, end - start) for start, end in itertools.pairwise(cuts)]


class Reading:
    """Copies from another process into fresh buffers, by any number of threads that each call :meth:`run`.

    The buffers are filled as huge pages for as long as these come quickly: that takes a quarter of the time. The first
    that the machine (a virtual one, which has given free memory back) must get first is the last. Keeps the buffers
    alive, whatever becomes of those who wait for them.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._pieces: deque[Piece] = deque()
        self._buffers: list[memoryview] = []
        self._huge = False

    def add(self, buffer: memoryview, address: int) -> None:
        """``buffer``, made by :func:`allocate`, shall be filled with what lies at ``address`` there."""
        self._buffers.append(buffer)
        self._pieces += pieces_of(buffer, address)
        self._huge |= advise_huge_pages(buffer, True)

    def run(self) -> None:
        """Take pieces off the list, until it is empty, and copy each. After an error the list is empty.

        Raises OSError: not permitted, no such process, no such memory.
        """
        pieces = self._pieces
        try:
            while pieces:
                try:
                    here, there, nbytes = pieces.popleft()
                except IndexError:  # another thread took it
                    return
                started = time.perf_counter()
                _read_piece(self._pid, here, there, nbytes)
                if self._huge and time.perf_counter() - started > _SLOW_S:
                    self._take_small_pages()
        except BaseException:
            pieces.clear()
            raise

    def _take_small_pages(self) -> None:
        self._huge = False
        for buffer in self._buffers:
            advise_huge_pages(buffer, False)


def _read_piece(pid: int, here: int, there: int, nbytes: int) -> None:
    ours, theirs = _IoVec(here, nbytes), _IoVec(there, nbytes)
    got = _process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
    if got != nbytes:
        number = ctypes.get_errno() if got < 0 else 0
        why = os.strerror(number) if number else f"{got} of {nbytes} bytes"
        raise OSError(number, f"the memory of process {pid} cannot be read: {why}")


def read_bytes(pid: int, address: int, nbytes: int) -> bytes:
    """A few bytes. Raises OSError as :meth:`Reading.run` does."""
    buffer = bytearray(nbytes)
    _read_piece(pid, address_of(buffer), address, nbytes)
    return bytes(buffer)


def places_of(buffers: Iterable[Any]) -> list[tuple[int, int]]:
    """Address and length of each buffer here, to be told to whoever shall read them."""
    return [(address_of(buffer), memoryview(buffer).nbytes) for buffer in buffers]
