"""Coroutine tests on both event loops, with a limit on the time, and none of them may leave a task behind."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

TIMEOUT_S = 30.0
FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def run_on(kind: str, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(TIMEOUT_S):
            result = await function(*args, **kwargs)
        for _ in range(3):
            await asyncio.sleep(0)
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task() and not t.done()]
        assert not left, f"tasks left behind: {left}"
        return result

    with asyncio.Runner(loop_factory=FACTORIES[kind]) as runner:
        return runner.run(limited())


def on_both_loops(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Run a coroutine test once on uvloop and once on plain asyncio."""

    @functools.wraps(function)
    def wrapper(*args: Any, loop_kind: str, **kwargs: Any) -> Any:
        return run_on(loop_kind, function, *args, **kwargs)

    del wrapper.__wrapped__
    signature = inspect.signature(function)
    parameters = [*signature.parameters.values(), inspect.Parameter("loop_kind", inspect.Parameter.KEYWORD_ONLY)]
    wrapper.__signature__ = signature.replace(parameters=parameters)
    return pytest.mark.parametrize("loop_kind", list(FACTORIES))(wrapper)


def on_uvloop(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Run a coroutine test on uvloop only."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return run_on("uvloop", function, *args, **kwargs)

    return wrapper


async def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    """Wait for a fact, not for a time."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)
