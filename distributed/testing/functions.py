"""Small functions for tests to run as tasks: they add, wait, raise, or differ from call to call."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable
from typing import Any


def inc(x: Any) -> Any:
    return x + 1


def dec(x: Any) -> Any:
    return x - 1


def double(x: Any) -> Any:
    return x * 2


def add(x: Any, y: Any) -> Any:
    return x + y


def mul(x: Any, y: Any) -> Any:
    return x * y


def div(x: Any, y: Any) -> Any:
    return x / y


def throws(x: Any) -> Any:
    raise RuntimeError("hello!")


def slowinc(x: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return x + 1


def slowdec(x: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return x - 1


def slowdouble(x: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return 2 * x


def slowadd(x: Any, y: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return x + y


def slowsum(seq: Iterable[Any], delay: float = 0.02) -> Any:
    time.sleep(delay)
    return sum(seq)


def slowidentity(*args: Any, **kwargs: Any) -> Any:
    time.sleep(kwargs.get("delay", 0.02))
    return args[0] if len(args) == 1 else args


def randominc(x: Any, scale: float = 1) -> Any:
    time.sleep(random.random() * scale)
    return x + 1


def run_for(duration: float, timer: Callable[[], float] = time.time) -> None:
    """Keep a core busy for ``duration`` seconds."""
    deadline = timer() + duration
    while timer() <= deadline:
        pass


async def asyncinc(x: Any, delay: float = 0.02) -> Any:
    await asyncio.sleep(delay)
    return x + 1


def lock_inc(x: Any, lock: Any) -> Any:
    """``x + 1``, once ``lock`` can be had."""
    with lock:
        return x + 1


def block_on_event(event: Any) -> None:
    event.wait()


class _Varying:
    """Each call takes the next item; an exception among the items is raised. Counts on where it runs."""

    _counts: dict[str, Any] = {}

    def __init__(self, name: str, items: list[Any]) -> None:
        self.name = name
        self.items = items

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        counter = self._counts.setdefault(self.name, itertools.count())
        index = next(counter)
        if index >= len(self.items):
            raise IndexError(f"called {index + 1} times, and there are {len(self.items)} items")
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


_names = itertools.count()


def varying(items: Iterable[Any]) -> Callable[..., Any]:
    """A function that returns (or raises) one item after the other; every process counts for itself."""
    return _Varying(f"varying-{random.getrandbits(64):x}-{next(_names)}", list(items))


def map_varying(itemslists: Iterable[Iterable[Any]]) -> tuple[Callable[..., Any], list[Callable[..., Any]]]:
    """For ``client.map(*map_varying(...))``: one varying function per list of items."""
    return _call, [varying(items) for items in itemslists]


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


class SizeOf:
    """Says that it has ``nbytes`` bytes, and has not."""

    def __init__(self, nbytes: int) -> None:
        if not isinstance(nbytes, int):
            raise TypeError(f"nbytes must be an int, not {nbytes!r}")
        self._nbytes = nbytes

    def __sizeof__(self) -> int:
        return self._nbytes


def gen_nbytes(nbytes: int) -> SizeOf:
    """An object that emulates ``nbytes`` bytes of memory."""
    return SizeOf(nbytes)
