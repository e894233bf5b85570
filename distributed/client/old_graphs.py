"""Graphs of the old form, ``{key: (func, *args)}``: the plain calls among them, read without dask.

A call is plain when each argument is a number, a string, a key of the graph, or a list of these. Everything else (tasks
within tasks, tuples and dicts that may hold keys, objects) is left to dask. Lists of many keys that come again, as in
an all-to-all exchange, are read once. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributed.messages.client_to_scheduler import SHARED_FROM
from distributed.protocol.serialize import TaskInput, TaskInputs

_MAY_BE_KEYS = frozenset([int, float, str, bool])
_LITERALS = frozenset([type(None), bytes, complex])


class Call:
    """A plain call; ``args`` has placeholders for the values of ``dependencies``, which are users' keys."""

    __slots__ = ("args", "dependencies", "func")

    def __init__(self, func: Any, args: tuple[Any, ...], dependencies: tuple[Any, ...]) -> None:
        self.func = func
        self.args = args
        self.dependencies = dependencies


class CallReader:
    """Reads the tasks of one graph. Equal long lists of dependencies become the same tuple."""

    def __init__(self, graph: Mapping[Any, Any]) -> None:
        self.graph = graph
        self._lists: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def read(self, task: Any) -> Call | None:
        """The call, or None when dask has to read the task."""
        if type(task) is not tuple or not task or not callable(task[0]):
            return None
        inputs = _Inputs()
        try:
            args = tuple([self._argument(arg, inputs) for arg in task[1:]])
        except (_NotPlain, TypeError):  # TypeError: something that cannot be a key
            return None
        dependencies = inputs.keys if inputs.index is None else tuple(inputs.index)
        if len(dependencies) >= SHARED_FROM and inputs.index is not None:
            dependencies = self._lists.setdefault(dependencies, dependencies)
        return Call(task[0], args, dependencies)

    def _argument(self, arg: Any, inputs: _Inputs) -> Any:
        kind = type(arg)
        if kind is tuple or kind in _MAY_BE_KEYS:
            if arg in self.graph:
                return inputs.place(arg)
            if kind is tuple:
                raise _NotPlain
            return arg
        if kind is list:
            if len(arg) >= SHARED_FROM and inputs.index is None and not inputs.keys:
                keys = self._all_keys(arg)
                if keys:
                    inputs.keys = keys
                    return TaskInputs(0, len(keys))
            return [self._argument(part, inputs) for part in arg]
        if kind in _LITERALS:
            return arg
        raise _NotPlain

    def _all_keys(self, parts: list[Any]) -> tuple[Any, ...]:
        """The parts if all are keys of the graph and none comes twice, else nothing."""
        keys = tuple(parts)
        known = self._lists.get(keys)
        if known is None:
            once = dict.fromkeys(keys)
            if len(once) < len(keys) or not once.keys() <= self.graph.keys():
                return ()
            known = self._lists[keys] = keys
        return known


class _Inputs:
    """The dependencies of one call so far: ``keys``, or those of ``index`` once a single one was placed."""

    __slots__ = ("index", "keys")

    def __init__(self) -> None:
        self.keys: tuple[Any, ...] = ()
        self.index: dict[Any, TaskInput] | None = None

    def place(self, key: Any) -> TaskInput:
        index = self.index
        if index is None:
            index = self.index = {known: TaskInput(i) for i, known in enumerate(self.keys)}
        found = index.get(key)
        if found is None:
            found = index[key] = TaskInput(len(index))
        return found


class _NotPlain(Exception):
    pass
