"""dask.delayed: load, clean and sum up several inputs, one of them broken, with the rest of the work shared."""

from __future__ import annotations

import dask

from distributed import Client


@dask.delayed
def load(i: int) -> list[str]:
    return [str(i * j) if j != 3 else "not measured" for j in range(10)]


@dask.delayed
def clean(rows: list[str]) -> list[int]:
    return [int(row) for row in rows if row.isdigit()]


@dask.delayed
def summary(parts: list[list[int]]) -> dict[str, int]:
    return {"values": sum(map(len, parts)), "total": sum(map(sum, parts))}


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        print(summary([clean(load(i)) for i in range(20)]).compute())


if __name__ == "__main__":
    main()
