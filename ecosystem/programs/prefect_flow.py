"""prefect-dask: the tasks of a flow run on a cluster, with futures of earlier tasks as inputs."""

import os
import tempfile

_HOME = tempfile.TemporaryDirectory()
os.environ.update(
    PREFECT_HOME=_HOME.name,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_LEVEL="ERROR",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
    DO_NOT_TRACK="1",
)

from prefect import flow, task
from prefect_dask import DaskTaskRunner, get_dask_client


@task
def double(x: int) -> int:
    return 2 * x


@task
def total(values: list[int]) -> int:
    return sum(values)


@task
def mean_of_an_array() -> float:
    import dask.array as da

    with get_dask_client(timeout="30 s"):
        return float(da.arange(1000, chunks=100).mean().compute())


RUNNER = DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None})


@flow(task_runner=RUNNER)
def figures() -> tuple[int, float]:
    doubled = double.map(range(10))
    mean = mean_of_an_array.submit()
    return total.submit(doubled).result(), mean.result()


def main() -> None:
    assert figures() == (90, 499.5)
    print("prefect_flow ok", 90, 499.5)


if __name__ == "__main__":
    main()
