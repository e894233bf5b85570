"""Named data that outlives the client: ``publish_dataset`` and the mapping ``client.datasets``. Shell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from typing import Any

from distributed.base.keys import as_key
from distributed.client import current
from distributed.client.futures import futures_of
from distributed.client.session import Session
from distributed.protocol.serialize import dumps, loads


def named(args: tuple[Any, ...], name: Any, kwargs: Mapping[str, Any]) -> dict[Any, Any]:
    """``{name: value}`` of the arguments of ``publish_dataset``."""
    if name is not None:
        if len(args) != 1:
            raise ValueError("with name=, exactly one positional argument is published")
        return {name: args[0], **kwargs}
    if not args:
        return dict(kwargs)
    if len(args) != 1 or not isinstance(args[0], Mapping):
        raise ValueError("without name=, what is published must come as a dict of names and values")
    return {**args[0], **kwargs}


class Publisher:
    """Publishes and finds datasets of one client; coroutines on the client's loop."""

    def __init__(self, client: Any, session: Session) -> None:
        self.client = client
        self.session = session

    async def publish(self, data: Mapping[Any, Any], override: bool) -> None:
        """Keep each value on the scheduler under its name. Raises KeyError when a name is taken."""
        for name, value in data.items():
            keys = [as_key(future.key) for future in futures_of(value)]
            await self.session.call("publish_put", name=name, data=dumps(value), keys=keys, override=override)

    async def get(self, name: Any, default: Any, required: bool) -> Any:
        """The value, its futures being of this client."""
        found = await self.session.call("publish_get", name=name)
        if found is None:
            if required:
                raise KeyError(f"Dataset '{name}' not found")
            return default
        with current.as_current(self.client):
            return loads(found)

    async def delete(self, name: Any) -> None:
        await self.session.call("publish_delete", name=name)

    async def names(self) -> tuple[Any, ...]:
        return tuple(await self.session.call("publish_list"))


class Datasets(MutableMapping[Any, Any]):
    """``client.datasets``: what is published, as a mapping. With an asynchronous client only ``await datasets[name]``
    and ``async for`` work."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def _refuse(self, what: str, instead: str) -> None:
        if self._client.asynchronous:
            raise TypeError(f"with an asynchronous client {what} cannot wait for its answer: {instead}")

    def __getitem__(self, name: Any) -> Any:
        return self._client.get_dataset(name)

    def __setitem__(self, name: Any, value: Any) -> None:
        self._refuse("'datasets[name] = value'", "await client.publish_dataset(value, name=name)")
        self._client.publish_dataset(value, name=name)

    def __delitem__(self, name: Any) -> None:
        self._refuse("'del datasets[name]'", "await client.unpublish_dataset(name)")
        if name not in self:
            raise KeyError(name)
        self._client.unpublish_dataset(name)

    def __contains__(self, name: object) -> bool:
        self._refuse("'name in datasets'", "look into what 'await client.list_datasets()' gives")
        return name in self._client.list_datasets()

    def __iter__(self) -> Iterator[Any]:
        self._refuse("a plain 'for' over datasets", "write 'async for'")
        return iter(self._client.list_datasets())

    async def __aiter__(self) -> AsyncIterator[Any]:
        for name in await self._client.list_datasets():
            yield name

    def __len__(self) -> int:
        self._refuse("'len(datasets)'", "take the length of what 'await client.list_datasets()' gives")
        return len(self._client.list_datasets())
