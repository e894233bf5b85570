"""xgboost.dask: train and predict on two workers that talk to each other while they train."""

import dask.array as da
import numpy as np
from xgboost import dask as xgb_dask

from distributed import Client


def main() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, size=(600, 3))
    y = 2 * x[:, 0] - x[:, 1] ** 2
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        lazy_x, lazy_y = da.from_array(x, chunks=(150, 3)), da.from_array(y, chunks=150)
        data = xgb_dask.DaskDMatrix(client, lazy_x, lazy_y)
        trained = xgb_dask.train(
            client, {"objective": "reg:squarederror"}, data, num_boost_round=20, evals=[(data, "t")]
        )
        errors = trained["history"]["t"]["rmse"]
        assert errors[-1] < errors[0] / 4
        guess = xgb_dask.predict(client, trained, lazy_x).compute()
        assert np.abs(guess - y).mean() < 0.2
        model = xgb_dask.DaskXGBRegressor(n_estimators=20)
        model.client = client
        assert np.abs(model.fit(lazy_x, lazy_y).predict(lazy_x).compute() - y).mean() < 0.2
    print("xgboost_train ok", round(errors[-1], 4))


if __name__ == "__main__":
    main()
