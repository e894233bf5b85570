"""flox: groups of an array in chunks, by each of its methods."""

import dask.array as da
import numpy as np
from flox.core import groupby_reduce

from distributed import Client


def main() -> None:
    values, groups = np.arange(240.0), np.repeat(np.arange(12), 20)
    expected = values.reshape(12, 20).mean(axis=1)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        for method in ("map-reduce", "cohorts", "blockwise"):
            mean, _ = groupby_reduce(da.from_array(values, chunks=60), groups, func="mean", method=method)
            assert np.allclose(mean.compute(), expected), method
    print("flox_groups ok", len(expected))


if __name__ == "__main__":
    main()
