"""Waiting for facts, with a time limit, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any

import pytest


def poll_for(
    predicate: Callable[[], Any],
    timeout: float = 15,
    fail_func: Callable[[], None] | None = None,
    period: float = 0.05,
) -> None:
    """Return as soon as ``predicate()`` is true; fail the test after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            if fail_func is not None:
                fail_func()
            pytest.fail(f"condition not reached in {timeout} s: {predicate!r}")
        time.sleep(period)


async def async_poll_for(
    predicate: Callable[[], Any],
    timeout: float = 15,
    fail_func: Callable[[], None] | None = None,
    period: float = 0.05,
) -> None:
    """``poll_for`` on an event loop. ``predicate`` may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        fact = predicate()
        if hasattr(fact, "__await__"):
            fact = await fact
        if fact:
            return
        if time.monotonic() > deadline:
            if fail_func is not None:
                fail_func()
            pytest.fail(f"condition not reached in {timeout} s: {predicate!r}")
        await asyncio.sleep(period)


async def wait_for_state(
    key: Any, state: str | Collection[str], dask_worker: Any, *, interval: float = 0.01, timeout: float = 30
) -> None:
    """Wait until the task is in (one of) the state(s) on a Worker or Scheduler."""
    wanted = {state} if isinstance(state, str) else set(state)
    deadline = time.monotonic() + timeout
    while True:
        tasks = getattr(dask_worker, "tasks", None)
        if tasks is None:
            tasks = dask_worker.state.tasks
        task = tasks.get(key)
        actual = task.state if task is not None else None
        if str(getattr(actual, "value", actual)) in wanted:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"task {key!r} is {actual!r} and not {state!r} on {dask_worker!r}")
        await asyncio.sleep(interval)


def wait_for_log_line(match: bytes, stream: IO[bytes] | None, max_lines: int | None = 10) -> bytes:
    """Read lines of a process until one matches, and return it."""
    assert stream is not None
    pattern = re.compile(match)
    seen: list[bytes] = []
    while max_lines is None or len(seen) < max_lines:
        line = stream.readline()
        if not line:
            break
        seen.append(line)
        if pattern.search(line):
            return line
    raise AssertionError(f"{match!r} not found in {b''.join(seen)!r}")


@contextlib.contextmanager
def raises_with_cause(
    expected_exception: type[BaseException] | tuple[type[BaseException], ...],
    match: str | None,
    expected_cause: type[BaseException] | tuple[type[BaseException], ...],
    match_cause: str | None,
    *more_causes: Any,
) -> Iterator[None]:
    """``pytest.raises`` that looks at the chain of causes too; further pairs (type, pattern) go deeper."""
    with pytest.raises(expected_exception, match=match) as info:
        yield
    cause: BaseException | None = info.value
    pairs = [(expected_cause, match_cause), *zip(more_causes[::2], more_causes[1::2], strict=True)]
    for kind, pattern in pairs:
        assert cause is not None
        cause = cause.__cause__
        assert isinstance(cause, kind), f"cause is {cause!r}, not {kind!r}"
        if pattern:
            assert re.search(pattern, str(cause)), f"{pattern!r} not found in {cause!s}"


@contextlib.contextmanager
def padded_time(before: float = 0.05, after: float = 0.05) -> Iterator[None]:
    """A pause before and after."""
    time.sleep(before)
    yield
    time.sleep(after)
