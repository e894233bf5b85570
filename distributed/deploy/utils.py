"""How much this machine offers, and how it is best cut into processes and threads."""

from __future__ import annotations

import math

from distributed.worker.memory import cpu_count, machine_memory

__all__ = ["CPU_COUNT", "MEMORY_LIMIT", "memory_limit", "nprocesses_nthreads"]

memory_limit = machine_memory
CPU_COUNT = cpu_count()
MEMORY_LIMIT = machine_memory()


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
