"""Functions that others send to run in this program, outside of tasks: ``client.run``, ``upload_file``. Shell."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import logging
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distributed.base.handover import HANDOVER_S, noted_futures
from distributed.base.lazy import loaded
from distributed.messages.payload import Payload
from distributed.protocol import serialize

logger = logging.getLogger("distributed.worker")

_ARCHIVES = (".zip", ".egg", ".whl", ".pyz")


def opened(value: Any) -> Any:
    """What a payload (or the bytes of a pickle) holds; anything else as it is."""
    if isinstance(value, Payload):
        return serialize.loads(value)
    if isinstance(value, (bytes, bytearray)):
        return serialize.loads(Payload(bytes(value)))
    return getattr(value, "load", lambda: value)() if type(value).__name__ == "Pickled" else value


async def run(owner: Any, inject: str, function: Any, args: Any = (), kwargs: Any = None) -> Any:
    """Call ``function`` with ``owner`` as its parameter ``inject``, if it has one; a coroutine is awaited."""
    with noted_futures() as given:
        function = opened(function)
        args = opened(args) if args is not None else ()
        kwargs = dict(opened(kwargs) or {})
    if has_parameter(function, inject) and inject not in kwargs:
        kwargs[inject] = owner
    result = function(*args, **kwargs)
    result = await result if inspect.isawaitable(result) else result
    walk_futures = loaded("distributed.client.futures", "walk_futures")
    made = [] if walk_futures is None else list(walk_futures(result))
    if given or made:  # what was submitted here has to be at the scheduler before the caller claims it
        await until_claimed([*given, *made])
    if made:
        asyncio.get_running_loop().call_later(HANDOVER_S, made.clear)
    return result


async def until_claimed(futures: Sequence[Any]) -> None:
    """Until the scheduler knows of these futures, which were opened here: whoever gave them may then drop his own."""
    sessions = list({id(future._client): future._client.session for future in futures if future._client}.values())
    for session in sessions:
        ping = asyncio.run_coroutine_threadsafe(session.call("ping"), session.loop)
        with contextlib.suppress(Exception):  # the session is over, and its claims with it
            await asyncio.wait_for(asyncio.wrap_future(ping), HANDOVER_S)


def has_parameter(function: Any, name: str) -> bool:
    """Whether ``function`` takes a keyword of that name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def save_file(directory: str, filename: str, data: bytes) -> Path:
    """Write an uploaded file; only the last part of its name counts."""
    name = os.path.basename(filename.replace("\\", "/"))
    if not name or name in (".", ".."):
        raise ValueError(f"not a file name: {filename!r}")
    path = Path(directory) / name
    path.write_bytes(data)
    return path


def make_importable(path: Path) -> None:
    """Put an uploaded file where imports look."""
    entry = str(path) if path.suffix in _ARCHIVES else str(path.parent)
    if entry not in sys.path:
        sys.path.insert(0, entry)
    importlib.invalidate_caches()
    sys.path_importer_cache.pop(str(path), None)


def import_file(path: Path) -> list[str]:
    """Import (or import anew) what an uploaded ``.py``, ``.zip`` or ``.egg`` file holds; the names of its modules."""
    names = _top_level_names(path) if path.suffix in _ARCHIVES else [path.stem] if path.suffix == ".py" else []
    if path.suffix == ".py":
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    for name in names:
        for old in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
            del sys.modules[old]
        importlib.import_module(name)
    return names


def _top_level_names(path: Path) -> list[str]:
    if path.is_dir():
        entries = [entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir()]
    else:
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
    names = set()
    for entry in entries:
        head, slash, tail = entry.partition("/")
        if slash and tail in ("__init__.py", "__init__.pyc"):
            names.add(head)
        elif not slash and head.endswith(".py") and head != "__main__.py":
            names.add(head[:-3])
    return sorted(names)
