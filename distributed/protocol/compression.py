"""Compression of what travels beside messages, when the configuration asks for it and the data gains by it.

``distributed.comm.compression`` is False (default), "auto" or a name. Pure but for reading that setting once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from distributed.base import settings
from distributed.base.errors import FrameError

MIN_BYTES = 10_000
SAMPLE_BYTES = 10_000
MUST_GAIN = 0.9
MAX_RATIO = 1024
"""A peer may claim at most this many times the size of what it sent."""

Codec = tuple[Callable[[Any], bytes], Callable[[Any, int], bytes]]


def _zlib_expand(data: Any, nbytes: int) -> bytes:
    expander = zlib.decompressobj()
    out = expander.decompress(data, nbytes)
    if expander.unconsumed_tail:
        raise FrameError(f"a compressed segment holds more than the {nbytes} bytes that it declares")
    return out


def _codecs() -> dict[str, Codec]:
    found: dict[str, Codec] = {"zlib": (lambda data: zlib.compress(data, 1), _zlib_expand)}
    try:
        import lz4.block
    except ImportError:
        pass
    else:
        found["lz4"] = (
            lambda data: lz4.block.compress(data, store_size=False),
            lambda data, nbytes: lz4.block.decompress(data, uncompressed_size=nbytes),
        )
    try:
        import zstandard
    except ImportError:
        pass
    else:
        found["zstd"] = (
            lambda data: zstandard.ZstdCompressor(level=3).compress(data),
            lambda data, nbytes: zstandard.ZstdDecompressor().decompress(data, max_output_size=nbytes),
        )
    return found


CODECS = _codecs()


def chosen() -> str | None:
    """The name of the method in use, or None. Raises ``ValueError`` for one that is not installed."""
    name = settings.get("distributed.comm.compression", False)
    if not name or name == "none":
        return None
    if name == "auto":
        return next((n for n in ("lz4", "zstd") if n in CODECS), None)
    if name not in CODECS:
        raise ValueError(f"distributed.comm.compression is {name!r}; installed here: {', '.join(sorted(CODECS))}")
    return str(name)


def shrink(data: memoryview, name: str) -> bytes | None:
    """``data`` compressed, or None when it does not gain by it; tries a sample of large data first."""
    if data.nbytes < MIN_BYTES:
        return None
    compress = CODECS[name][0]
    if data.nbytes > 5 * SAMPLE_BYTES:
        middle = data.nbytes // 2
        sample = data[middle : middle + SAMPLE_BYTES]
        if len(compress(sample)) > MUST_GAIN * SAMPLE_BYTES:
            return None
    out = compress(data)
    return out if len(out) <= MUST_GAIN * data.nbytes else None


def expand(data: Any, name: str, nbytes: int) -> bytes:
    """The original of ``nbytes`` bytes. Raises ``FrameError`` for anything that is not just that."""
    codec = CODECS.get(name)
    if codec is None:
        raise FrameError(f"the peer compresses with {name!r}, which is not installed here")
    size = memoryview(data).nbytes
    if not 0 <= nbytes <= MAX_RATIO * max(size, 1):
        raise FrameError(f"a segment of {size} bytes declares {nbytes} bytes when expanded")
    try:
        out = codec[1](data, nbytes)
    except FrameError:
        raise
    except Exception as e:
        raise FrameError(f"a compressed segment is damaged: {type(e).__name__}: {e}") from None
    if len(out) != nbytes:
        raise FrameError(f"a compressed segment holds {len(out)} bytes and declares {nbytes}")
    return out
