"""What a worker holds of one run: pieces in memory up to a limit, the rest in one file for each partition. Shell.

Everything but :func:`read` runs on the event loop; files are written by a thread, one batch at a time. A partition is
only ever appended to, and read up to the length that was known when the reader asked: readers and writers need no lock.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import shutil
from typing import NamedTuple

from distributed.base import own_files
from distributed.base.formatting import format_bytes
from distributed.shuffle.errors import ShuffleFailedError
from distributed.shuffle.limiter import MemoryLimiter
from distributed.shuffle.pieces import Piece, pack_block, unpack_blocks

_Batch = dict[int, list[Piece]]


class Share(NamedTuple):
    """A partition as it was when somebody asked for it: the first ``nbytes`` of a file, then pieces in memory."""

    partition: int
    path: str
    nbytes: int
    pieces: list[Piece]
    file_id: own_files.FileId | None = None


class PieceStore:
    """Pieces by partition.

    Parameters
    ----------
    directory
        For the files; made when first needed, removed by :meth:`close`.
    limiter
        Shared by all runs of the worker; None: everything stays in memory.
    executor
        Whose thread writes.
    compression
        Name of the compression of files, or None.
    """

    def __init__(
        self,
        directory: str,
        limiter: MemoryLimiter | None,
        executor: concurrent.futures.Executor,
        compression: str | None = None,
    ) -> None:
        self.directory = directory
        self.limiter = limiter
        self.error: ShuffleFailedError | None = None
        self.nbytes_received = 0
        self.nbytes_on_disk = 0
        self._executor = executor
        self._compression = compression
        self._pending: _Batch = {}
        self._pending_nbytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._lengths: dict[int, int] = {}
        self._file_ids: dict[int, own_files.FileId] = {}
        self._closed = False
        if limiter is not None:
            limiter.relieve[self.write_out] = None

    async def add(self, pieces: list[Piece], nbytes: int) -> None:
        """Take pieces in; waits while too much is in memory.

        Parameters
        ----------
        nbytes
            What the message that they came in takes.

        Raises
        ------
        ShuffleFailedError
            A file could not be written, now or before.
        """
        if self.limiter is not None:
            await self.limiter.acquire(nbytes)
        if self._closed or self.error is not None:
            if self.limiter is not None:
                self.limiter.release(nbytes)
            raise self.error or ShuffleFailedError("the run has ended")
        for piece in pieces:
            self._pending.setdefault(piece.partition, []).append(piece)
        self._pending_nbytes += nbytes
        self.nbytes_received += nbytes
        limiter = self.limiter
        if limiter is not None and (limiter.n_waiting or 2 * limiter.used_nbytes >= limiter.limit_nbytes):
            self.write_out()

    def write_out(self) -> None:
        """Begin to write what is in memory, unless that is under way."""
        if self.limiter is not None and self._writing is None and self._pending and not self._closed:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        batch, nbytes = self._pending, self._pending_nbytes
        self._pending, self._pending_nbytes = {}, 0
        assert self.limiter is not None
        try:
            loop = asyncio.get_running_loop()
            written = await loop.run_in_executor(self._executor, self._append, batch)
            for partition, length in written.items():
                self._lengths[partition] = self._lengths.get(partition, 0) + length
                self.nbytes_on_disk += length
        except OSError as error:
            reason = f"{type(error).__name__}: {error}"
            text = f"the files of a shuffle in {self.directory} cannot be written: {reason}"
            self.error = ShuffleFailedError(f"{text} ({format_bytes(nbytes)} to write, {_free(self.directory)})")
        finally:
            self._writing = None
            self.limiter.release(nbytes)
        if self.limiter.n_waiting:
            self.write_out()

    def _append(self, batch: _Batch) -> dict[int, int]:
        os.makedirs(self.directory, 0o700, exist_ok=True)
        written: dict[int, int] = {}
        for partition in list(batch):
            block = pack_block(batch.pop(partition), self._compression)
            with os.fdopen(self._file(partition), "ab", buffering=0) as file:
                view = memoryview(block)
                while view:
                    view = view[file.write(view) :]
            written[partition] = len(block)
        return written

    def _file(self, partition: int) -> int:
        """The partition's file, for appending."""
        path, known = self._path(partition), self._file_ids.get(partition)
        if known is not None:
            return own_files.reopen(path, known, os.O_WRONLY | os.O_APPEND)
        fd, self._file_ids[partition] = own_files.create(path)
        return fd

    async def settle(self) -> None:
        """Wait until no file is being written. Raises what went wrong with files so far."""
        while self._writing is not None:
            await asyncio.shield(self._writing)
        if self.error is not None:
            raise self.error

    async def share(self, partition: int) -> Share:
        """Where to :func:`read` a partition."""
        await self.settle()
        length = self._lengths.get(partition, 0)
        pieces = list(self._pending.get(partition, ()))
        return Share(partition, self._path(partition), length, pieces, self._file_ids.get(partition))

    async def close(self) -> None:
        """Forget everything, remove the files."""
        self._closed = True
        if self.limiter is not None:
            self.limiter.relieve.pop(self.write_out, None)
        with contextlib.suppress(ShuffleFailedError):
            await self.settle()
        self._pending.clear()
        if self.limiter is not None and self._pending_nbytes:
            self.limiter.release(self._pending_nbytes)
        self._pending_nbytes = 0
        if self.nbytes_on_disk or os.path.exists(self.directory):
            remove = asyncio.get_running_loop().run_in_executor(self._executor, shutil.rmtree, self.directory, True)
            await asyncio.shield(remove)

    def _path(self, partition: int) -> str:
        return os.path.join(self.directory, str(partition))


def read(share: Share) -> list[Piece]:
    """The pieces of a partition in the order of their inputs. Blocking: for a task's thread.

    Raises
    ------
    OSError
        The file is gone (the run has ended), or is another one, or cannot be read.
    """
    pieces = list(share.pieces)
    if share.nbytes:
        assert share.file_id is not None
        content = bytearray(share.nbytes)
        with os.fdopen(own_files.reopen(share.path, share.file_id), "rb", buffering=0) as file:
            view = memoryview(content)
            while view:
                count = file.readinto(view)
                if not count:
                    raise OSError(f"{share.path} is shorter than the {share.nbytes} bytes that were written to it")
                view = view[count:]
        pieces += unpack_blocks(share.partition, content)
    pieces.sort(key=_place)
    return pieces


def _free(directory: str) -> str:
    try:
        return f"{format_bytes(shutil.disk_usage(os.path.dirname(directory)).free)} free"
    except OSError:
        return "no such directory"


def _place(piece: Piece) -> tuple[int, int]:
    return piece.source, piece.number
