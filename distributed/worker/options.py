"""What a worker's options mean: ports, executors, places for values, times from the settings."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping, MutableMapping
from typing import Any

from distributed.base import settings
from distributed.base.formatting import parse_timedelta
from distributed.worker.data_store import DataStore


def seconds(given: Any, setting: str) -> float | None:
    value = given if given is not None else settings.get(setting, None)
    return None if value is None else float(parse_timedelta(value))


def ports(port: int | str | None) -> list[int | None]:
    """The ports that an option names: one, none, or the range ``"first:last"``."""
    if isinstance(port, str) and port:
        first, colon, last = port.partition(":")
        if not colon:
            return [int(first)]
        if int(last) < int(first):
            raise ValueError(f"a range of ports goes upwards: {port!r}")
        return list(range(int(first), int(last) + 1))
    return [port if isinstance(port, int) else None]


def named_executors(executor: Any) -> dict[str, concurrent.futures.Executor]:
    if executor is None:
        return {}
    if isinstance(executor, concurrent.futures.Executor):
        return {"default": executor}
    if isinstance(executor, Mapping):
        return dict(executor)
    raise TypeError(f"executor must be an Executor or a dict of them, not {executor!r}")


def make_store(data: Any) -> DataStore:
    if data is None:
        return DataStore()
    if isinstance(data, tuple):
        data = data[0](**data[1]) if len(data) == 2 else data[0]()
    elif callable(data) and not isinstance(data, MutableMapping):
        data = data()
    if not isinstance(data, MutableMapping) and not hasattr(data, "__setitem__"):
        raise TypeError(f"data must be a mapping or make one, not {data!r}")
    return DataStore(data)
