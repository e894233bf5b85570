"""lightgbm.dask: a regression whose workers open sockets to each other."""

import dask.array as da
import numpy as np
from lightgbm import DaskLGBMRegressor

from distributed import Client


def main() -> None:
    rng = np.random.default_rng(4)
    x = rng.uniform(-1, 1, size=(800, 3))
    y = 3 * x[:, 0] + x[:, 2]
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        lazy_x, lazy_y = da.from_array(x, chunks=(200, 3)), da.from_array(y, chunks=200)
        model = DaskLGBMRegressor(client=client, n_estimators=30, min_child_samples=5, verbosity=-1).fit(lazy_x, lazy_y)
        error = float(np.abs(model.predict(lazy_x).compute() - y).mean())
    assert error < 0.3, error
    print("lightgbm_train ok", round(error, 3))


if __name__ == "__main__":
    main()
