"""Memory of another process, which is this one here, is copied into fresh buffers, whatever their pages."""

from __future__ import annotations

import mmap
import os
import sys
import threading

import pytest

if sys.platform != "linux":
    pytest.skip("process_vm_readv is Linux's", allow_module_level=True)

from distributed.protocol import process_memory
from distributed.protocol.buffers import advise_huge_pages, allocate
from distributed.protocol.process_memory import Reading, pieces_of
from distributed.protocol.shared_memory import address_of

HUGE = 2 << 20


@pytest.mark.parametrize("nbytes", [0, 1, HUGE - 1, HUGE, HUGE + 1, 3 * HUGE, 5 * HUGE + 17])
@pytest.mark.parametrize("shift", [0, 1, 4096])
def test_pieces_cover_the_buffer_and_end_where_huge_pages_do(nbytes: int, shift: int) -> None:
    buffer = memoryview(mmap.mmap(-1, nbytes + shift + 1))[shift : shift + nbytes]
    pieces = pieces_of(buffer, 1000)
    start = address_of(buffer)
    assert sum(length for _, _, length in pieces) == nbytes
    done = 0
    for here, there, length in pieces:
        assert (here, there) == (start + done, 1000 + done) and length > 0
        assert here // HUGE == (here + length - 1) // HUGE
        done += length


@pytest.mark.parametrize("slow_s", [0.0, 1000.0])
def test_what_is_read_is_the_same_in_huge_and_in_small_pages(slow_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_memory, "_SLOW_S", slow_s)
    sources = [os.urandom(7 * HUGE + 123), os.urandom(100), bytes(HUGE)]
    buffers = [allocate(len(source)) for source in sources]
    reading = Reading(os.getpid())
    for source, buffer in zip(sources, buffers, strict=True):
        reading.add(buffer, address_of(source))
    threads = [threading.Thread(target=reading.run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bytes(buffer) for buffer in buffers] == sources
    assert reading._huge == (slow_s > 0)


def test_memory_that_is_not_there() -> None:
    buffer = allocate(3 * HUGE)
    reading = Reading(os.getpid())
    reading.add(buffer, 4096)
    with pytest.raises(OSError, match="cannot be read"):
        reading.run()
    reading.run()  # nothing is left to be tried by another thread


def test_only_large_buffers_can_have_huge_pages() -> None:
    assert not advise_huge_pages(allocate(1000), True)
