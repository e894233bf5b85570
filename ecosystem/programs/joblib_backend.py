"""joblib: its dask backend, nested calls, data sent ahead, errors, results as they come."""

import operator

import joblib
import numpy as np

from distributed import Client


def nested(n: int) -> int:
    return sum(joblib.Parallel()(joblib.delayed(operator.mul)(i, 2) for i in range(n)))


def total(data: np.ndarray, factor: int) -> float:
    return float(data.sum() * factor)


def main() -> None:
    data = np.arange(200_000.0)
    with Client(n_workers=2, threads_per_worker=2, dashboard_address=None):
        with joblib.parallel_config(backend="dask"):
            assert joblib.Parallel()(joblib.delayed(nested)(n) for n in range(5)) == [0, 0, 2, 6, 12]
            for i, value in enumerate(
                joblib.Parallel(return_as="generator")(joblib.delayed(abs)(-i) for i in range(9))
            ):
                assert value == i
            try:
                joblib.Parallel()(joblib.delayed(operator.truediv)(1, n) for n in (2, 1, 0))
            except ZeroDivisionError:
                pass
            else:
                raise AssertionError("the task's error did not arrive")
        with joblib.parallel_config(backend="dask", scatter=[data]):
            sums = joblib.Parallel()(joblib.delayed(total)(data, k) for k in range(3))
    assert sums == [0.0, data.sum(), 2 * data.sum()]
    print("joblib_backend ok", sums[1])


if __name__ == "__main__":
    main()
