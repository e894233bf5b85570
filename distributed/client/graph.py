"""From dask graphs to tasks: ``get``, ``compute``, ``persist``. dask is loaded here, when the first graph comes.

The graph is materialised, converted from its old forms, culled to what is asked for, and ordered, all in the client:
the scheduler sees opaque tasks (``graph_tasks.py``). They leave in parts while later ones are still being made. Callers
on the client's loop get their futures at once; a thread does the work, and what is submitted meanwhile leaves after it.
"""

from __future__ import annotations

import contextvars
import gc
import importlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distributed.base.keys import Key, as_key
from distributed.client import current
from distributed.client.future_table import FutureState, run_ready
from distributed.client.futures import Future
from distributed.client.graph_annotations import GraphOptions, flatten, prepare_annotations
from distributed.client.graph_tasks import TaskMaker
from distributed.client.old_graphs import CallReader
from distributed.client.ordering import ordered
from distributed.client.outgoing import Part, Place, Submission
from distributed.client.session import Session
from distributed.client.submission import Submitter
from distributed.messages.client_to_scheduler import ReleaseKeys, TaskSpec, WantKeys
from distributed.messages.payload import size_of
from distributed.protocol.serialize import pack_error

FIRST_PART = 64
PART = 1000
"""Tasks of a graph that go on their way together; fewer at first, so that the first starts at once."""


MANY_OBJECTS = 100_000
"""So many new objects until cyclic garbage is looked for while a graph is prepared, instead of a few hundred."""

_preparing = 0
_usual_thresholds = (0, 0, 0)
_thresholds_lock = threading.Lock()


@contextmanager
def few_collections() -> Iterator[None]:
    """Inside the block, cyclic garbage is seldom looked for: a graph is a few dozen objects a task, which live until it
    has left, and to look at all of them again and again is a fifth of the work."""
    global _preparing, _usual_thresholds
    with _thresholds_lock:
        if not _preparing:
            _usual_thresholds = gc.get_threshold()
            if 0 < _usual_thresholds[0] < MANY_OBJECTS:
                gc.set_threshold(MANY_OBJECTS, *_usual_thresholds[1:])
        _preparing += 1
    try:
        yield
    finally:
        with _thresholds_lock:
            _preparing -= 1
            if not _preparing:
                gc.set_threshold(*_usual_thresholds)


def dask_module(name: str) -> Any:
    """A module of dask, loaded now."""
    return importlib.import_module(name)


def nested(keys: Any, values: Mapping[Any, Any]) -> Any:
    """The values in the nesting of the keys."""
    return [nested(part, values) for part in keys] if isinstance(keys, list) else values[keys]


def check_graph(dsk: Any) -> None:
    """Raise ``TypeError`` when ``dsk`` is none of the forms that a graph has."""
    if not isinstance(dsk, Mapping) and not hasattr(dsk, "__dask_graph__"):
        raise TypeError(f"a graph must be a dict, a HighLevelGraph or a dask expression, not {type(dsk).__name__}")


def materialize(dsk: Any) -> tuple[dict[Any, Any], dict[str, dict[Any, Any]]]:
    """``(graph, annotations)`` of a dict, HighLevelGraph or expression; annotations are ``{name: {key: value}}``."""
    if type(dsk).__name__ == "HighLevelGraph" and hasattr(dsk, "layers"):
        dsk = dask_module("dask._expr").HLGExpr(dsk)
    if not hasattr(dsk, "__dask_graph__"):
        return dict(dsk), {}
    with prepare_annotations(without_culling(dsk)) as expr:
        graph = expr.__dask_graph__()
        annotations = expr.__dask_annotations__() if hasattr(expr, "__dask_annotations__") else None
    return dask_module("dask.utils").ensure_dict(graph), annotations or {}


def without_culling(expr: Any) -> Any:
    """The expression of delayed calls without dask's own culling, which is all that dask does to them and takes time
    with the square of their number: graphs are culled here anyway."""
    if type(expr).__name__ != "_HLGExprSequence" or dask_module("dask.config").get("optimization.fuse.delayed", False):
        return expr
    culls = dask_module("dask.delayed").optimize
    operands = expr.operands
    if not all(getattr(part, "low_level_optimizer", None) is culls for part in operands):
        return expr
    plain = [
        dask_module("dask._expr").HLGExpr(part.hlg, None, part.__dask_keys__(), part.postcompute) for part in operands
    ]
    return type(expr)(*plain)


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
    stack = [key for key in wanted if key in graph]
    while stack:
        key = stack.pop()
        if key in kept:
            continue
        node = graph[key]
        kept[key] = node
        stack.extend([d for d in node.dependencies if d in graph and d not in kept])
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
        """A future for each key, the graph on its way.

        What is wrong with the graph (it cannot be materialised, ordered, pickled) is the error of each of them. Raises
        ``TypeError`` when ``dsk`` is no graph, or a key no key.
        """
        self.session.check_open()
        check_graph(dsk)
        parent = current.current_task_key()
        job = _GraphJob(self, dsk, list(dict.fromkeys(keys)), options, fifo_timeout_s, actors, parent)
        if self.session.on_loop_thread():
            job.hold()
            futures = job.futures
            job.place = self.session.outgoing.reserve()
            context = contextvars.copy_context()
            self.session.loop.run_in_executor(None, context.run, job.run)
            return futures
        job.run()
        return job.futures

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
        parts = expr.operands if type(expr).__name__ == "_ExprSequence" else [None] * len(items)
        rebuilt = []
        for item, part, keys in zip(items, parts, per_item, strict=True):
            own = {key: futures[key] for key in keys}
            if type(part).__name__ == "CompositeExpr":
                rebuilt.append(base._rebuild_composite_collection(item, part, own, cull_to_child_keys=True))
            else:
                rebuild, state = item.__dask_postpersist__()
                rebuilt.append(rebuild(own, *state))
        return rebuilt[0] if single else rebuilt


def _as_lists(keys: Any) -> Any:
    return keys if isinstance(keys, list) else [keys]


class _Forgotten(Exception):
    """The session ended while a graph was under way; its futures have been told."""


class _GraphJob:
    """One graph on its way: made by the caller, done in its thread or in one of its own."""

    def __init__(
        self,
        owner: GraphSubmitter,
        dsk: Any,
        wanted: list[Any],
        options: Mapping[str, Any],
        fifo_timeout_s: float,
        actors: Any,
        parent: Any,
    ) -> None:
        self.session = owner.session
        self.client = owner.client
        self.submitter = owner.submitter
        self.dsk = dsk
        self.own = {key: as_key(key) for key in wanted}
        self.options = options
        self.around = dask_module("dask").get_annotations()
        self.actors = actors
        self.fifo_timeout_s = fifo_timeout_s
        self.parent = None if parent is None else as_key(parent)
        self.place: Place | None = None
        self.futures: dict[Any, Future] = {}
        self.new: dict[Key, FutureState] = {}
        self.epoch = self.session.outgoing.epoch
        GraphOptions(options, self.around, {}, actors)  # what is wrong with them is the caller's to hear

    def hold(self) -> None:
        """Make the futures."""
        table = self.session.table
        self.session.release_dropped()
        with table.lock:
            for key, own_key in self.own.items():
                state, new = table.hold(own_key)
                if new:
                    self.new[own_key] = state
                self.futures[key] = Future(key, self.client, state)

    def run(self) -> None:
        """Prepare the graph and send it, in parts."""
        outgoing = self.session.outgoing
        with outgoing.at(self.place), few_collections():
            try:
                self._run()
            except _Forgotten:
                pass
            except Exception as error:
                self._fail(error)
            finally:
                if self.place is not None:
                    self.futures = {}  # those that nobody else holds are given up with what is sent now
                    outgoing.complete(self.place)
                    self.session.wake()

    def _run(self) -> None:
        graph, by_key = materialize(self.dsk)
        self.dsk = None
        spec = dask_module("dask._task_spec")
        graph = cull(converted(graph, spec), self.own)
        order = ordered(graph)
        for key in graph:
            as_key(key)
        maker = TaskMaker(self.submitter, spec, graph)
        chooser = GraphOptions(self.options, self.around, by_key, self.actors)
        if not self.futures:
            self.hold()
        self._want_known(graph)
        self._send(order, maker, chooser)

    def _want_known(self, graph: Mapping[Any, Any]) -> None:
        """What is wanted and not in the graph must be known already: persisted data, futures."""
        known = [own_key for key, own_key in self.own.items() if key not in graph and own_key in self.new]
        if known:
            self.session.post(WantKeys(known))

    def _send(self, order: list[Any], maker: TaskMaker, chooser: GraphOptions) -> None:
        session = self.session
        submission = Submission(chooser.options, self.fifo_timeout_s, self.parent)
        wanted = set(self.own.values())
        tasks = maker.large_constants
        sent: list[Key] = []
        total = 0
        size = FIRST_PART
        try:
            for number, key in enumerate(order, 1):
                task = maker.task(key)
                task.options = chooser.place(key)
                tasks.append(task)
                if len(tasks) >= size and number < len(order):
                    total += self._send_part(submission, tasks, maker, wanted, sent, last=False)
                    tasks, size = [], PART
                    session.make_room()
        except _Forgotten:
            raise
        except BaseException:
            self._send_part(submission, [], maker, wanted, sent, last=True)
            session.post(ReleaseKeys(sent))
            raise
        total += self._send_part(submission, tasks, maker, wanted, sent, last=True)
        session.make_room()
        self.submitter.warn_if_large(total, maker.describe_large)

    def _send_part(
        self,
        submission: Submission,
        tasks: list[TaskSpec],
        maker: TaskMaker,
        wanted: set[Key],
        sent: list[Key],
        last: bool,
    ) -> int:
        """Queue these tasks; returns how many bytes of values they have."""
        session = self.session
        nbytes = sum([size_of(task.payload) for task in tasks])
        blobs = tuple([maker.blobs[name] for name in dict.fromkeys([t.function for t in tasks if t.function])])
        part_wanted = [task.key for task in tasks if task.key in wanted]
        sent += part_wanted
        with session.table.lock:
            if session.outgoing.epoch != self.epoch:
                raise _Forgotten
            session.outgoing.submit_part(Part(submission, tasks, blobs, last, part_wanted, nbytes))
        session.wake()
        return nbytes

    def _fail(self, error: Exception) -> None:
        """The graph cannot be sent: that is the error of everything asked for that is not under way already."""
        info = pack_error(error)
        table = self.session.table
        if self.futures:
            with table.lock:  # out of the table: the same keys submitted later are new tasks
                for own_key, state in self.new.items():
                    if table.states.get(own_key) is state:
                        del table.states[own_key]
            states = list(self.new.values())
        else:
            states = []
            for key, own_key in self.own.items():
                state = FutureState(own_key)
                state.count = 1
                states.append(state)
                self.futures[key] = Future(key, self.client, state)
        for state in states:
            if not state.done:
                run_ready(table.fail_here(state, info))
