"""A page of memory shared by a worker process and its nanny: which runs are being executed right now.

The worker writes, the nanny reads after the worker's death, whatever killed it. One 8-byte cell per executing thread
holds ``run_id + 1``, or 0, another one the ident of the thread; then come the ident of the thread that called
``os._exit``, and the number of beats of the worker's event loop. No locks: a cell has one writer, and a reader of a
living worker takes what it finds for a hint. Shell.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections import deque

PAGE_BYTES = 4096
CELLS = PAGE_BYTES // 16 - 1
_THREADS = CELLS
_EXITING = 2 * CELLS
_BEATS = _EXITING + 1


class ExecutingPage:
    """The page, mapped from the file descriptor ``fd`` (which this object owns)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, PAGE_BYTES)
        self.cells = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls) -> ExecutingPage:
        """A fresh page; its descriptor can be inherited by a child process."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("distributed-executing", os.MFD_CLOEXEC)
        else:
            fd, path = tempfile.mkstemp(prefix="distributed-executing-")
            os.unlink(path)
        os.ftruncate(fd, PAGE_BYTES)
        return cls(fd)

    def run_ids(self) -> tuple[int, ...]:
        """What is noted now."""
        return tuple(cell - 1 for cell in self.cells[:CELLS].tolist() if cell)

    def note_thread(self, cell: int, ident: int) -> None:
        """The runs in ``cell`` are executed by this thread."""
        self.cells[_THREADS + cell] = ident

    def runs_of(self, ident: int) -> tuple[int, ...]:
        """What this thread executes; nothing when it is no thread of a slot."""
        threads = self.cells[_THREADS : _THREADS + CELLS].tolist()
        return tuple(
            run - 1
            for run, thread in zip(self.cells[:CELLS].tolist(), threads, strict=True)
            if run and ident and thread == ident
        )

    def note_exit(self, ident: int) -> None:
        """This thread ends the process."""
        self.cells[_EXITING] = ident

    @property
    def exiting(self) -> int:
        """The thread that has ended the process by itself; 0 when none has."""
        return self.cells[_EXITING]

    def beat(self) -> None:
        """The worker's event loop moves."""
        self.cells[_BEATS] += 1

    @property
    def beats(self) -> int:
        """How often it has done so."""
        return self.cells[_BEATS]

    def close(self) -> None:
        """Unmap and close; harmless when called again."""
        if self.fd < 0:
            return
        self.cells.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1


class Cells:
    """The cells of a page, lent to the threads that execute runs. Any thread. Without a page there are none.

    ``runs`` is what is noted: the owner of a cell writes ``run_id + 1`` there, and 0 when the run has ended.
    """

    def __init__(self, page: ExecutingPage | None) -> None:
        self._page = page
        self._free: deque[int] = deque(range(CELLS) if page is not None else ())
        self.runs = memoryview(b"") if page is None else page.cells

    def take(self, run_id: int = -1) -> int:
        """A cell for what the calling thread executes, perhaps a run already; -1 when there is none."""
        try:
            cell = self._free.popleft()
        except IndexError:
            return -1
        if self._page is not None:
            self._page.note_thread(cell, threading.get_ident())
        self.runs[cell] = run_id + 1
        return cell

    def give_back(self, cell: int) -> None:
        """Nothing is executed there any more."""
        if cell >= 0:
            self.runs[cell] = 0
            self._free.append(cell)
