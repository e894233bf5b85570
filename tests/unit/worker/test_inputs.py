from __future__ import annotations

from collections import namedtuple

from distributed.protocol.serialize import TaskInput
from distributed.worker.inputs import fill, fill_arguments

Point = namedtuple("Point", "x y")


def value_of(index: int) -> str:
    return f"v{index}"


def test_top_level() -> None:
    args, kwargs = fill_arguments((1, TaskInput(0)), {"k": TaskInput(1)}, value_of)
    assert list(args) == [1, "v0"]
    assert kwargs == {"k": "v1"}


def test_nested() -> None:
    nested = [1, (TaskInput(0), {TaskInput(1): TaskInput(2)}), {TaskInput(3)}, frozenset([TaskInput(4)])]
    assert fill(nested, value_of) == [1, ("v0", {"v1": "v2"}), {"v3"}, frozenset(["v4"])]


def test_namedtuple_keeps_its_type() -> None:
    assert fill(Point(TaskInput(0), 2), value_of) == Point("v0", 2)


def test_what_holds_no_input_is_the_same_object() -> None:
    for member in ([1, [2]], {"a": (1,)}, (1, 2), {1}, Point(1, 2), "text"):
        assert fill(member, value_of) is member
