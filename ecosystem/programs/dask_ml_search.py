"""dask-ml: k-means on an array in chunks, and its own grid search that shares steps between candidates."""

import dask.array as da
import numpy as np
from dask_ml.cluster import KMeans
from dask_ml.model_selection import GridSearchCV
from sklearn.datasets import load_iris
from sklearn.svm import SVC

from distributed import Client


def main() -> None:
    x, y = load_iris(return_X_y=True)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        search = GridSearchCV(SVC(), {"C": [0.1, 1.0]}, cv=3).fit(x, y)
        assert search.best_score_ > 0.9
        rng = np.random.default_rng(5)
        points = np.concatenate([rng.normal(m, 0.1, size=(100, 2)) for m in (0, 5)])
        model = KMeans(n_clusters=2, random_state=0).fit(da.from_array(points, chunks=(50, 2)))
        labels = model.labels_.compute()
    assert len(set(labels[:100])) == len(set(labels[100:])) == 1 and labels[0] != labels[-1]
    print("dask_ml_search ok", round(float(search.best_score_), 3))


if __name__ == "__main__":
    main()
