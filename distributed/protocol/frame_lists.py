"""Lists of frames as other packages handle them: packed into one buffer, split, merged, compressed. Pure.

Also served as ``distributed.protocol.utils``.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from distributed.protocol import compression as compressions

_COUNT = struct.Struct("<Q")
SPLIT_BYTES = 64 * 2**20


def host_array(n: int) -> memoryview:
    """A writable buffer of ``n`` bytes."""
    return memoryview(bytearray(n))


def _view(frame: Any) -> memoryview:
    view = memoryview(frame)
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def pack_frames(frames: Collection[Any]) -> bytes:
    """All frames in one: their number, the length of each (u64), and their bytes.

    >>> [bytes(frame) for frame in unpack_frames(pack_frames([b"a", b"bc"]))]
    [b'a', b'bc']
    """
    return b"".join([pack_frames_prelude(frames), *map(_view, frames)])


def pack_frames_prelude(frames: Collection[Any]) -> bytes:
    """What :func:`pack_frames` puts before the bytes of the frames."""
    lengths = [_view(frame).nbytes for frame in frames]
    return struct.pack(f"<Q{len(lengths)}Q", len(lengths), *lengths)


def unpack_frames(b: Any, *, remainder: bool = False, partial: bool = False) -> Any:
    """The frames of :func:`pack_frames`, uncopied.

    Parameters
    ----------
    b
        Buffer with the packed frames.
    remainder
        Return ``(frames, rest)``, with what lies behind the frames.
    partial
        Keep only whole frames when bytes are missing at the end, instead of raising.

    Raises ``ValueError`` when bytes are missing.
    """
    view = _view(b)
    if view.nbytes < _COUNT.size:
        raise ValueError(f"{view.nbytes} bytes are no packed frames")
    (count,) = _COUNT.unpack_from(view)
    position = _COUNT.size * (count + 1)
    if view.nbytes < position:
        raise ValueError(f"{view.nbytes} bytes are too few for {count} packed frames")
    frames: list[memoryview] = []
    for length in struct.unpack_from(f"<{count}Q", view, _COUNT.size):
        if position + length > view.nbytes:
            if partial:
                break
            raise ValueError(f"frame {len(frames)} of {count} is cut off")
        frames.append(view[position : position + length])
        position += length
    return (frames, view[position:]) if remainder else frames


def frame_split_size(frame: Any, n: int = SPLIT_BYTES) -> list[memoryview]:
    """Views of at most ``n`` bytes each, in order; an empty frame gives one empty view."""
    view = _view(frame)
    return [view[i : i + n] for i in range(0, view.nbytes, n)] or [view]


def merge_memoryviews(mvs: Sequence[memoryview]) -> memoryview:
    """The bytes of all views in one, copied unless there is only one."""
    return mvs[0] if len(mvs) == 1 else memoryview(b"".join(mvs))


def maybe_compress(
    payload: Any, *, min_size: int = compressions.MIN_BYTES, compression: str | bool | None = "auto", **ignored: Any
) -> tuple[str | None, Any]:
    """``(name, bytes)`` by the compression named (``auto``: the best one installed), ``(None, payload)`` when it does
    not pay. Raises ``ValueError`` for an unknown name."""
    name = compressions.choose(compression)
    if isinstance(compression, str) and compression != "auto":
        compressions.compressor(compression)
    view = _view(payload)
    found = compressions.compress(view, name) if name is not None and view.nbytes >= min_size else None
    return (None, payload) if found is None else (name, struct.pack("<BQ", found[0], view.nbytes) + found[1])


def decompress(header: dict[str, Any], frames: Iterable[Any]) -> list[Any]:
    """Undo :func:`maybe_compress` for each frame that ``header["compression"]`` names a compression for."""
    names = header.get("compression") or []
    opened = []
    for name, frame in zip(names, frames, strict=True):
        if name:
            view = _view(frame)
            number, nbytes = struct.unpack_from("<BQ", view)
            frame = compressions.decompress(number, view[9:], nbytes)
        opened.append(frame)
    return opened
