"""Pieces in memory and on disk, and the bound on the former."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed.shuffle.errors import ShuffleFailedError
from distributed.shuffle.limiter import MemoryLimiter
from distributed.shuffle.pieces import RAW, Piece
from distributed.shuffle.store import PieceStore, read
from distributed.testing import async_poll_for, gen_test


@pytest.fixture
def disk() -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        yield executor


def some(partition: int, source: int, n: int = 100) -> Piece:
    return Piece(partition, source, 0, RAW, memoryview(bytes([source % 256]) * n))


async def fill(store: PieceStore, n: int, n_partitions: int = 3) -> None:
    """``n`` messages with one piece for each partition, from several senders at once, later sources first."""
    await asyncio.gather(
        *[
            store.add([some(p, source) for p in range(n_partitions)], 100 * n_partitions)
            for source in reversed(range(n))
        ]
    )


@pytest.mark.parametrize("compression", [None, "lz4"])
@gen_test()
async def test_memory_is_bounded_and_nothing_is_lost(
    tmp_path: Path, disk: concurrent.futures.Executor, compression: str | None
) -> None:
    limiter = MemoryLimiter(2000)
    store = PieceStore(str(tmp_path / "s"), limiter, disk, compression)
    await fill(store, 100)
    for partition in range(3):
        pieces = read(await store.share(partition))
        assert [piece.source for piece in pieces] == list(range(100)), "in the order of the inputs"
        assert all(piece == some(partition, piece.source) for piece in pieces)
    assert limiter.peak_nbytes <= 2000
    assert store.nbytes_on_disk > 0
    assert store.nbytes_received == 100 * 300
    await store.close()
    assert limiter.used_nbytes == 0
    assert not (tmp_path / "s").exists()


@gen_test()
async def test_without_disk_all_stays_in_memory(tmp_path: Path, disk: concurrent.futures.Executor) -> None:
    store = PieceStore(str(tmp_path / "s"), None, disk)
    await fill(store, 50)
    assert len(read(await store.share(1))) == 50
    assert read(await store.share(7)) == []
    assert not (tmp_path / "s").exists()
    await store.close()


@gen_test()
async def test_two_stores_share_one_bound(tmp_path: Path, disk: concurrent.futures.Executor) -> None:
    """What one holds is written out when the other needs room."""
    limiter = MemoryLimiter(1000)
    one, two = (PieceStore(str(tmp_path / name), limiter, disk) for name in "ab")
    await one.add([some(0, 0, 400)], 400)
    await asyncio.wait_for(fill(two, 20), 20)
    assert len(read(await one.share(0))) == 1
    assert len(read(await two.share(0))) == 20
    await one.close()
    await two.close()
    assert limiter.used_nbytes == 0 and not limiter.relieve


@gen_test()
async def test_a_disk_that_takes_nothing(tmp_path: Path, disk: concurrent.futures.Executor) -> None:
    (tmp_path / "file").write_text("in the way")
    limiter = MemoryLimiter(500)
    store = PieceStore(str(tmp_path / "file" / "s"), limiter, disk)
    with pytest.raises(ShuffleFailedError, match="cannot be written: NotADirectoryError"):
        await fill(store, 20)
    with pytest.raises(ShuffleFailedError, match="cannot be written"):
        await store.settle()
    await store.close()
    await async_poll_for(lambda: limiter.used_nbytes == 0, timeout=10)


@gen_test()
async def test_closing_wakes_who_waits(tmp_path: Path, disk: concurrent.futures.Executor) -> None:
    limiter = MemoryLimiter(100)
    await limiter.acquire(100)  # somebody else's
    store = PieceStore(str(tmp_path / "s"), limiter, disk)
    adding = asyncio.ensure_future(store.add([some(0, 0)], 100))
    await async_poll_for(lambda: limiter.n_waiting == 1, timeout=10)
    await store.close()
    limiter.release(100)
    with pytest.raises(ShuffleFailedError, match="has ended"):
        await adding
    assert limiter.used_nbytes == 0


@gen_test()
async def test_the_limiter_lets_in_first_come_first_served() -> None:
    limiter = MemoryLimiter(10)
    await limiter.acquire(25)
    order: list[int] = []

    async def take(n: int) -> None:
        await limiter.acquire(n)
        order.append(n)

    tasks = [asyncio.ensure_future(take(n)) for n in (9, 1, 5)]
    await async_poll_for(lambda: limiter.n_waiting == 3, timeout=10)
    limiter.release(25)
    await asyncio.gather(*tasks[:2])
    assert order == [9, 1] and limiter.n_waiting == 1
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert limiter.n_waiting == 0 and limiter.used_nbytes == 10
    with pytest.raises(ValueError, match="positive"):
        MemoryLimiter(0)
