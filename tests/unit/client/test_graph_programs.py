"""Nodes of equal shape become one program; what they hold in common travels once."""

from __future__ import annotations

import functools
import operator
import random
from typing import Any

import dask._task_spec as spec
import pytest

from distributed.client.graph_programs import NotPlain, Reader, Tally, make_program
from distributed.protocol.program import Program


def add(x: Any, y: Any = 0, *more: Any) -> Any:
    return x + y + sum(more)


async def wait(x: int) -> int:
    return x


class Meta:
    """Something that tasks share."""


def programs(*nodes: Any) -> list[tuple[tuple[Any, ...], Program | None, list[Any], list[Any]]]:
    """Code, program, values and inputs of each node."""
    reader = Reader(spec, Tally(spec, nodes), {})
    found = []
    for node in nodes:
        reader.read(node)
        found.append((tuple(reader.code), make_program(reader), reader.values, list(reader.inputs)))
    return found


def result(node: Any, **inputs: Any) -> Any:
    _, program, values, keys = programs(node)[0]
    assert program is not None
    return program(values, [inputs[key] for key in keys])


def test_a_call() -> None:
    node = spec.Task("k", add, 1, spec.TaskRef("a"), y=spec.TaskRef("b"))
    assert programs(spec.Task("k", operator.sub, spec.TaskRef("a"), 1))[0][2:] == ([1], ["a"])
    with pytest.raises(TypeError, match="multiple values"):
        result(node, a=1, b=2)
    assert result(spec.Task("k", add, 1, y=spec.TaskRef("a")), a=5) == 6


def test_partials_are_taken_apart() -> None:
    node = spec.Task("k", functools.partial(functools.partial(add, 10), y=5), y=spec.TaskRef("a"))
    assert result(node, a=1) == 11


def test_nested_nodes_and_containers() -> None:
    node = spec.Task("k", sum, spec.List(spec.TaskRef("a"), spec.Task(None, add, spec.TaskRef("b"), 1), 7))
    assert result(node, a=1, b=2) == 11
    node = spec.Task("k", dict, spec.Dict({"x": spec.TaskRef("a"), "y": spec.Tuple(1, spec.TaskRef("a"))}))
    assert result(node, a=3) == {"x": 3, "y": (1, 3)}


def test_fused_nodes_share_one_program() -> None:
    def fused(i: int) -> Any:
        first = spec.Task(("first", i), add, spec.TaskRef(("in", i)), i)
        second = spec.Task(("second", i), operator.mul, spec.TaskRef(("first", i)), spec.TaskRef(("first", i)))
        return spec.Task.fuse(first, second, spec.Task(("third", i), operator.neg, spec.TaskRef(("second", i))))

    (code, program, values, inputs), (other, _, others, other_inputs) = programs(fused(1), fused(2))
    assert code == other and program is not None and program.__name__ == "neg"
    assert program(values, [2]) == -9 and program(others, [2]) == -16
    assert inputs == [("in", 1)] and other_inputs == [("in", 2)]
    twice = spec.Task.fuse(fused(3), spec.Task("outer", operator.neg, spec.TaskRef(("third", 3))))
    _, program, values, inputs = programs(twice)[0]
    assert program is not None and program(values, [1]) == 16 and inputs == [("in", 3)]


def test_results_are_dropped_after_their_last_use() -> None:
    class Big:
        alive = 0

        def __init__(self, *_: Any) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    def count(_: Any) -> int:
        return Big.alive

    nodes = [spec.Task("a", Big), spec.Task("b", Big, spec.TaskRef("a")), spec.Task("c", Big, spec.TaskRef("b"))]
    node = spec.Task.fuse(*nodes, spec.Task("d", count, spec.TaskRef("c")))
    assert result(node) == 1
    assert Big.alive == 0


def test_what_several_tasks_hold_is_a_constant() -> None:
    meta, own = Meta(), Meta()
    first, second = programs(spec.Task("a", add, meta, own), spec.Task("b", add, meta, Meta()))
    assert first[0] == second[0]
    assert first[1] is not None and meta in first[1].constants
    assert first[2] == [own]


def test_what_changes_by_use_is_never_shared() -> None:
    rng, numbers = random.Random(1), iter([1, 2])
    for obj in (rng, numbers):
        first, _ = programs(spec.Task("a", add, obj), spec.Task("b", add, obj))
        assert first[2] == [obj]


def test_large_constants_become_inputs() -> None:
    data = [1, 2, 3]
    nodes = [spec.Task("a", sum, data), spec.Task("b", sum, data)]
    reader = Reader(spec, Tally(spec, nodes), {id(data): "list-1"})
    reader.read(nodes[0])
    assert list(reader.inputs) == ["list-1"] and reader.values == []


def test_coroutine_functions_are_left_to_the_loop() -> None:
    assert programs(spec.Task("a", wait, 1))[0][1] is None


def test_other_kinds_of_nodes_are_not_plain() -> None:
    class Special(spec.Task):
        pass

    reader = Reader(spec, Tally(spec, []), {})
    with pytest.raises(NotPlain):
        reader.read(Special("a", add, 1))
