"""From dask graphs to tasks: ``get``, ``compute``, ``persist``. dask is loaded here, when the first graph comes.

The graph is materialised, converted from its old forms, culled to what is asked for, and ordered, all in the
client: the
scheduler sees opaque tasks. A plain call becomes a function (sent once) with arguments, as ``submit`` would make
it; anything
with nested structure travels as the pickle of dask's own node.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from distributed.base.keys import Key, as_key
from distributed.client import current
from distributed.client.future_table import FutureState, run_ready
from distributed.client.futures import Future
from distributed.client.old_graphs import Call, CallReader
from distributed.client.options import make_options
from distributed.client.ordering import ordered
from distributed.client.outgoing import Part, Submission
from distributed.client.session import Session
from distributed.client.submission import Submitter, take_first
from distributed.messages.client_to_scheduler import SHARED_FROM, TaskOptions, TaskSpec
from distributed.messages.payload import FunctionBlob
from distributed.protocol.serialize import TaskInput, TaskInputs, pack_error

PART = 1000
PARTITION_ARGUMENT = "__partition_argument__"
"""A function with this attribute takes one partition out of a shuffle: the place of the partition's number among its
arguments. The scheduler lets such tasks run where their partition lies."""


def dask_module(name: str) -> Any:
    """A module of dask, loaded now."""
    return importlib.import_module(name)


def flatten(keys: Any) -> Iterator[Any]:
    """The keys in nested lists."""
    if isinstance(keys, list):
        for part in keys:
            yield from flatten(part)
    else:
        yield keys


def nested(keys: Any, values: Mapping[Any, Any]) -> Any:
    """The values in the nesting of the keys."""
    return [nested(part, values) for part in keys] if isinstance(keys, list) else values[keys]


def materialize(dsk: Any) -> tuple[dict[Any, Any], dict[str, dict[Any, Any]]]:
    """``(graph, annotations)`` of a dict, HighLevelGraph or expression; annotations are ``{name: {key: value}}``."""
    annotations: dict[str, dict[Any, Any]] = {}
    if type(dsk).__name__ == "HighLevelGraph" and hasattr(dsk, "layers"):
        dsk = dask_module("dask._expr").HLGExpr(dsk)
    if hasattr(dsk, "__dask_graph__"):
        graph = dsk.__dask_graph__()
        if hasattr(dsk, "__dask_annotations__"):
            annotations = dsk.__dask_annotations__() or {}
        graph = dask_module("dask.utils").ensure_dict(graph)
    elif isinstance(dsk, Mapping):
        graph = dict(dsk)
    else:
        raise TypeError(f"a graph must be a dict, a HighLevelGraph or a dask expression, not {type(dsk).__name__}")
    return graph, annotations


def converted(graph: dict[Any, Any], spec: Any) -> dict[Any, Any]:
    """The graph without old forms: plain calls, and dask's own nodes."""
    read = CallReader(graph).read
    nodes: dict[Any, Any] = {}
    rest: dict[Any, Any] = {}
    for key, task in graph.items():
        call = read(task)
        if call is None:
            rest[key] = task
        else:
            nodes[key] = call
    if rest:
        nodes |= spec.convert_legacy_graph(rest, graph.keys())
    return nodes


def cull(graph: dict[Any, Any], wanted: Iterable[Any]) -> dict[Any, Any]:
    """The nodes that the wanted keys need."""
    kept: dict[Any, Any] = {}
    seen: set[int] = set()
    stack = [key for key in wanted if key in graph]
    while stack:
        key = stack.pop()
        if key in kept:
            continue
        node = graph[key]
        kept[key] = node
        dependencies = node.dependencies
        if len(dependencies) >= SHARED_FROM:
            if id(dependencies) in seen:
                continue
            seen.add(id(dependencies))
        stack.extend([d for d in dependencies if d in graph and d not in kept])
    return kept


class GraphSubmitter:
    """Sends graphs of one client."""

    def __init__(self, client: Any, session: Session, submitter: Submitter) -> None:
        self.client = client
        self.session = session
        self.submitter = submitter

    def submit(
        self, dsk: Any, keys: Iterable[Any], options: Mapping[str, Any], fifo_timeout_s: float, actors: Any = None
    ) -> dict[Any, Future]:
        """A future for each key, the graph on its way."""
        session = self.session
        session.check_open()
        wanted = list(dict.fromkeys(keys))
        annotations = dask_module("dask").get_annotations()
        try:
            graph, by_key = materialize(dsk)
            spec = dask_module("dask._task_spec")
            graph = cull(converted(graph, spec), wanted)
            order = ordered(graph)
        except TypeError:
            raise
        except Exception as e:
            return self._all_failed(wanted, e)
        chooser = _Options(options, annotations, by_key, actors)
        blobs: dict[bytes, FunctionBlob] = {}
        tasks: list[TaskSpec] = []
        nbytes = 0
        own = _OwnKeys()
        try:
            for key in order:
                task = self._task(spec, key, graph[key], blobs, own)
                task.options = chooser.place(key)
                if task.payload is not None:
                    nbytes += task.payload.nbytes
                tasks.append(task)
        except Exception as e:
            return self._all_failed(wanted, e)
        self.submitter.warn_if_large(nbytes)
        return self._queue(wanted, graph, tasks, blobs, chooser.options, fifo_timeout_s, nbytes)

    def _queue(
        self,
        wanted: list[Any],
        graph: dict[Any, Any],
        tasks: list[TaskSpec],
        blobs: dict[bytes, FunctionBlob],
        options: list[TaskOptions],
        fifo_timeout_s: float,
        nbytes: int,
    ) -> dict[Any, Future]:
        session = self.session
        parent = current.current_task_key()
        submission = Submission(options, fifo_timeout_s, None if parent is None else as_key(parent))
        futures: dict[Any, Future] = {}
        own = {as_key(key): key for key in wanted if key in graph}
        with session.table.lock:
            for own_key, key in own.items():
                state, _ = session.table.hold(own_key)
                futures[key] = Future(key, self.client, state)
            for start in range(0, len(tasks), PART):
                part = tasks[start : start + PART]
                part_blobs = tuple([blobs[name] for name in {t.function for t in part if t.function}])
                last = start + PART >= len(tasks)
                part_wanted = [task.key for task in part if task.key in own]
                share = nbytes * len(part) // len(tasks)
                session.outgoing.submit_part(Part(submission, part, part_blobs, last, part_wanted, share))
        session.wake()
        for key in wanted:  # those that the graph takes for granted: persisted data, futures
            if key not in futures:
                futures[key] = Future(key, self.client)
        session.make_room()
        return futures

    def _all_failed(self, wanted: list[Any], error: Exception) -> dict[Any, Future]:
        """The graph cannot be sent: that is the error of everything asked for."""
        info = pack_error(error)
        futures = {}
        for key in wanted:
            state = FutureState(as_key(key))
            state.count = 1
            run_ready(self.session.table.fail_here(state, info))
            futures[key] = Future(key, self.client, state)
        return futures

    # -- one node ------------------------------------------------------------------------------------------------------

    def _task(self, spec: Any, key: Any, node: Any, blobs: dict[bytes, FunctionBlob], own: _OwnKeys) -> TaskSpec:
        own_key = as_key(key)
        kind = type(node)
        if kind is Call:
            return self._call(own_key, node.func, node.args, {}, own.keys(node.dependencies), blobs)
        if kind is spec.Alias:
            return TaskSpec(own_key, dependencies=(as_key(node.target),), alias=True)
        if kind is spec.DataNode:
            blob = self._blob(take_first, blobs)
            return TaskSpec(own_key, blob.digest, self._payload((([node.value],), {})))
        if kind is spec.Task:
            call = _plain_call(spec, node)
            if call is not None:
                args, kwargs, dependencies = call
                return self._call(own_key, node.func, args, kwargs, own.once(dependencies), blobs)
        return TaskSpec(
            own_key, b"", self._payload(node), tuple([as_key(d) for d in sorted(node.dependencies, key=repr)])
        )

    def _call(
        self,
        key: Key,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dependencies: tuple[Key, ...],
        blobs: dict[bytes, FunctionBlob],
    ) -> TaskSpec:
        task = TaskSpec(key, self._blob(func, blobs).digest, self._payload((args, kwargs)), dependencies)
        place = getattr(func, PARTITION_ARGUMENT, None)
        if type(place) is int:
            task.partition = args[place]
        return task

    def _payload(self, content: Any) -> Any:
        return self.submitter.payload(content, False)

    def _blob(self, func: Any, blobs: dict[bytes, FunctionBlob]) -> FunctionBlob:
        blob = self.submitter.functions.blob(func)
        return blobs.setdefault(blob.digest, blob)

    # -- collections ---------------------------------------------------------------------------------------------------

    def compute(
        self,
        collections: Any,
        optimize_graph: bool,
        traverse: bool,
        options: Mapping[str, Any],
        fifo: float,
        actors: Any,
    ) -> tuple[Any, bool]:
        """One future for each collection, other things as they are; and whether a single thing was given."""
        base = dask_module("dask.base")
        single = not isinstance(collections, (list, tuple, set, frozenset))
        items: list[Any] = [collections] if single else list(collections)
        if traverse:
            delayed = dask_module("dask.delayed").delayed
            builtin = (list, set, tuple, dict, Iterator)
            items = [delayed(item) if isinstance(item, builtin) else item for item in items]
        variables = [item for item in items if base.is_dask_collection(item)]
        if not variables:
            return items, single
        expr = base.collections_to_expr(variables, optimize_graph)
        expr = dask_module("dask._expr").FinalizeCompute(expr).optimize()
        keys = [next(flatten(part)) for part in _as_lists(expr.__dask_keys__())]
        futures = self.submit(expr, keys, options, fifo, actors)
        left = iter(keys)
        return [futures[next(left)] if base.is_dask_collection(item) else item for item in items], single

    def persist(
        self, collections: Any, optimize_graph: bool, options: Mapping[str, Any], fifo: float, actors: Any
    ) -> Any:
        """The same collections on top of futures."""
        base = dask_module("dask.base")
        single = not isinstance(collections, (list, tuple, set, frozenset))
        items: list[Any] = [collections] if single else list(collections)
        if not all(base.is_dask_collection(item) for item in items):
            raise TypeError("persist takes dask collections; for other objects see client.scatter")
        if not items:
            return []
        expr = base.collections_to_expr(items, optimize_graph).optimize()
        per_item = [list(flatten(_as_lists(part))) for part in expr.__dask_keys__()]
        futures = self.submit(expr, [key for keys in per_item for key in keys], options, fifo, actors)
        rebuilt = []
        for item, keys in zip(items, per_item, strict=True):
            rebuild, state = item.__dask_postpersist__()
            rebuilt.append(rebuild({key: futures[key] for key in keys}, *state))
        return rebuilt[0] if single else rebuilt


class _OwnKeys:
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


def _as_lists(keys: Any) -> Any:
    return keys if isinstance(keys, list) else [keys]


def _plain_call(spec: Any, node: Any) -> tuple[tuple[Any, ...], dict[str, Any], tuple[Key, ...]] | None:
    """``(args, kwargs, dependencies)`` of a node whose arguments are values, references and lists of these; None for
    other nodes."""
    places: dict[Any, TaskInput] = {}
    # What dask makes of a list in a legacy graph.
    as_container, a_list = getattr(spec, "_identity_cast", None), {"typ": list}

    def fill(arg: Any) -> Any:
        if isinstance(arg, spec.TaskRef):
            target = arg.key
        elif type(arg) is spec.Alias:
            target = arg.target
        elif type(arg) is spec.List or (type(arg) is spec.Task and arg.func is as_container and arg.kwargs == a_list):
            parts = [fill(part) for part in arg.args]
            return as_run(parts) if len(parts) >= SHARED_FROM else parts
        elif isinstance(arg, spec.GraphNode):
            raise _Nested
        else:
            return arg
        place = places.get(target)
        if place is None:
            place = places[target] = TaskInput(len(places))
        return place

    try:
        args = tuple([fill(arg) for arg in node.args])
        kwargs = {name: fill(arg) for name, arg in node.kwargs.items()}
    except _Nested:
        return None
    return args, kwargs, tuple([as_key(target) for target in places])


def as_run(parts: list[Any]) -> Any:
    """The parts as one placeholder, if they stand for dependencies that follow one another."""
    first = parts[0]
    if type(first) is not TaskInput:
        return parts
    start = first.index
    for index, part in enumerate(parts, start):
        if type(part) is not TaskInput or part.index != index:
            return parts
    return TaskInputs(start, start + len(parts))


class _Nested(Exception):
    pass


class _Options:
    """Which options each key of a graph has: keywords of the call, layer annotations, annotations around the call."""

    def __init__(
        self,
        keywords: Mapping[str, Any],
        around: Mapping[str, Any],
        by_key: Mapping[str, Mapping[Any, Any]],
        actors: Any,
    ) -> None:
        self.keywords = {name: value for name, value in keywords.items() if value not in (None, False, 0)}
        self.around = {name: value for name, value in around.items() if not callable(value)}
        self.around_per_key = {name: value for name, value in around.items() if callable(value)}
        self.by_key = by_key
        self.actors = set(flatten(list(actors))) if isinstance(actors, (list, tuple, set)) else bool(actors)
        self.options: list[TaskOptions] = []
        self._known: dict[str, int] = {}
        self._uniform: int | None = None
        if not by_key and not self.around_per_key and not isinstance(self.actors, set):
            self._uniform = self._index({**self.around, **self.keywords})

    def place(self, key: Any) -> int:
        """Index into :attr:`options`."""
        if self._uniform is not None:
            return self._uniform
        merged = dict(self.around)
        for name, call in self.around_per_key.items():
            merged[name] = call(key)
        for name, values in self.by_key.items():
            if key in values:
                merged[name] = values[key]
        merged.update(self.keywords)
        if isinstance(self.actors, set) and key in self.actors:
            merged["actor"] = True
        return self._index(merged)

    def _index(self, merged: dict[str, Any]) -> int:
        text = repr(sorted(merged.items(), key=lambda item: item[0]))
        known = self._known.get(text)
        if known is not None:
            return known
        actor = merged.pop("actor", self.actors if isinstance(self.actors, bool) else False)
        options = make_options(annotations=merged, actor=actor)
        if options is None:
            index = 0
            if not self.options:
                # Index 0 stays the default, also when others follow.
                self._known[text] = 0
                return 0
        else:
            if not self.options:
                self.options.append(TaskOptions())
            self.options.append(options)
            index = len(self.options) - 1
        self._known[text] = index
        return index
