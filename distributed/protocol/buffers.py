"""Fresh memory for large values that arrive. Shell: asks the system for it.

In small pages, unless whoever fills it says otherwise and watches how that goes (``process_memory``): huge ones take a
quarter of the time on a machine whose memory is at hand, and five times as long in a virtual machine that has given its
free memory back to the host.
"""

from __future__ import annotations

import mmap

MAPPED_FROM = 4 * 1024 * 1024
"""Bytes from which on memory is a mapping of its own: nothing is taken before it is filled, all goes back at once."""


def allocate(nbytes: int) -> memoryview:
    """A writable buffer. Raises MemoryError, OverflowError, OSError or ValueError when there is none."""
    if nbytes < MAPPED_FROM:
        return memoryview(bytearray(nbytes))
    return memoryview(mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def advise_huge_pages(buffer: memoryview, wanted: bool) -> bool:
    """Have what is not filled yet of a buffer made by :func:`allocate` come in huge pages, or in small ones; whether
    it is large enough, and the system has them."""
    memory = buffer.obj
    advice = getattr(mmap, "MADV_HUGEPAGE" if wanted else "MADV_NOHUGEPAGE", None)
    if type(memory) is not mmap.mmap or advice is None:
        return False
    try:
        memory.madvise(advice)
    except OSError:  # a kernel without them
        return False
    return True
