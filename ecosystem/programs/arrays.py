"""dask.array: reductions, products, both ways to rechunk, chunks that are futures."""

import dask.array as da
import numpy as np

from distributed import Client, futures_of


def main() -> None:
    image = np.random.default_rng(1).normal(size=(120, 80))
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        lazy = da.from_array(image, chunks=(30, 20))
        assert np.allclose((lazy @ lazy.T).sum(axis=0).compute(), (image @ image.T).sum(axis=0))
        for method in ("tasks", "p2p"):
            turned = lazy.T.rechunk((80, 10), method=method)
            assert np.array_equal(turned.compute(), image.T), method
        kept = (lazy - lazy.mean(axis=0)).persist()
        assert len(futures_of(kept)) == 16
        assert abs(kept.sum().compute()) < 1e-9
        row = da.from_delayed(client.submit(np.full, 6, 2.0), shape=(6,), dtype=float)
        assert da.stack([row, row * 3]).sum().compute() == 48
    print("arrays ok", image.shape)


if __name__ == "__main__":
    main()
