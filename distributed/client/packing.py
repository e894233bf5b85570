"""The arguments of a call as they travel: futures among them become placeholders, and dependencies of the task."""

from __future__ import annotations

from typing import Any

from distributed.base.keys import Key
from distributed.client.futures import Future
from distributed.client.tokens import SCALARS
from distributed.protocol.serialize import TaskInput


class Packer:
    """Replaces futures among arguments by placeholders, in nested lists, tuples, sets and dicts.

    ``simple`` stays True while everything met is an exact builtin (futures apart).
    """

    __slots__ = ("client", "futures", "hits", "index", "simple")

    def __init__(self, client: Any) -> None:
        self.client = client
        self.futures: list[Future] = []
        self.index: dict[Key, TaskInput] = {}
        self.hits = 0
        self.simple = True

    def pack(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in SCALARS:
            return obj
        if kind is Future or isinstance(obj, Future):
            return self._placeholder(obj)
        if kind is list or kind is tuple or kind is set or kind is frozenset:
            if set(map(type, obj)) <= SCALARS:
                return obj
            before = self.hits
            parts = [self.pack(part) for part in obj]
            return obj if self.hits == before else kind(parts)
        if kind is dict:
            before = self.hits
            pairs = {self.pack(key): self.pack(value) for key, value in obj.items()}
            return obj if self.hits == before else pairs
        self.simple = False
        if isinstance(obj, tuple) and hasattr(obj, "_fields"):
            before = self.hits
            parts = [self.pack(part) for part in obj]
            return obj if self.hits == before else kind._make(parts)
        if isinstance(obj, (list, tuple, set, frozenset)):
            before = self.hits
            parts = [self.pack(part) for part in obj]
            if self.hits == before:
                return obj
            plain = list if isinstance(obj, list) else tuple if isinstance(obj, tuple) else set
            return plain(parts)
        if isinstance(obj, dict):
            before = self.hits
            pairs = {key: self.pack(value) for key, value in obj.items()}
            return obj if self.hits == before else pairs
        return obj

    def _placeholder(self, future: Future) -> TaskInput:
        self.hits += 1
        state = future._bound()
        known = self.index.get(state.key)
        if known is not None:
            return known
        if future._client is not self.client:
            future = adopt(future, self.client)
        placeholder = self.index[state.key] = TaskInput(len(self.futures))
        self.futures.append(future)
        return placeholder


def adopt(future: Future, client: Any) -> Future:
    """The future as one of ``client``, to which its own client must be a sibling on the same scheduler."""
    other = future._client
    if other.status in ("closed", "closing"):
        raise ValueError(
            f"Inputs contain futures that were created by another client, which is closed: {future.key!r}. "
            "Its value is gone; submit the task again."
        )
    if other.session.address != client.session.address:
        raise ValueError(
            f"Inputs contain futures that were created by another client: {future.key!r} lives on the scheduler "
            f"at {other.session.address}, this client talks to {client.session.address}. Gather it and pass the value."
        )
    if not future.done():
        other.session.settle()
    return Future(future.key, client)


def pack_call(
    client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], list[Future], bool]:
    """``(args, kwargs, futures, simple)`` with placeholders for the futures."""
    if set(map(type, args)) <= SCALARS and (not kwargs or set(map(type, kwargs.values())) <= SCALARS):
        return args, kwargs, [], True
    packer = Packer(client)
    packed = tuple([packer.pack(arg) for arg in args])
    packed_kwargs = {name: packer.pack(value) for name, value in kwargs.items()} if kwargs else kwargs
    return packed, packed_kwargs, packer.futures, packer.simple


def keyed(obj: Any, keys: list[Key]) -> Any:
    """Packed simple arguments with keys in place of the placeholders of futures: what their token is made of."""
    kind = type(obj)
    if kind is TaskInput:
        return ("\0future", keys[obj.index])
    if kind is list or kind is tuple:
        return kind([keyed(part, keys) for part in obj])
    if kind is set or kind is frozenset:
        return ("\0set", sorted(repr(keyed(part, keys)) for part in obj))
    if kind is dict:
        return {keyed(key, keys): keyed(value, keys) for key, value in obj.items()}
    return obj
