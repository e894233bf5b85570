"""Waiting for the state to become such and such: checked after each beat, so nothing polls. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Conditions:
    """Coroutines that wait until a predicate over the state holds."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    async def wait(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        """Whether the predicate has come to hold within ``timeout`` seconds (None: however long it takes)."""
        if predicate():
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (predicate, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return predicate()
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
        return True

    def check(self) -> None:
        """Wake those whose wish has come true. What a predicate raises goes to who waits for it."""
        for predicate, future in list(self._waiting):
            if future.done():
                continue
            try:
                if predicate():
                    future.set_result(None)
            except Exception as e:
                future.set_exception(e)
