"""From nothing to the first result, and back to nothing."""

from __future__ import annotations

import operator
import os
import time

start = time.perf_counter()
from distributed import Client, LocalCluster  # noqa: E402

import_s = time.perf_counter() - start

from measure import Figures, pss_bytes, run_script  # noqa: E402


def startup(smoke: bool) -> Figures:
    """Seconds to import, to be ready, to the first result, to close; memory of a worker process that ran a task."""
    begin = time.perf_counter()
    local = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0)
    client = Client(local)
    ready_s = time.perf_counter() - begin
    assert client.submit(operator.add, 1, 2).result() == 3
    first_s = time.perf_counter() - begin
    pids = client.run(os.getpid).values()
    worker_MB = sum([pss_bytes(pid) for pid in pids]) / len(pids) / 2**20
    begin = time.perf_counter()
    client.close()
    local.close()
    return {
        "import_s": import_s,
        "ready_s": ready_s,
        "import_to_first_result_s": import_s + first_s,
        "close_s": time.perf_counter() - begin,
        "worker_pss_MB": worker_MB,
    }


if __name__ == "__main__":
    run_script(startup)
