"""dask.delayed: graphs, collections inside tasks, annotations, coroutines that await."""

import asyncio

import dask

from distributed import Client


@dask.delayed
def square(x: int) -> int:
    return x * x


def sum_of_squares(n: int) -> int:
    return dask.delayed(sum)([square(i) for i in range(n)]).compute()


async def in_coroutines() -> list[int]:
    async with Client(processes=False, dashboard_address=None, asynchronous=True) as client:
        return await asyncio.gather(*[client.compute(square(square(i))) for i in (2, 3)])


def main() -> None:
    with Client(n_workers=2, threads_per_worker=2, dashboard_address=None) as client:
        assert dask.delayed(max)(square(3), square(-4)).compute() == 16
        assert client.gather(client.map(sum_of_squares, [3, 4])) == [5, 14]
        with dask.annotate(priority=5, retries=2):
            assert dask.compute(square(2), {"more": [square(5)]}) == (4, {"more": [25]})
        kept = square(7).persist()
        assert dask.delayed(sum)([kept, kept]).compute() == 98
    assert asyncio.run(in_coroutines()) == [16, 81]
    print("graphs ok")


if __name__ == "__main__":
    main()
