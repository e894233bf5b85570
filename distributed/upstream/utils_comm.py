"""``distributed.utils_comm``: trying again, and keys inside of nested data."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from distributed.base import settings
from distributed.base.errors import CommClosedError

T = TypeVar("T")

logger = logging.getLogger("distributed.utils_comm")


async def retry(
    coro: Callable[[], Coroutine[Any, Any, T]],
    count: int,
    delay_min: float,
    delay_max: float,
    jitter_fraction: float = 0.1,
    retry_on_exceptions: type[BaseException] | tuple[type[BaseException], ...] = (OSError, CommClosedError),
    operation: str | None = None,
) -> T:
    """Await ``coro()``; up to ``count`` times more while it raises one of ``retry_on_exceptions``.

    Parameters
    ----------
    delay_min, delay_max : float
        Seconds before the second try, doubled for each further one, and their limit.
    jitter_fraction : float
        A random part of the delay, up to this share, is added.
    operation : str, optional
        What the log calls it.
    """
    for attempt in range(count):
        try:
            return await coro()
        except retry_on_exceptions as error:
            name = operation or getattr(coro, "__name__", "an operation")
            logger.info("Retrying %s after %s (%d of %d)", name, error, attempt + 1, count)
            delay = min(delay_min * 2**attempt, delay_max)
            await asyncio.sleep(delay * (1 + random.random() * jitter_fraction))
    return await coro()


async def retry_operation(
    coro: Callable[..., Coroutine[Any, Any, T]], *args: Any, operation: str | None = None, **kwargs: Any
) -> T:
    """``retry`` of ``coro(*args, **kwargs)`` as often and as slowly as the settings ``distributed.comm.retry`` say."""

    async def call() -> T:
        return await coro(*args, **kwargs)

    return await retry(
        call,
        count=int(settings.get("distributed.comm.retry.count")),
        delay_min=settings.get_seconds("distributed.comm.retry.delay.min"),
        delay_max=settings.get_seconds("distributed.comm.retry.delay.max"),
        operation=operation or getattr(coro, "__name__", None),
    )


def pack_data(o: Any, d: Mapping[Any, Any], key_types: type | tuple[type, ...] = object) -> Any:
    """Nested tuples, lists, sets and dicts (their values) with each key of ``d`` replaced by its value.

    >>> pack_data({"a": ["x", 1]}, {"x": 100})
    {'a': [100, 1]}
    """
    try:
        if isinstance(o, key_types) and o in d:
            return d[o]
    except TypeError:  # not hashable: no key
        pass
    if type(o) in (tuple, list, set, frozenset):
        return type(o)([pack_data(item, d, key_types) for item in o])
    if type(o) is dict:
        return {name: pack_data(value, d, key_types) for name, value in o.items()}
    return o


def subs_multiple(o: Any, d: Mapping[Any, Any]) -> Any:
    """:func:`pack_data` of lists, dicts and keys; tuples, which may be tasks, too."""
    return pack_data(o, d)
