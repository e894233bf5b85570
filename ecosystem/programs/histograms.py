"""dask-histogram: a histogram filled chunk by chunk."""

import boost_histogram as bh
import dask.array as da
import dask_histogram as dh
import numpy as np

from distributed import Client


def main() -> None:
    values = np.random.default_rng(7).normal(size=5000)
    axis = bh.axis.Regular(20, -3, 3)
    plain = bh.Histogram(axis).fill(values)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        lazy = dh.factory(da.from_array(values, chunks=500), axes=(axis,))
        assert np.array_equal(lazy.compute().values(), plain.values())
    print("histograms ok", int(plain.sum()))


if __name__ == "__main__":
    main()
