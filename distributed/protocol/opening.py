"""Pickles of functions and graph nodes, opened in several threads at once without a race between their imports.

``import a.b`` returns at once when ``a.b`` is there, although another thread may still be in the middle of ``a``: what
``a`` registers last (dask.array's dispatch tables, say) is then missing for a moment, and a task fails that is in
order. Here a name is looked up once, in turn, when all packages above its module are complete; after that it is known.
"""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import threading
from typing import Any

from distributed.messages.payload import Arguments

_turn = threading.RLock()  # an import may itself open pickles


@functools.lru_cache(4096)
def _find(module: str, name: str) -> Any:
    with _turn:
        parts = module.split(".")
        for n in range(1, len(parts) + 1):
            found = importlib.import_module(".".join(parts[:n]))
        return functools.reduce(getattr, name.split("."), found)


class _Opener(pickle.Unpickler):
    find_class = staticmethod(_find)


def open_in_turn(payload: Arguments) -> Any:
    """As :func:`distributed.protocol.payloads.loads`, for a process where other threads open pickles too."""
    if isinstance(payload, bytes):
        return _Opener(io.BytesIO(payload)).load()
    attached = payload.attached
    if attached is None:
        return _Opener(io.BytesIO(payload.data)).load()
    if attached.is_live:
        return attached.live
    buffers = attached.buffers
    if payload.data or not buffers:
        return _Opener(io.BytesIO(payload.data), buffers=buffers).load()
    return _Opener(io.BytesIO(buffers[0]), buffers=buffers[1:]).load()


def forget_names() -> None:
    """Modules have been loaded anew: look their names up again."""
    _find.cache_clear()
