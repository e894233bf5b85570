"""Servers made from specifications, ``{"cls": class or "package.module.Class", "options": {...}}``, and what those say
of a worker's size. Shell."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from typing import Any

from distributed.base.settings import parse_bytes
from distributed.deploy.cluster import gather_quietly

__all__ = ["begin", "class_of", "nbytes_of", "run_spec", "threads_of"]


async def run_spec(spec: Mapping[Any, Mapping[str, Any]], *args: Any) -> dict[Any, Any]:
    """Start servers from ``{name: {"cls": class or "package.module.Class", "opts": {...}}}``, each with ``args`` (the
    scheduler's address) before its keywords.

    Returns
    -------
    dict
        The servers, which run, by name. When one does not start, the others are closed and its error is raised.
    """
    servers = {
        name: class_of(one["cls"])(*args, **{"name": name, **(one.get("opts") or one.get("options") or {})})
        for name, one in spec.items()
    }
    outcomes = await asyncio.gather(*[begin(one) for one in servers.values()], return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failed:
        await gather_quietly([one.close for one in servers.values()])
        raise failed[0]
    return servers


async def begin(server: Any) -> None:
    """Start a server, which may be any awaitable."""
    await server


def class_of(cls: Any) -> Any:
    """A class, or the one that ``"package.module.Class"`` names."""
    if not isinstance(cls, str):
        return cls
    module, _, name = cls.rpartition(".")
    return getattr(importlib.import_module(module), name)


def threads_of(spec: Mapping[str, Any] | None) -> int:
    """How many threads a worker of this specification has."""
    return int(_option(spec, ("nthreads", "ncores", "threads", "cores"), "cores", "nthreads"))


def nbytes_of(spec: Mapping[str, Any] | None) -> int:
    """How much memory it has."""
    return int(parse_bytes(_option(spec, ("memory_limit", "memory"), "memory", "memory_limit")))


def _option(spec: Mapping[str, Any] | None, names: tuple[str, ...], wish: str, wanted: str) -> Any:
    if not spec:
        raise ValueError(f"To scale by {wish}= the cluster needs a worker specification")
    for name in names:
        if (value := spec.get("options", {}).get(name)) is not None:
            return value
    raise ValueError(f"To scale by {wish}= the options of the worker specification must say {wanted}")
