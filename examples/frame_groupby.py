"""A dask DataFrame: mean and count by group of a table that is made in parts on the workers."""

from __future__ import annotations

import dask.dataframe as dd
import pandas as pd

from distributed import Client


def make_part(i: int) -> pd.DataFrame:
    return pd.DataFrame({"shop": [j % 4 for j in range(1000)], "price": [float((i + j) % 10) for j in range(1000)]})


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        frame = dd.from_map(make_part, range(20))
        table = frame.groupby("shop").price.agg(["mean", "count"]).compute().sort_index()
        print(table.to_string())


if __name__ == "__main__":
    main()
