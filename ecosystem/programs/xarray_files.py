"""xarray writes one netCDF file from several processes: the file's lock must hold across them."""

import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from distributed import Client


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "heights.nc")
        heights = xr.Dataset({"z": (("x", "y"), np.arange(100.0).reshape(10, 10))}).chunk({"x": 2})
        with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
            heights.to_netcdf(path, engine="netcdf4")
            with xr.open_dataset(path, engine="netcdf4", chunks={"y": 5}) as back:
                total = float(back.z.sum().compute())
    assert total == 4950
    print("xarray_files ok", total)


if __name__ == "__main__":
    main()
