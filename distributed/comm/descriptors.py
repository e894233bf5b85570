"""Descriptors of shared memory that go along with the bytes of a unix socket. Shell."""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any

from distributed.base.lazy import loaded

ANCILLARY_BYTES = socket.CMSG_SPACE(4 * 253) if hasattr(socket, "CMSG_SPACE") else 0
"""Room for as many descriptors as the kernel lets come at once."""
CUT_OFF = int(getattr(socket, "MSG_CTRUNC", 0))  # the enum member itself makes a new one at each "&"
"""Flag of a received message whose descriptors were lost."""
_PEERCRED = getattr(socket, "SO_PEERCRED", 0)
_CREDENTIALS = struct.Struct("iII")
_SHARED_MEMORY = "distributed.protocol.shared_memory"


class Parcel:
    """Descriptors among what waits to be sent: they leave with the first byte of what follows."""

    __slots__ = ("ancillary", "owners")

    def __init__(self, fds: list[int], owners: list[Any]) -> None:
        self.ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        self.owners = owners  # the descriptors are open for as long as these exist


def packed(segments: list[Any]) -> tuple[Parcel | None, tuple[int, ...]]:
    """Take the shared memory out of ``segments``: the parcel of it, and the places where it was."""
    take_out = loaded(_SHARED_MEMORY, "take_out")
    if take_out is None:
        return None, ()  # this process has none
    owners = list(segments)
    places, fds = take_out(segments)
    return (Parcel(fds, owners) if fds else None), places


def unpacked(ancillary: Iterable[tuple[int, int, bytes]]) -> array.array[int]:
    """The descriptors that came."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) // fds.itemsize * fds.itemsize])
    return fds


def peer_pid(sock: socket.socket) -> int:
    """The process at the other end of a unix socket, as the kernel knows it; 0: another user's, or unknown."""
    try:
        pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, _PEERCRED, _CREDENTIALS.size))
    except (OSError, struct.error):
        return 0
    return int(pid) if uid == os.geteuid() else 0
