"""A stack of noisy pictures as a dask array: the singular value decomposition finds the few patterns behind it.

The pictures are made on the workers: three sources whose brightness changes from picture to picture, and noise.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

SIDE = 24


def patterns() -> Any:
    """The three sources, one in each row."""
    import numpy as np

    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    spots = [((0.3, 0.3), 0.02), ((0.7, 0.6), 0.01), ((0.35, 0.75), 0.005)]
    return np.stack([np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / width).ravel() for (cy, cx), width in spots])


def make_pictures(block: Any, block_info: Any = None) -> Any:
    """Some of the pictures, one in each row; the block's place seeds its noise."""
    import numpy as np

    first, last = block_info[None]["array-location"][0]
    number = np.arange(first, last)[:, None]
    brightness = np.concatenate([1 + np.sin(number / 7), 1 + np.cos(number / 11), 1 + np.sin(number / 3)], axis=1)
    return brightness @ patterns() + 0.3 * np.random.default_rng(first).standard_normal((last - first, SIDE * SIDE))


def stack(n_pictures: int = 6000, chunk: int = 750) -> Any:
    """The pictures as a lazy array."""
    import dask.array as da

    empty = da.zeros((n_pictures, SIDE * SIDE), chunks=(chunk, SIDE * SIDE))
    return empty.map_blocks(make_pictures, dtype=float)


def decompose(pictures: Any) -> tuple[Any, Any, Any]:
    """``(mean picture, singular values, first directions)``, lazily; works on numpy arrays, too."""
    import numpy as np

    mean = pictures.mean(axis=0)
    _, values, directions = np.linalg.svd(pictures - mean, full_matrices=False)
    return mean, values[:6], directions[:3]


def decompose_lazily(pictures: Any) -> tuple[Any, Any, Any]:
    """:func:`decompose` with dask's decomposition of tall arrays."""
    import dask.array as da

    mean = pictures.mean(axis=0)
    _, values, directions = da.linalg.svd(pictures - mean)
    return mean, values[:6], directions[:3]


def write_png(path: Path, picture: Any, scale: int = 8) -> Path:
    """A grey picture of numbers, from dark (low) to bright (high)."""
    import numpy as np

    low, high = float(picture.min()), float(picture.max())
    grey = np.kron((255 * (picture - low) / (high - low)).astype("uint8"), np.ones((scale, scale), "uint8"))
    rows = b"".join([b"\0" + row.tobytes() for row in grey])

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    content = part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def draw(mean: Any, directions: Any, path: Path) -> Path:
    """The mean and the patterns found, side by side."""
    import numpy as np

    pictures = [mean, *[direction * np.sign(direction.sum()) for direction in directions]]
    return write_png(path, np.hstack([(p / np.abs(p).max()).reshape(SIDE, SIDE) for p in pictures]))
