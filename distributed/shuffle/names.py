"""Ids and keys of shuffles, as dask writes them into graphs. Pure."""

from __future__ import annotations

from typing import Any, NewType

ShuffleId = NewType("ShuffleId", str)

TOPIC = "p2p"
"""Events of all shuffles; those of one are also under ``p2p-<id>``."""

_PREFIX = "shuffle-barrier-"


def barrier_key(shuffle_id: str) -> str:
    """Key of the barrier task of a shuffle."""
    return _PREFIX + shuffle_id


def id_from_key(key: Any) -> ShuffleId | None:
    """The shuffle whose barrier has this key; None when it is no barrier."""
    if isinstance(key, str) and key.startswith(_PREFIX):
        return ShuffleId(key[len(_PREFIX) :])
    return None
