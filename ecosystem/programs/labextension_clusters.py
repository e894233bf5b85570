"""dask-labextension: the manager behind its side bar starts, scales, adapts and closes a cluster."""

import asyncio

import dask
from dask_labextension.manager import DaskClusterManager

OPTIONS = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}


async def run() -> int:
    with dask.config.set({"labextension.factory.kwargs": OPTIONS}):
        async with DaskClusterManager() as manager:
            model = await manager.start_cluster()
            assert model["dashboard_link"].startswith("http") and model["workers"] == 1
            await manager.scale_cluster(model["id"], 2)
            while manager.get_cluster(model["id"])["workers"] < 2:
                await asyncio.sleep(0.01)
            adaptive = manager.adapt_cluster(model["id"], 1, 3)
            assert adaptive["adapt"] == {"minimum": 1, "maximum": 3}
            assert await manager.close_cluster(model["id"])
            return len(manager.list_clusters())


def main() -> None:
    assert asyncio.run(asyncio.wait_for(run(), 60)) == 0
    print("labextension_clusters ok")


if __name__ == "__main__":
    main()
