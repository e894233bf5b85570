"""tsfresh: features of time series, computed on a cluster."""

import warnings

import numpy as np
import pandas as pd
from tsfresh import extract_features
from tsfresh.utilities.distribution import ClusterDaskDistributor

from distributed import LocalCluster

FEATURES = {"mean": None, "maximum": None, "length": None}


def main() -> None:
    warnings.simplefilter("ignore")
    series = pd.DataFrame({"id": np.repeat(range(6), 50), "time": list(range(50)) * 6, "v": np.arange(300.0)})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        there = extract_features(
            series,
            column_id="id",
            column_sort="time",
            default_fc_parameters=FEATURES,
            distributor=ClusterDaskDistributor(address=cluster.scheduler_address),
        )
    assert there["v__maximum"].to_list() == [49, 99, 149, 199, 249, 299]
    print("tsfresh_features ok", there.shape)


if __name__ == "__main__":
    main()
