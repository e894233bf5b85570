"""How much memory and how many cores a worker may use, and how much it uses. Shell: asks the operating system."""

from __future__ import annotations

import gc
import logging
import math
import os
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed.base import settings
from distributed.base.formatting import format_bytes, parse_bytes
from distributed.base.lazy import lazy_module
from distributed.base.log_limit import LogLimit
from distributed.worker.allocators import give_back
from distributed.worker.state_machine.tables import NEVER, WorkerSettings

if TYPE_CHECKING:
    import psutil
else:
    psutil = lazy_module("psutil")

logger = logging.getLogger("distributed.worker")

MIN_SPILL_NBYTES = 1024
"""Smaller values are not worth a file."""
_SAMPLE_S = 0.4
_LINES_S = 10.0


@cache
def cpu_count() -> int:
    """Cores that this process may use: affinity and container quota considered."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return max(1, count)


@cache
def machine_memory() -> int:
    """Bytes that this process may use: the machine's, or less in a container."""
    try:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no POSIX
        limit = int(psutil.virtual_memory().total)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = min(limit, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return limit


def parse_memory_limit(limit: str | float | None, nthreads: int, total_cores: int | None = None) -> int | None:
    """Bytes of a ``memory_limit``; None for no limit.

    Parameters
    ----------
    limit :
        Bytes, ``"5GB"``, a fraction of the machine (a float up to 1, or such a text), ``"auto"`` (the share of the
        cores), or 0, None, False for none.
    nthreads :
        Threads of the worker, for ``"auto"``.

    Examples
    --------
    >>> parse_memory_limit("2 kB", 1)
    2000
    """
    if limit is None or limit is False or limit == 0 or limit in ("0", "none", "None"):
        return None
    total = machine_memory()
    if limit == "auto":
        return int(total * min(1.0, nthreads / (total_cores or cpu_count())))
    if isinstance(limit, str):
        try:
            limit = float(limit)
        except ValueError:
            return min(parse_bytes(limit), total)
    if limit < 0:
        raise ValueError(f"memory_limit must not be negative: {limit!r}")
    if isinstance(limit, float) and limit <= 1:
        return int(limit * total)
    return min(int(limit), total)


def own_nbytes(pid: int) -> int:
    """Bytes of memory that a process takes and that nobody could take away: without its pages of files (libraries,
    values that are mapped from disk), which the system drops when it needs the room.

    Raises
    ------
    psutil.Error
        There is no such process.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = [line for line in file if line.startswith((b"RssAnon:", b"RssShmem:"))]
        if lines:
            return 1024 * sum([int(line.split()[1]) for line in lines])
    except OSError:
        pass
    used: int = psutil.Process(pid).memory_info().rss
    return used


class MemoryBounds:
    """What a memory limit means for one worker, in bytes; ``NEVER`` where there is no bound.

    ``target``: values in memory; ``spill`` and ``pause``: the process. ``most_spilled`` is 0 for no limit.

    Raises
    ------
    ValueError
        A setting makes no sense; the text names it.
    """

    def __init__(self, limit: int | None) -> None:
        self.target = self._bound("target", 0.60, limit)
        self.spill = self._bound("spill", 0.70, limit)
        self.pause = self._bound("pause", 0.80, limit)
        self.transfer = self._bound("transfer", 0.10, limit)
        most = settings.get("distributed.worker.memory.max-spill", False)
        self.most_spilled = 0 if most is False or most is None else parse_bytes(most)
        if self.most_spilled < 0:
            raise ValueError(f"distributed.worker.memory.max-spill must be a size or false, not {most!r}")

    @staticmethod
    def _bound(name: str, default: float, limit: int | None) -> int:
        share = settings.get(f"distributed.worker.memory.{name}", default)
        if share is False or share is None or not limit:
            return NEVER
        if not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"distributed.worker.memory.{name} must be from 0 to 1, or false, not {share!r}")
        return int(limit * share) if share else NEVER

    def worker_settings(self, spills: bool) -> WorkerSettings:
        """For the state machine; ``spills``: the worker may write values to disk."""
        if not spills or (self.target == NEVER and self.spill == NEVER):
            return WorkerSettings(transfer_nbytes=self.transfer)
        # Tasks wait for the disk before the process has to pause.
        hold = NEVER if self.target == NEVER else (self.target + min(self.spill, self.target * 7 // 6)) // 2
        return WorkerSettings(
            min_spill_nbytes=MIN_SPILL_NBYTES,
            target_nbytes=self.target,
            hold_nbytes=hold,
            most_spilled_nbytes=self.most_spilled,
            transfer_nbytes=self.transfer,
        )


class MemoryLimit:
    """The limit of one worker's memory, for those who look for it at ``worker.memory_manager``."""

    def __init__(self, memory_limit: int | None) -> None:
        self.memory_limit = memory_limit


class PauseWatch:
    """Says when a worker is to pause because memory is short, and when it may go on. The worker's process is its own.

    Parameters
    ----------
    limit :
        Bytes; None for none.
    """

    def __init__(self, limit: int | None, pause_bytes: int) -> None:
        self.pause_bytes = pause_bytes
        self.limit = limit
        self.paused = False
        self._lines = LogLimit(logger, _LINES_S)
        self._pid = os.getpid()

    def used(self) -> int:
        """Bytes of memory that the process takes."""
        return own_nbytes(self._pid)

    def judge(self, used: int) -> bool | None:
        """With so much in use: True: pause now; False: go on now; None: as before."""
        if used > self.pause_bytes:
            give_back()
            used = self.used()
            if used > self.pause_bytes and not self.paused:
                gc.collect()
                give_back()
                used = self.used()
        if (used > self.pause_bytes) is self.paused:
            return None
        self.paused = not self.paused
        change = "pauses: it starts no more tasks until there is room" if self.paused else "goes on"
        text = "Worker uses %s of %s and %s"
        self._lines.warn(f"pause {self.paused}", text, format_bytes(used), format_bytes(self.limit or 0), change)
        return self.paused


class _ProcessSample:
    """What this process uses; asked at most every 0.4 s, shared by all workers in it."""

    def __init__(self) -> None:
        self._process: Any = None
        self._at = -math.inf
        self._values: dict[str, float] = {}

    def take(self) -> dict[str, float]:
        now = time.monotonic()
        if now - self._at >= _SAMPLE_S or (self._process is not None and self._process.pid != os.getpid()):
            if self._process is None or self._process.pid != os.getpid():
                self._process = psutil.Process()
            self._at = now
            try:
                with self._process.oneshot():
                    self._values = {
                        "cpu": self._process.cpu_percent(),
                        "memory": self._process.memory_info().rss,
                        "num_fds": getattr(self._process, "num_fds", int)(),
                    }
            except psutil.Error:
                pass
        return self._values


process_sample = _ProcessSample().take
