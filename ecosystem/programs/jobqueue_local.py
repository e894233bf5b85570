"""dask-jobqueue: its cluster of local processes, each started by a job script; scale up and down."""

from dask_jobqueue.local import LocalCluster

from distributed import Client


def main() -> None:
    quiet = {"dashboard_address": None}
    with LocalCluster(cores=2, processes=2, memory="1 GiB", scheduler_options=quiet) as cluster:
        assert "distributed.cli.dask_worker" in cluster.job_script()
        cluster.scale(jobs=1)
        with Client(cluster) as client:
            client.wait_for_workers(2, timeout=60)
            assert sum(client.gather(client.map(lambda i: i * i, range(10)))) == 285
            names = sorted(str(worker["name"]) for worker in client.scheduler_info()["workers"].values())
            cluster.scale(0)
    print("jobqueue_local ok", names)


if __name__ == "__main__":
    main()
