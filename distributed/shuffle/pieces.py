"""Pieces of data on their way from an input to an output partition, and their form in messages and files. Pure.

In a file a partition is a sequence of blocks, each written at once, compressed or not; a block holds records, each a
header and the data of one piece, padded so that numbers stay aligned.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from distributed.protocol import compression

BytesLike: TypeAlias = bytes | bytearray | memoryview

RAW = 0
"""The buffer of an array."""
ARROW = 1
"""A record batch without its schema."""
PICKLE = 2
"""A pickled object that needs no description."""

_RECORD = struct.Struct("<IIII")
_SIZE = struct.Struct("<Q")
_BLOCK = struct.Struct("<QQQ")
_ALIGN = 8
_HEADER_NBYTES = _RECORD.size + _SIZE.size


class Piece(NamedTuple):
    """What one input contributes to one output partition (or a part of it).

    ``source`` is the number of the input, ``number`` the place among its pieces for this partition; together they tell
    where the piece belongs. ``kind`` is one of ``RAW``, ``ARROW``, ``PICKLE``.
    """

    partition: int
    source: int
    number: int
    kind: int
    data: memoryview

    @property
    def nbytes(self) -> int:
        return self.data.nbytes


def as_bytes(data: Any) -> memoryview:
    """The memory of ``data`` as plain bytes, uncopied."""
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


Index = list[tuple[int, int, int, int]]
"""``(partition, number, kind, nbytes)`` of each piece in a message; all are of one source."""


def pack(pieces: list[Piece]) -> tuple[Index, bytes]:
    """Pieces of one source as an index and one block of bytes."""
    index = [(piece.partition, piece.number, piece.kind, piece.nbytes) for piece in pieces]
    parts: list[BytesLike] = []
    for piece in pieces:
        parts.append(piece.data)
        parts.append(_padding(piece.nbytes))
    return index, b"".join(parts)


def unpack(source: int, index: Index, data: BytesLike) -> Iterator[Piece]:
    """The pieces of :func:`pack`, as views of ``data``."""
    view = as_bytes(data)
    start = 0
    for partition, number, kind, nbytes in index:
        if start + nbytes > view.nbytes:
            raise ValueError(f"a message of {view.nbytes} bytes cannot hold the pieces that its index lists")
        yield Piece(partition, source, number, kind, view[start : start + nbytes])
        start += nbytes + -nbytes % _ALIGN


def pack_block(pieces: Iterable[Piece], method: str | None) -> bytes:
    """Pieces of one partition as one block of a file.

    Parameters
    ----------
    method
        Name of a compression, or None. A block that it does not shrink is stored as it is.
    """
    parts: list[BytesLike] = []
    for piece in pieces:
        parts += (
            _RECORD.pack(piece.source, piece.number, piece.kind, 0),
            _SIZE.pack(piece.nbytes),
            piece.data,
            _padding(piece.nbytes),
        )
    content = b"".join(parts)
    packed = compression.compress(memoryview(content), method) if method is not None else None
    if packed is None:
        return _BLOCK.pack(0, len(content), len(content)) + content
    number, data = packed
    return _BLOCK.pack(number, len(data), len(content)) + data + _padding(len(data))


def unpack_blocks(partition: int, data: BytesLike) -> Iterator[Piece]:
    """The pieces in a file's blocks. Raises ``ValueError`` when the file has been cut short or overwritten."""
    view = as_bytes(data)
    start = 0
    while start < view.nbytes:
        if start + _BLOCK.size > view.nbytes:
            raise ValueError("a shuffle's file ends within the header of a block")
        method, nbytes, raw_nbytes = _BLOCK.unpack_from(view, start)
        start += _BLOCK.size
        block = view[start : start + nbytes]
        if block.nbytes < nbytes:
            raise ValueError(f"a shuffle's file lacks {nbytes - block.nbytes} bytes of a block")
        start += nbytes + -nbytes % _ALIGN
        content = memoryview(compression.decompress(method, block, raw_nbytes)) if method else block
        yield from _records(partition, content)


def _records(partition: int, content: memoryview) -> Iterator[Piece]:
    start = 0
    while start < content.nbytes:
        source, number, kind, _ = _RECORD.unpack_from(content, start)
        (nbytes,) = _SIZE.unpack_from(content, start + _RECORD.size)
        start += _HEADER_NBYTES
        yield Piece(partition, source, number, kind, content[start : start + nbytes])
        start += nbytes + -nbytes % _ALIGN


def _padding(nbytes: int) -> bytes:
    return bytes(-nbytes % _ALIGN)
