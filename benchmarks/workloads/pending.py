"""Memory of a scheduler, in a process of its own, for each task that waits for a worker."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Figures, inc, rss_bytes, run_script


def pending(smoke: bool) -> Figures:
    from distributed import Client

    n = 500 if smoke else 200_000
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        program = [str(Path(sys.executable).parent / "dask-scheduler")]
        if not Path(program[0]).exists():
            program = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        options = ["--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
        process = subprocess.Popen([*program, *options], stderr=subprocess.DEVNULL)
        try:
            with Client(scheduler_file=str(file), timeout=60) as client:
                client.run_on_scheduler(time.time)
                before = rss_bytes(process.pid)
                futures = client.map(inc, range(n), pure=False)
                while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) < n:
                    time.sleep(0.2)
                after = rss_bytes(process.pid)
                assert len(futures) == n
        finally:
            process.terminate()
            process.wait(20)
    return {"scheduler_bytes_per_pending_task": (after - before) / n}


if __name__ == "__main__":
    run_script(pending)
