"""Fresh memory for large values that arrive. Shell: asks the system for it."""

from __future__ import annotations

import mmap

MAPPED_FROM = 4 * 1024 * 1024
"""Bytes from which on memory is a mapping of its own: it costs nothing before it is filled, comes in huge pages where
the system has them (filling it page by page takes longer than the copy), and goes back at once."""

_HUGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)


def allocate(nbytes: int) -> memoryview:
    """A writable buffer. Raises MemoryError, OverflowError, OSError or ValueError when there is none."""
    if nbytes < MAPPED_FROM:
        return memoryview(bytearray(nbytes))
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if _HUGE_PAGES is not None:
        try:
            memory.madvise(_HUGE_PAGES)
        except OSError:  # a kernel without them
            pass
    return memoryview(memory)
