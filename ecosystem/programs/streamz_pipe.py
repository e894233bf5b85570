"""streamz: a stream that scatters, maps on the cluster and gathers in order."""

import asyncio

from streamz import Stream

from distributed import Client


async def run() -> list[int]:
    async with Client(n_workers=2, threads_per_worker=1, dashboard_address=None, asynchronous=True):
        source = Stream(asynchronous=True)
        seen = (
            source.scatter()
            .map(lambda x: x + 1)
            .accumulate(lambda total, x: total + x)
            .buffer(8)
            .gather()
            .sink_to_list()
        )
        for i in range(10):
            await source.emit(i)
        while len(seen) < 10:
            await asyncio.sleep(0.01)
        return seen


def main() -> None:
    seen = asyncio.run(asyncio.wait_for(run(), 60))
    assert seen[0] in (0, 1) and seen[-1] - seen[-2] == 10, seen
    print("streamz_pipe ok", seen[-1])


if __name__ == "__main__":
    main()
