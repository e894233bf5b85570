"""dask-image: a filter and labels over an image in chunks equal those of scipy."""

import dask.array as da
import numpy as np
from dask_image import ndfilters, ndmeasure
from scipy import ndimage

from distributed import Client


def main() -> None:
    image = np.random.default_rng(6).random((64, 64))
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        lazy = da.from_array(image, chunks=(16, 32))
        smooth = ndfilters.gaussian_filter(lazy, sigma=2)
        assert np.allclose(smooth.compute(), ndimage.gaussian_filter(image, sigma=2))
        _, count = ndmeasure.label(smooth > 0.52)
        found = int(count.compute())
    assert found == ndimage.label(ndimage.gaussian_filter(image, sigma=2) > 0.52)[1]
    print("image_filters ok", found)


if __name__ == "__main__":
    main()
