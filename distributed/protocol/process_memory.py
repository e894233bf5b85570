"""Copies memory of another process of this user into buffers of our own: one copy, and nothing passes a socket. Shell.

Linux only, and only where the system lets one process read another (``process_vm_readv``; containers and Yama may
forbid it). Nothing here can write to the other process. Loaded when it is first used.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from typing import Any

from distributed.protocol.shared_memory import address_of

Piece = tuple[int, int, int]
"""Address here, address there, length."""

_PIECE_BYTES = 4 << 20


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
    return [(here + done, address + done, min(_PIECE_BYTES, nbytes - done)) for done in range(0, nbytes, _PIECE_BYTES)]


def read(pid: int, pieces: list[Piece], owner: object) -> None:
    """Take pieces off the list, until it is empty, and copy each.

    Several threads may work off one list; after an error the list is empty. ``owner`` keeps the buffers alive, whatever
    becomes of the caller. Raises OSError: not permitted, no such process, no such memory.
    """
    try:
        while pieces:
            try:
                here, there, nbytes = pieces.pop(0)
            except IndexError:  # another thread took it
                return
            _read_piece(pid, here, there, nbytes)
    except BaseException:
        pieces.clear()
        raise


def _read_piece(pid: int, here: int, there: int, nbytes: int) -> None:
    ours, theirs = _IoVec(here, nbytes), _IoVec(there, nbytes)
    got = _process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
    if got != nbytes:
        number = ctypes.get_errno() if got < 0 else 0
        why = os.strerror(number) if number else f"{got} of {nbytes} bytes"
        raise OSError(number, f"the memory of process {pid} cannot be read: {why}")


def read_bytes(pid: int, address: int, nbytes: int) -> bytes:
    """A few bytes. Raises OSError as :func:`read` does."""
    buffer = bytearray(nbytes)
    read(pid, pieces_of(buffer, address), buffer)
    return bytes(buffer)


def places_of(buffers: Iterable[Any]) -> list[tuple[int, int]]:
    """Address and length of each buffer here, to be told to whoever shall read them."""
    return [(address_of(buffer), memoryview(buffer).nbytes) for buffer in buffers]
