"""scikit-learn: a grid search on the cluster finds what it finds without."""

import joblib
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from distributed import Client


def main() -> None:
    x, y = load_iris(return_X_y=True)
    grid = {"C": [0.1, 1.0, 10.0], "kernel": ["linear", "rbf"]}
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None), joblib.parallel_config(backend="dask"):
        there = GridSearchCV(SVC(), grid, cv=4).fit(x, y)
    here = GridSearchCV(SVC(), grid, cv=4).fit(x, y)
    assert there.best_params_ == here.best_params_ and there.best_score_ == here.best_score_
    print("sklearn_search ok", there.best_params_, round(there.best_score_, 4))


if __name__ == "__main__":
    main()
