from __future__ import annotations

import operator
from typing import Any

import pytest

from distributed.client.old_graphs import CallReader
from distributed.protocol.serialize import TaskInput, TaskInputs
from distributed.worker.inputs import fill_arguments

MANY = [("x", i) for i in range(10)]
GRAPH: dict[Any, Any] = {"a": 1, "b": 2, 3: 4, **dict.fromkeys(MANY, 0)}


def read(task: Any) -> Any:
    return CallReader(GRAPH).read(task)


def test_keys_become_places_and_values_stay() -> None:
    call = read((operator.add, "a", 5, [None, "b", ["a", "no key"]], 3))
    assert call.func is operator.add and call.dependencies == ("a", "b", 3)
    args, _ = fill_arguments(call.args, {}, ["A", "B", "C"].__getitem__)
    assert args == ["A", 5, [None, "B", ["A", "no key"]], "C"]


@pytest.mark.parametrize(
    "task",
    [
        1,
        "a",
        (),
        ("a", "b"),
        ["a"],
        (abs, (abs, "a")),
        (abs, ("no", "key")),
        (abs, {"k": "a"}),
        (abs, object()),
        (abs, {"a"}),
        (abs, ["a", (abs, "a")]),
        (abs, [[["a"]], {}]),
        (abs, (["unhashable"],)),
    ],
)
def test_all_else_is_left_to_dask(task: Any) -> None:
    assert read(task) is None


def test_a_long_list_of_keys_is_one_placeholder_and_one_tuple() -> None:
    reader = CallReader(GRAPH)
    one, two = reader.read((sum, MANY, 7)), reader.read((sum, list(MANY)))
    assert one.dependencies == tuple(MANY) and one.dependencies is two.dependencies
    placeholder, seven = one.args
    assert type(placeholder) is TaskInputs and (placeholder.start, placeholder.stop) == (0, 10) and seven == 7
    args, _ = fill_arguments(one.args, {}, list(range(10)).__getitem__)
    assert args == [list(range(10)), 7]


def test_a_long_list_among_others() -> None:
    call = read((sum, MANY, "a", [("x", 3)], MANY))
    assert call.dependencies == (*MANY, "a")
    assert call.args[1:3] == (TaskInput(10), [TaskInput(3)])
    assert call.args[3] == [TaskInput(i) for i in range(10)]


def test_a_long_list_with_repetitions_or_values() -> None:
    assert read((sum, [*MANY, "a", "a"])).dependencies == (*MANY, "a")
    assert read((sum, [*MANY, 0.5])).args[0][-1] == 0.5
