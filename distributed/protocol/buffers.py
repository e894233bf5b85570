"""Fresh memory for large values that arrive. Shell: asks the system for it.

Not in huge pages, though filling those takes half the time on a machine whose memory is at hand: in a virtual machine
the pages of a large free block may never have been used, and each is then had from the host first, at ten times the
price. Small pages come from what was used last.
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
