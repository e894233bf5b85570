"""ipyparallel: its engines become workers, and engines again."""

import ipyparallel

from distributed import Client


def main() -> None:
    with ipyparallel.Cluster(n=2, log_level=40) as engines:
        engines.wait_for_engines(2, timeout=60)
        with Client(engines.become_dask().scheduler.address) as client:
            client.wait_for_workers(2, timeout=60)
            assert client.gather(client.map(len, ["a", "bb", "ccc"])) == [1, 2, 3]
        engines.stop_dask()
        assert engines[:].apply_sync(lambda: 7) == [7, 7]
    print("ipyparallel_bridge ok")


if __name__ == "__main__":
    main()
