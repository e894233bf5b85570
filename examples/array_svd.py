"""A dask array: the singular values of a tall matrix of which no worker holds all."""

from __future__ import annotations

import dask.array as da
import numpy as np

from distributed import Client


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        x = da.random.default_rng(0).random((20_000, 20), chunks=(2_500, 20))
        _, values, _ = da.linalg.svd(x)
        found, sum_of_squares = da.compute(values, (x**2).sum())
        print("the squares of the singular values add up:", bool(np.isclose((found**2).sum(), sum_of_squares)))


if __name__ == "__main__":
    main()
