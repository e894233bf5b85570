"""The private line between a nanny and its worker process: a socket pair that carries pickled dicts, each with its
length.

Both ends are programs of this user that trust each other; nobody else can get at the line. Its end (EOF) means that the
other process is gone. Shell.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

import cloudpickle

_HEADER = struct.Struct("!Q")


def packed(message: dict[str, Any]) -> bytes:
    """One message as bytes; functions and classes of ``__main__`` travel by value."""
    body: bytes = cloudpickle.dumps(message)
    return _HEADER.pack(len(body)) + body


class MessageReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that are whole now."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            messages.append(pickle.loads(bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
        return messages


def read_message(sock: socket.socket) -> dict[str, Any] | None:
    """Wait for one message; None when the other side is gone."""
    header = _read_exactly(sock, _HEADER.size)
    if header is None:
        return None
    body = _read_exactly(sock, _HEADER.unpack(header)[0])
    if body is None:
        return None
    message: dict[str, Any] = pickle.loads(body)
    return message


def _read_exactly(sock: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        try:
            data = sock.recv(min(size - len(parts), 1 << 20))
        except OSError:
            return None
        if not data:
            return None
        parts += data
    return bytes(parts)
