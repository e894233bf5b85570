"""xarray on dask arrays: groups, map_blocks, persist, compute by the client."""

import numpy as np
import xarray as xr

from distributed import Client, futures_of, wait


def main() -> None:
    values = np.arange(96.0).reshape(12, 8)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        months = xr.DataArray(values, dims=("month", "place"), coords={"month": range(12)}, name="rain").chunk(
            {"month": 3}
        )
        kept = months.persist()
        wait(kept)
        assert {f.status for f in futures_of(kept)} == {"finished"}
        quarters = kept.groupby(kept.month // 3).sum().compute()
        assert np.array_equal(quarters, values.reshape(4, 3, 8).sum(axis=1))
        centred = xr.map_blocks(lambda block: block - block.mean("place"), kept, template=kept)
        assert np.allclose(centred.compute().sum("place"), 0)
        assert float(client.compute(kept.max()).result()) == 95
    print("xarray_compute ok", quarters.shape)


if __name__ == "__main__":
    main()
