"""Three times a worker's memory limit is made, kept, and read back."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from measure import Figures, cluster, run_script


def make(i: int, nbytes: int) -> Any:
    return np.random.default_rng(i).random(nbytes // 8)


def spill(smoke: bool) -> Figures:
    """Seconds of both halves, and CPU seconds of the worker."""
    from distributed import wait

    limit, part = (2**28, 2**24) if smoke else (2**29, 2**24)
    n = 3 * limit // part
    with cluster(1, memory_limit=limit, threads_per_worker=2) as client:
        client.submit(make, 0, 1000, pure=False).result()
        cpu = -sum(client.run(time.process_time).values())
        start = time.perf_counter()
        parts = client.map(make, range(n), nbytes=part, pure=False)
        wait(parts)
        made = time.perf_counter()
        sums = client.gather(client.map(np.sum, parts, pure=False))
        read = time.perf_counter()
        cpu += sum(client.run(time.process_time).values())
        assert len(sums) == n and all(0.4 * part / 8 < total < 0.6 * part / 8 for total in sums)
    return {
        "spill_s": read - start,
        "spill_persist_s": made - start,
        "spill_read_s": read - made,
        "spill_worker_cpu_s": cpu,
    }


if __name__ == "__main__":
    run_script(spill)
