"""Jobs of ``fire_and_forget``, seen from any client: ``list_detached`` and ``cancel_detached``. Shell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distributed.base.keys import as_key, user_key
from distributed.client.futures import Future


async def list_detached(session: Any) -> dict[Any, dict[str, str]]:
    """``{key: {"state", "worker"}}``."""
    found = await session.call("list_detached")
    return {user_key(as_key(key)): {"state": state, "worker": worker} for key, state, worker in found}


async def cancel_detached(session: Any, keys: list[Any] | None, reason: str, msg: str) -> list[Any]:
    """The keys of what was cancelled."""
    found = await session.call("cancel_detached", keys=keys, reason=reason, msg=msg)
    return [user_key(as_key(key)) for key in found]


def checked_keys(keys: Any) -> list[Any] | None:
    """Keys, or futures of them, as a list of keys; None for all.

    Raises
    ------
    TypeError
        It is neither.
    """
    if keys is None:
        return None
    if isinstance(keys, (str, bytes, tuple, Future)) or not isinstance(keys, Iterable):
        keys = [keys]
    found = []
    for key in keys:
        key = key.key if isinstance(key, Future) else key
        if isinstance(key, bool) or not isinstance(key, (str, bytes, tuple, int, float)):
            raise TypeError(f"cancel_detached takes keys, or futures, not {key!r}")
        found.append(as_key(key))
    return found
