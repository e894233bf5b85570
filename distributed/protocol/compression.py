"""Compression of segments: what is installed, whether it pays, and decompression that cannot be made to fill the
memory."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from distributed.base import settings
from distributed.base.errors import FrameError

MIN_BYTES = 10_000
MAX_BYTES = 1 << 30
MIN_GAIN = 0.9
"""A segment is sent compressed when it shrinks to less than this share."""
_SAMPLE_BYTES = 10_000
_SAMPLES = 5


class Compressor(NamedTuple):
    """One way to compress. ``number`` names it on the wire; ``decompress`` gets the exact size of the result."""

    number: int
    name: str
    compress: Callable[[Any], bytes]
    decompress: Callable[[Any, int], bytes | bytearray]


def _load_zlib() -> Compressor:
    def decompress(data: Any, nbytes: int) -> bytes:
        opener = zlib.decompressobj()
        result = opener.decompress(data, nbytes + 1)
        if not opener.eof:
            raise ValueError("more comes out than was declared")
        return result

    return Compressor(1, "zlib", lambda data: zlib.compress(data, 1), decompress)


def _load_lz4() -> Compressor:
    block: Any = importlib.import_module("lz4.block")
    return Compressor(
        2,
        "lz4",
        lambda data: block.compress(data, store_size=False),
        lambda data, nbytes: block.decompress(data, uncompressed_size=nbytes, return_bytearray=True),
    )


def _load_zstd() -> Compressor:
    zstandard: Any = importlib.import_module("zstandard")

    def decompress(data: Any, nbytes: int) -> bytes:
        declared = zstandard.get_frame_parameters(data).content_size
        if declared != nbytes:
            raise ValueError(f"the content declares {declared} bytes")
        content: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=nbytes)
        return content

    def compress(data: Any) -> bytes:
        level, threads = (
            settings.get("distributed.comm.zstd.level", 3),
            settings.get("distributed.comm.zstd.threads", 0),
        )
        content: bytes = zstandard.ZstdCompressor(level=int(level), threads=int(threads)).compress(data)
        return content

    return Compressor(3, "zstd", compress, decompress)


_LOADERS = {"zlib": _load_zlib, "lz4": _load_lz4, "zstd": _load_zstd}
_NAMES = {1: "zlib", 2: "lz4", 3: "zstd"}
_loaded: dict[str, Compressor | None] = {}


def compressor(name: str) -> Compressor | None:
    """The compressor called ``name``, or None when it is not installed. Raises ``ValueError`` for an unknown name."""
    if name not in _loaded:
        if name not in _LOADERS:
            raise ValueError(f"no compression is called {name!r}; known: {', '.join(_LOADERS)}")
        try:
            _loaded[name] = _LOADERS[name]()
        except ImportError:
            _loaded[name] = None
    return _loaded[name]


def available() -> tuple[str, ...]:
    """Names of the compressions that this process can undo, the quickest first."""
    return tuple(name for name in ("lz4", "zstd", "zlib") if compressor(name) is not None)


def choose(setting: Any, peer: tuple[str, ...] | None = None) -> str | None:
    """The compression for a connection, of the setting ``distributed.comm.compression`` and what the peer can undo.

    ``auto`` takes lz4 or zstd, whichever both ends have, else none; a name that an end lacks gives none.
    """
    both = [name for name in available() if peer is None or name in peer]
    if setting is True or setting == "auto":
        return next((name for name in both if name != "zlib"), None)
    return setting if setting in both else None


def compress(view: memoryview, name: str) -> tuple[int, bytes] | None:
    """``(number, bytes)`` of a segment, or None when compressing it does not pay."""
    nbytes = view.nbytes
    method = compressor(name)
    if method is None or not MIN_BYTES <= nbytes <= MAX_BYTES:
        return None
    if nbytes > 2 * _SAMPLES * _SAMPLE_BYTES:
        step = (nbytes - _SAMPLE_BYTES) // (_SAMPLES - 1)
        sample = b"".join([view[i * step : i * step + _SAMPLE_BYTES] for i in range(_SAMPLES)])
        if len(method.compress(sample)) > MIN_GAIN * len(sample):
            return None
    data = method.compress(view)
    return None if len(data) > MIN_GAIN * nbytes else (method.number, data)


def decompress(number: int, data: Any, nbytes: int) -> bytearray:
    """Undo :func:`compress`; ``nbytes`` is the declared size, which the caller has checked against its limits.

    Raises ``FrameError`` for an unknown compression, damaged data, or more data than declared.
    """
    name = _NAMES.get(number, "")
    method = compressor(name) if name else None
    if method is None:
        raise FrameError(f"a segment comes compressed by {name or f'method {number}'}, which is not available here")
    if nbytes > MAX_BYTES:
        raise FrameError(f"a compressed segment declares {nbytes} bytes, more than the limit of {MAX_BYTES}")
    try:
        content = method.decompress(data, nbytes)
    except Exception as error:
        raise FrameError(f"a segment of {nbytes} bytes cannot be decompressed ({name}): {error}") from error
    if len(content) != nbytes:
        raise FrameError(f"a compressed segment declares {nbytes} bytes and has {len(content)}")
    return content if isinstance(content, bytearray) else bytearray(content)
