"""cubed: its plans run task by task on the cluster."""

import tempfile

import cubed
import cubed.array_api as xp
import numpy as np
from cubed.runtime.executors.dask import DaskExecutor

from distributed import Client


def main() -> None:
    values = np.arange(600.0).reshape(20, 30)
    with tempfile.TemporaryDirectory() as directory, Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        spec = cubed.Spec(work_dir=directory, allowed_mem="200MB")
        array = xp.asarray(values, chunks=(7, 11), spec=spec)
        executor = DaskExecutor()
        assert np.array_equal(xp.add(array, array.T.T).compute(executor=executor), values + values)
        assert float(xp.sum(array).compute(executor=executor)) == values.sum()
    print("cubed_arrays ok")


if __name__ == "__main__":
    main()
