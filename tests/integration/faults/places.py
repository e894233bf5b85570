"""Clusters of real processes for these tests, made piece by piece so that a bad network fits between the pieces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from distributed.client import Client
from distributed.scheduler import Scheduler
from distributed.testing.processes import _Child


@contextlib.asynccontextmanager
async def process(kind: str, *args: Any, **kwargs: Any) -> AsyncIterator[tuple[str, Any]]:
    """A scheduler, worker or nanny in a process of its own: its address, and the process."""
    options: dict[str, Any] = {"host": "127.0.0.1"}
    if kind == "scheduler":
        options |= {"port": 0, "validate": True}
    else:
        options |= {"nthreads": 1}
    child = _Child(kind, *args, **{**options, **kwargs})
    try:
        yield await asyncio.to_thread(child.address), child.process
    finally:
        await asyncio.to_thread(child.end)


@contextlib.asynccontextmanager
async def scheduler_here(**kwargs: Any) -> AsyncIterator[Scheduler]:
    """A scheduler in this process, whose tables and log lines a test can look at; others reach it by its socket."""
    async with Scheduler(port=0, host="127.0.0.1", validate=True, **kwargs) as scheduler:
        yield scheduler
        scheduler.validate_state()


@contextlib.asynccontextmanager
async def client(address: str, **kwargs: Any) -> AsyncIterator[Client]:
    async with Client(address, asynchronous=True, timeout=15, **kwargs) as one:
        yield one


def records(caplog: Any, name: str) -> list[str]:
    """What one logger has said."""
    return [r.getMessage() for r in caplog.records if r.name == name]
