"""dask.dataframe: group, join and shuffle in both ways, index, files."""

import tempfile

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd

from distributed import Client


def main() -> None:
    n = 5000
    rng = np.random.default_rng(2)
    trips = pd.DataFrame({"town": rng.integers(0, 40, n), "km": rng.gamma(2.0, 3.0, n)})
    towns = pd.DataFrame({"town": range(40), "name": [f"town {i}" for i in range(40)]})
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None), tempfile.TemporaryDirectory() as folder:
        lazy = dd.from_pandas(trips, npartitions=5)
        mean = lazy.groupby("town").km.mean().compute().sort_index()
        assert np.allclose(mean, trips.groupby("town").km.mean())
        for method in ("tasks", "p2p"):
            with dask.config.set({"dataframe.shuffle.method": method}):
                joined = lazy.merge(dd.from_pandas(towns, npartitions=3), on="town", broadcast=False)
                assert np.isclose(joined[joined.name == "town 7"].km.sum().compute(), trips[trips.town == 7].km.sum())
                sizes = lazy.shuffle("town").map_partitions(len).compute()
                assert sizes.sum() == n
        ordered = lazy.set_index("km").persist()
        assert ordered.index.compute().is_monotonic_increasing
        lazy.to_parquet(folder)
        assert np.isclose(dd.read_parquet(folder).km.sum().compute(), trips.km.sum())
    print("dataframes ok", n)


if __name__ == "__main__":
    main()
