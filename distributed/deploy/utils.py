"""How much this machine offers, and how it is best cut into processes and threads."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

__all__ = ["CPU_COUNT", "MEMORY_LIMIT", "nprocesses_nthreads"]


def _cpu_count() -> int:
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


def _memory_limit() -> int:
    """Bytes that this process may use: the machine's, or less in a container."""
    limit = int(psutil.virtual_memory().total)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = min(limit, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return limit


CPU_COUNT = _cpu_count()
MEMORY_LIMIT = _memory_limit()


def nprocesses_nthreads(n: int | None = None) -> tuple[int, int]:
    """Cut ``n`` cores into (processes, threads per process), more processes than threads.

    Up to four cores: one thread each. Above, the smallest divisor not below the square root of ``n`` is the number of
    processes, so that a prime number of cores gives single threads again.

    Parameters
    ----------
    n : int, optional
        Number of cores; None: those of this machine that we may use.

    Examples
    --------
    >>> nprocesses_nthreads(8)
    (4, 2)
    """
    cores = CPU_COUNT if n is None else n
    if cores <= 4:
        return max(cores, 1), 1
    processes = next(k for k in range(math.isqrt(cores - 1) + 1, cores + 1) if cores % k == 0)
    return processes, cores // processes
