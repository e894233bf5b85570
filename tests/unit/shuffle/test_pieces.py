"""Pieces in messages and in files."""

from __future__ import annotations

import pytest

from distributed.shuffle.pieces import ARROW, PICKLE, RAW, Piece, as_bytes, pack, pack_block, unpack, unpack_blocks


def a_piece(partition: int, source: int, number: int, data: bytes, kind: int = RAW) -> Piece:
    return Piece(partition, source, number, kind, memoryview(data))


PIECES = [a_piece(3, 7, 0, b"abc"), a_piece(4, 7, 1, b"", ARROW), a_piece(3, 7, 2, bytes(range(200)), PICKLE)]


def test_messages_there_and_back() -> None:
    index, data = pack(PIECES)
    assert list(unpack(7, index, data)) == PIECES
    assert len(data) % 8 == 0


def test_a_message_that_is_too_short() -> None:
    index, data = pack(PIECES)
    with pytest.raises(ValueError, match="cannot hold the pieces"):
        list(unpack(7, index, data[:100]))


@pytest.mark.parametrize("method", [None, "lz4", "zstd", "zlib"])
def test_files_there_and_back(method: str | None) -> None:
    first = [a_piece(3, 1, 0, b"x" * 50_000), a_piece(3, 2, 5, b"odd length")]
    second = [a_piece(3, 4, 0, b"")]
    file = pack_block(first, method) + pack_block(second, method)
    assert list(unpack_blocks(3, file)) == first + second
    if method is not None:
        assert len(file) < 10_000


def test_a_file_that_was_cut_short() -> None:
    file = pack_block(PIECES, None)
    with pytest.raises(ValueError, match="lacks 8 bytes of a block"):
        list(unpack_blocks(3, file[:-8]))
    with pytest.raises(ValueError, match="within the header"):
        list(unpack_blocks(3, file + b"x"))


def test_as_bytes_does_not_copy() -> None:
    data = bytearray(8)
    view = as_bytes(memoryview(data).cast("i"))
    view[0] = 5
    assert data[0] == 5
    assert view.nbytes == 8
