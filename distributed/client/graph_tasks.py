"""From the nodes of one graph to tasks: programs where tasks have the same shape, large constants once. Pure but for
pickling."""

from __future__ import annotations

import itertools
import pickle
import sys
from collections.abc import Mapping
from typing import Any

from distributed.base.formatting import format_bytes
from distributed.base.keys import Key, as_key
from distributed.client.graph_programs import (
    MANY_PROGRAMS,
    PARTITION_ARGUMENT,
    NotPlain,
    Reader,
    Tally,
    is_simple,
    make_program,
)
from distributed.client.old_graphs import Call
from distributed.client.submission import Submitter
from distributed.client.tokens import general_token
from distributed.messages.client_to_scheduler import SHARED_FROM, TaskSpec
from distributed.messages.payload import Arguments, FunctionBlob, size_of
from distributed.protocol.program import Program
from distributed.protocol.sizeof import sizeof

LARGE_CONSTANT = 100_000
"""Bytes from which on a constant that several tasks hold is a task of its own, sent once and then moved as data."""
WORTH_NAMING = 1_000_000
PLAIN_DATA = Program((), (), "data")
"""Calls nothing: its last slot is the task's own value."""


class TaskMaker:
    """Makes the tasks of one graph.

    Parameters
    ----------
    submitter : Submitter
    spec : module
        ``dask._task_spec``.
    graph : dict
        Nodes by key, all of them.
    """

    def __init__(self, submitter: Submitter, spec: Any, graph: Mapping[Any, Any]) -> None:
        self._submitter = submitter
        self._spec = spec
        self._graph = graph
        self._programs: dict[tuple[Any, ...], FunctionBlob | None] = {}
        self._plain_data: FunctionBlob | None = None
        self._functions: dict[int, FunctionBlob] = {}  # by id: the graph keeps them alive
        self._keys = OwnKeys()
        self._n_tasks = 0
        self.blobs: dict[bytes, FunctionBlob] = {}
        self.largest: dict[int, tuple[int, Any, Any]] = {}  # by id: bytes, key, object
        tally = Tally(spec, graph.values())
        self.large_constants: list[TaskSpec] = []
        self._reader = Reader(spec, tally, self._take_out(tally))

    def _take_out(self, tally: Tally) -> dict[int, Any]:
        """Large constants that several tasks hold become tasks, named by their content."""
        keys: dict[int, Any] = {}
        for obj in tally.repeated():
            if isinstance(obj, type) or sizeof(obj) <= LARGE_CONSTANT:
                continue
            key = f"{type(obj).__name__}-{general_token(obj)}"
            keys[id(obj)] = key
            self.large_constants.append(self._data(key, obj))
        return keys

    def task(self, key: Any) -> TaskSpec:
        """The task of a key of the graph. Raises ``SerializationError`` when it cannot be pickled."""
        node = self._graph[key]
        spec = self._spec
        own_key = as_key(key)
        kind = type(node)
        self._n_tasks += 1
        if kind is Call:
            return self._call(own_key, node)
        if kind is spec.Alias:
            return TaskSpec(own_key, dependencies=(as_key(node.target),))  # an alias
        if kind is spec.DataNode:
            return self._data(own_key, node.value)
        if kind is spec.Task:
            task = self._of_program(own_key, node)
            if task is not None:
                return task
        arguments = self._submitter.arguments(node, False)
        self._weigh(arguments, key, node)
        return TaskSpec(own_key, b"", arguments, tuple([as_key(d) for d in sorted(node.dependencies, key=repr)]))

    def _call(self, key: Key, call: Call) -> TaskSpec:
        number = id(call.func)
        blob = self._functions.get(number)
        if blob is None:
            blob = self._functions[number] = self._submitter.functions.blob(call.func)
            self.blobs[blob.digest] = blob
        arguments = self._submitter.arguments((call.args, {}), False)
        task = TaskSpec(key, blob.digest, arguments, self._keys.keys(call.dependencies))
        place = getattr(call.func, PARTITION_ARGUMENT, None)
        if type(place) is int:
            task.partition = call.args[place]
        return task

    def _of_program(self, key: Key, node: Any) -> TaskSpec | None:
        reader = self._reader
        try:
            reader.read(node)
        except (NotPlain, RecursionError):
            return None
        code = (*reader.code, len(reader.values))
        blob = self._programs.get(code)
        if blob is None and code not in self._programs:
            blob = self._programs[code] = self._new_program()
        if blob is None:
            return None
        if blob.digest not in self.blobs:
            self.blobs[blob.digest] = blob
        values = reader.values
        arguments = self._arguments(tuple(values), key) if values else None
        task = TaskSpec(
            key, blob.digest, arguments, self._keys.once(tuple([as_key(target) for target in reader.inputs]))
        )
        task.partition = reader.partition
        return task

    def _new_program(self) -> FunctionBlob | None:
        if len(self._programs) > max(MANY_PROGRAMS, self._n_tasks // 4):
            return None
        program = make_program(self._reader)
        return None if program is None else self._submitter.functions.blob(program)

    def _arguments(self, values: tuple[Any, ...], key: Key) -> Arguments:
        if all(map(is_simple, values)):
            return pickle.dumps(values, 5)
        arguments = self._submitter.arguments(values, False)
        self._weigh(arguments, key, values)
        return arguments

    def _data(self, key: Key, value: Any) -> TaskSpec:
        if self._plain_data is None:
            self._plain_data = self._submitter.functions.blob(PLAIN_DATA)
            self.blobs[self._plain_data.digest] = self._plain_data
        blob = self._plain_data
        arguments = self._submitter.arguments((value,), False)
        self._weigh(arguments, key, (value,))
        return TaskSpec(key, blob.digest, arguments)

    # -- what hurts ----------------------------------------------------------------------------------------------------

    def _weigh(self, arguments: Arguments, key: Any, holder: Any) -> None:
        nbytes = size_of(arguments)
        if nbytes > WORTH_NAMING and len(self.largest) < 100:
            found = max(holder, key=sizeof) if type(holder) is tuple else holder
            self.largest[id(found)] = (nbytes, key, found)

    def describe_large(self) -> str:
        """The three largest things in the graph: what the user calls them, type, size and task. Empty when none is."""
        ranking = sorted(self.largest.values(), key=lambda entry: -entry[0])
        texts = []
        for nbytes, key, obj in itertools.islice(ranking, 3):
            name = variable_name(obj)
            kind = f"{type(obj).__module__.partition('.')[0]}.{type(obj).__name__}"
            texts.append(f"{f'{name!r}, ' if name else ''}a {kind} of {format_bytes(nbytes)} in task {key!r}")
        return "; ".join(texts)


class OwnKeys:
    """The house's keys of dependencies; many equal ones are the same tuple, so that they are sent once."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[Key, ...]] = {}
        self._tuples: dict[tuple[Key, ...], tuple[Key, ...]] = {}

    def keys(self, dependencies: tuple[Any, ...]) -> tuple[Key, ...]:
        """Of users' keys, in a tuple that lives as long as this."""
        if len(dependencies) < SHARED_FROM:
            return tuple([as_key(key) for key in dependencies])
        found = self._by_id.get(id(dependencies))
        if found is None:
            found = self._by_id[id(dependencies)] = tuple([as_key(key) for key in dependencies])
        return found

    def once(self, dependencies: tuple[Key, ...]) -> tuple[Key, ...]:
        """Of our own keys."""
        return dependencies if len(dependencies) < SHARED_FROM else self._tuples.setdefault(dependencies, dependencies)


def variable_name(obj: Any) -> str:
    """What the nearest function of the user's, from the caller's up, calls ``obj``; empty when none holds it."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module not in ("distributed", "dask", "threading", "concurrent"):
            for name, value in [*frame.f_locals.items(), *frame.f_globals.items()]:
                if value is obj and not name.startswith("_"):
                    return str(name)
        frame = frame.f_back
    return ""
