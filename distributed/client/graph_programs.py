"""From nodes of a dask graph to programs: what tasks of the same shape share is found, and travels once. Pure.

Each node is read into a *code*, a list of small integers that says which functions are called with which constants,
values and inputs. Nodes of equal code are tasks of one :class:`~distributed.protocol.program.Program`. A constant is
what several nodes hold, the very same object; values that belong to one node travel with its task.

Codes: ``CALL, function, positional arguments, number of names, names and keyword arguments...`` where a function or
argument is again a code: ``VALUE`` (the next of the task's own), ``CALL`` (what another call returns) or a number made
of what is pointed at, times four, plus one of ``INPUT``, ``CONSTANT``, ``RESULT``.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterable, Mapping
from typing import Any

from distributed.protocol.functions import is_by_name
from distributed.protocol.program import Program, Step

VALUE, CALL = -1, -2
INPUT, CONSTANT, RESULT = 1, 2, 3

SIMPLE = frozenset({type(None), bool, int, float, complex, str, bytes, slice, type(...)})
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)
MANY_ITEMS = 16
"""A tuple with more items is shared if several tasks hold it; shorter ones are cheap to send."""
PARTITION_ARGUMENT = "__partition_argument__"
"""A function with this attribute takes one partition out of a shuffle: the place of the partition's number among its
arguments. The scheduler lets such tasks run where their partition lies."""
MANY_PROGRAMS = 64
"""From then on programs must have four tasks each on average, else nodes travel as they are."""


class NotPlain(Exception):
    """This node has something in it that a program does not do."""


class Tally:
    """How many tasks hold each object. The graph keeps them all alive, so that an ``id`` names one.

    Parameters
    ----------
    spec : module
        ``dask._task_spec``.
    """

    def __init__(self, spec: Any, nodes: Iterable[Any]) -> None:
        self.subgraph = spec._execute_subgraph
        self.task_type: Any = spec.Task
        self.node_type: type = spec.GraphNode
        self.reference_type: type = spec.TaskRef
        self.counts: dict[int, int] = {}
        self.objects: dict[int, Any] = {}
        for node in nodes:
            self._count(node)

    def _count(self, node: Any) -> None:
        if not isinstance(node, self.task_type):  # an alias, plain data, a call of the old form
            return
        args = node.args
        note = self._note
        function = node.func
        note(function)
        while type(function) is functools.partial:
            for part in (function.func, *function.args, *function.keywords.values()):
                if type(part) not in SIMPLE:
                    note(part)
            function = function.func
        subgraph = node.func is self.subgraph
        for place, arg in enumerate(args):
            if subgraph and place < 3:
                if place == 0:
                    for inner in arg.values():
                        self._count(inner)
                continue
            if isinstance(arg, self.node_type):
                self._count(arg)
            elif type(arg) not in SIMPLE and not isinstance(arg, self.reference_type):
                note(arg)
        for arg in node.kwargs.values():
            if isinstance(arg, self.node_type):
                self._count(arg)
            elif type(arg) not in SIMPLE and not isinstance(arg, self.reference_type):
                note(arg)

    def _note(self, obj: Any) -> None:
        number = id(obj)
        counts = self.counts
        if number in counts:
            counts[number] += 1
        else:
            counts[number] = 1
            self.objects[number] = obj

    def repeated(self) -> Iterable[Any]:
        """What more than one call holds."""
        objects = self.objects
        return [objects[number] for number, count in self.counts.items() if count > 1]


class Reader:
    """Reads nodes into codes.

    Parameters
    ----------
    spec : module
        ``dask._task_spec``.
    tally : Tally
    replaced : mapping
        Key of the task that stands for a large constant, by the constant's ``id``.
    """

    def __init__(self, spec: Any, tally: Tally, replaced: Mapping[int, Any]) -> None:
        self.task_type = spec.Task
        self.alias_type = spec.Alias
        self.data_type = spec.DataNode
        self.container_type = spec.NestedContainer
        self.node_type = spec.GraphNode
        self.reference_type = spec.TaskRef
        self.subgraph = spec._execute_subgraph
        self.counts = tally.counts
        self.replaced = replaced
        self.constants: dict[int, Any] = {}
        self._is_constant: dict[int, bool] = {}
        self._partition_places: dict[int, int] = {}
        self.code: list[Any] = []
        self.values: list[Any] = []
        self.inputs: dict[Any, int] = {}
        self.used: dict[int, None] = {}
        self.partition = -1
        self.n_results = 0

    def read(self, node: Any) -> None:
        """Fill ``code``, ``values``, ``inputs`` (by key) and ``partition``. Raises :class:`NotPlain`."""
        self.code, self.values, self.inputs, self.used = [], [], {}, {}
        self.n_results, self.partition = 0, -1
        self._call(node, None)

    def _call(self, node: Any, scope: _Scope | None) -> None:
        kind = type(node)
        if kind is not self.task_type and not issubclass(kind, self.container_type):
            raise NotPlain
        function = node.func
        if function is self.subgraph:
            self._subgraph(node, scope)
            return
        self.code.append(CALL)
        if type(function) is functools.partial:
            args = (*function.args, *node.args)
            kwargs = {**function.keywords, **node.kwargs}
            function = function.func
        else:
            args, kwargs = node.args, node.kwargs
        self._function(function, args)
        self.code.append(len(args))
        for arg in args:
            self._argument(arg, scope)
        self.code.append(len(kwargs))
        for name, arg in kwargs.items():
            self.code.append(name)
            self._argument(arg, scope)
        self.n_results += 1

    def _function(self, function: Any, args: tuple[Any, ...]) -> None:
        self._plain(function)
        if self.code[-1] == VALUE and is_coroutine_function(function):
            raise NotPlain
        number = id(function)
        place = self._partition_places.get(number)
        if place is None:
            place = getattr(function, PARTITION_ARGUMENT, -1)
            self._partition_places[number] = place = place if type(place) is int else -1
        if place >= 0 and type(args[place]) is int:
            self.partition = args[place]

    def _subgraph(self, node: Any, scope: _Scope | None) -> None:
        """Several nodes fused into one: ``(nodes by key, key of the result, keys of inputs, *inputs)``."""
        if node.kwargs or len(node.args) < 3:
            raise NotPlain
        inner, target, names, *outer = node.args
        self._reference(target, _Scope(inner, dict(zip(names, outer, strict=True)), scope))

    def _reference(self, key: Any, scope: _Scope | None) -> None:
        """The value of ``key`` in ``scope``: a result that is there, one to be made now, or an input of the task."""
        if scope is None:
            inputs = self.inputs
            self.code.append(inputs.setdefault(key, len(inputs)) * 4 + INPUT)
        elif key in scope.given:
            self._argument(scope.given[key], scope.outer)
        elif key in scope.results:
            self.code.append(scope.results[key] * 4 + RESULT)
        else:
            inner = scope.nodes.get(key)
            if inner is None:
                raise NotPlain
            if type(inner) is self.alias_type:
                self._reference(inner.target, scope)
            elif type(inner) is self.data_type:
                self._plain(inner.value)
            else:
                self._call(inner, scope)
                scope.results[key] = self.n_results - 1

    def _argument(self, arg: Any, scope: _Scope | None) -> None:
        kind = type(arg)
        if kind in SIMPLE:
            self.code.append(VALUE)
            self.values.append(arg)
        elif isinstance(arg, self.reference_type):
            self._reference(arg.key, scope)
        elif isinstance(arg, self.node_type):
            if kind is self.alias_type:
                self._reference(arg.target, scope)
            elif kind is self.data_type:
                self._plain(arg.value)
            else:
                self._call(arg, scope)
        else:
            self._plain(arg)

    def _plain(self, obj: Any) -> None:
        number = id(obj)
        known = self._is_constant.get(number)
        if known is None:
            known = self._is_constant[number] = is_constant(obj, self.counts.get(number, 0))
            if known:
                self.constants[number] = obj  # kept, so that its id stays its own
        if number in self.replaced:
            self._reference(self.replaced[number], None)
        elif known:
            self.used[number] = None
            self.code.append(number * 4 + CONSTANT)
        else:
            self.code.append(VALUE)
            self.values.append(obj)


class _Scope:
    """Inside of a fused node: its nodes, what comes from outside, and which results are there already."""

    __slots__ = ("given", "nodes", "outer", "results")

    def __init__(self, nodes: Mapping[Any, Any], given: dict[Any, Any], outer: _Scope | None) -> None:
        self.nodes = nodes
        self.given = given
        self.outer = outer
        self.results: dict[Any, int] = {}


def is_simple(obj: Any) -> bool:
    """Whether plain pickle is good for ``obj``: it names nothing, and a tuple is short."""
    kind = type(obj)
    return kind in SIMPLE or (kind is tuple and len(obj) <= MANY_ITEMS and set(map(type, obj)) <= SIMPLE)


def is_constant(obj: Any, count: int) -> bool:
    """Whether tasks share ``obj``, which so many of them hold: not what is cheap to send, and not what changes by use
    (generators of random numbers, iterators)."""
    kind = type(obj)
    if is_simple(obj):
        return False
    if isinstance(obj, _FUNCTIONS) and is_by_name(obj):
        return True
    return (
        count > 1
        and not kind.__module__.startswith(("numpy.random", "random", "_io"))
        and not hasattr(kind, "__next__")
    )


def is_coroutine_function(function: Any) -> bool:
    """Whether calling ``function`` gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        vars(type(function)).get("__call__")  # of an object that is called
    )


def make_program(reader: Reader) -> Program | None:
    """The program of what was just read; None when it calls nothing, or coroutine functions, which need the loop."""
    builder = _Builder(tuple(reader.code), len(reader.values), len(reader.inputs), reader.used, reader.constants)
    slot, _ = builder.result(0)
    functions = [builder.own[step[0]] for step in builder.steps if step[0] < len(builder.own)]
    if slot != builder.first_result + len(builder.steps) - 1 or any(map(is_coroutine_function, functions)):
        return None
    name = getattr(functions[-1], "__name__", "") if functions else ""
    return Program(
        tuple(builder.own), with_drops(builder.steps, builder.first_result), name if type(name) is str else ""
    )


class _Builder:
    """Reads a code again, and gives each thing in it a slot."""

    def __init__(
        self, code: tuple[Any, ...], n_values: int, n_inputs: int, used: Iterable[int], constants: Mapping[int, Any]
    ) -> None:
        used = list(used)
        self.code = code
        self.own = [constants[number] for number in used]
        self.slot_of = {number: slot for slot, number in enumerate(used)}
        self.next_value = len(used)
        self.first_input = self.next_value + n_values
        self.first_result = self.first_input + n_inputs
        self.steps: list[tuple[int, tuple[int, ...], tuple[tuple[str, int], ...]]] = []

    def result(self, place: int) -> tuple[int, int]:
        """The slot of what begins at ``place`` of the code, and where the next thing begins."""
        code = self.code
        word = code[place]
        if word == VALUE:
            self.next_value += 1
            return self.next_value - 1, place + 1
        if word != CALL:
            kind, number = word % 4, word // 4
            if kind == INPUT:
                return self.first_input + number, place + 1
            return (self.slot_of[number] if kind == CONSTANT else self.first_result + number), place + 1
        function, place = self.result(place + 1)
        args, kwargs = [], []
        count, place = code[place], place + 1
        for _ in range(count):
            slot, place = self.result(place)
            args.append(slot)
        count, place = code[place], place + 1
        for _ in range(count):
            name = code[place]
            slot, place = self.result(place + 1)
            kwargs.append((name, slot))
        self.steps.append((function, tuple(args), tuple(kwargs)))
        return self.first_result + len(self.steps) - 1, place


def with_drops(
    steps: list[tuple[int, tuple[int, ...], tuple[tuple[str, int], ...]]], first_result: int
) -> tuple[Step, ...]:
    """The steps, each with the results that it is the last to read."""
    last: dict[int, int] = {}
    for number, (_, args, kwargs) in enumerate(steps):
        for slot in (*args, *[slot for _, slot in kwargs]):
            if slot >= first_result:
                last[slot] = number
    drops: list[list[int]] = [[] for _ in steps]
    for slot, number in last.items():
        drops[number].append(slot)
    return tuple([(*step, tuple(drop)) for step, drop in zip(steps, drops, strict=True)])
