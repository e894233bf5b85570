"""dask-mpi: rank 0 is the scheduler, rank 1 this program, the others are workers. Starts itself under mpirun."""

import os
import subprocess
import sys
from pathlib import Path

_RANK = "OMPI_COMM_WORLD_RANK"


def as_rank() -> None:
    from dask_mpi import initialize

    initialize(nthreads=1, dashboard=False)
    from distributed import Client

    with Client() as client:
        client.wait_for_workers(2, timeout=60)
        names = sorted(worker["name"] for worker in client.scheduler_info()["workers"].values())
        assert client.gather(client.map(str.upper, ["a", "b"])) == ["A", "B"]
        print("mpi_ranks ok", names, flush=True)


def main() -> None:
    if _RANK in os.environ:
        as_rank()
        return
    mpirun = Path(sys.executable).with_name("mpirun")
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [str(mpirun), "--oversubscribe", "-n", "4", sys.executable, __file__]
    done = subprocess.run(command, env={**os.environ, **allowed}, capture_output=True, text=True, timeout=120)
    told = [line for line in done.stdout.splitlines() if line.startswith("mpi_ranks ok")]
    assert done.returncode == 0 and len(told) == 1, (done.returncode, done.stdout, done.stderr)
    print(told[0])


if __name__ == "__main__":
    main()
