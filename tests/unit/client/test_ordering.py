from __future__ import annotations

import operator
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from distributed.client.graph import converted, cull
from distributed.client.ordering import forest_order, natural, ordered


def nodes(edges: dict[Any, tuple[Any, ...]]) -> dict[str, Any]:
    return {key: SimpleNamespace(dependencies=below) for key, below in edges.items()}


def test_a_forest_is_walked_depth_first_and_the_larger_branch_first() -> None:
    graph = nodes({"top": ("leaf", "pair"), "leaf": (), "pair": ("a", "b"), "a": (), "b": (), "alone": ()})
    assert forest_order(graph) == ["a", "b", "pair", "leaf", "top", "alone"]


def test_what_is_needed_twice_and_what_needs_itself_is_no_forest() -> None:
    assert forest_order(nodes({"x": ("a",), "y": ("a",), "a": ()})) is None
    assert forest_order(nodes({"x": ("y",), "y": ("x",), "a": ()})) is None


def test_dependencies_outside_the_graph_do_not_matter() -> None:
    assert forest_order(nodes({"x": ("elsewhere",), "y": ("elsewhere",)})) == ["x", "y"]


def most_held(graph: dict[Any, Any], order: list[Any]) -> int:
    """How many values are held at once when the tasks run in this order."""
    left = {key: sum(key in node.dependencies for node in graph.values()) for key in graph}
    held = most = 0
    for key in order:
        held += 1
        most = max(most, held)
        for below in graph[key].dependencies:
            left[below] -= 1
            held -= not left[below]
    return most


def test_chunks_that_two_reductions_need_are_not_held_until_the_second() -> None:
    width = 64
    graph: dict[Any, tuple[Any, ...]] = {("x", i): () for i in range(width)}
    for name in ("sum", "max"):
        graph |= {(name, 0, i): (("x", i),) for i in range(width)}
        for level in (1, 2, 3):
            graph |= {
                (name, level, i): tuple([(name, level - 1, 4 * i + j) for j in range(4)])
                for i in range(width // 4**level)
            }
    tasks = nodes(graph)
    assert most_held(tasks, ordered(tasks)) <= 24


def test_parts_of_chunks_are_made_when_somebody_can_use_them() -> None:
    n = 12
    graph: dict[Any, tuple[Any, ...]] = {("in", i): () for i in range(n)}
    graph |= {("cut", i, j): (("in", i),) for i, j in product(range(n), range(n))}
    graph |= {("out", j): tuple([("cut", i, j) for i in range(n)]) for j in range(n)}
    graph |= {("len", j): (("out", j),) for j in range(n)}
    graph["total"] = tuple([("len", j) for j in range(n)])
    tasks = nodes(graph)
    assert most_held(tasks, ordered(tasks)) <= 3 * n


def test_a_product_with_its_transpose_walks_along_neighbours() -> None:
    n = 8
    graph: dict[Any, tuple[Any, ...]] = {("x", i): () for i in range(n)}
    graph |= {("p", i, j): (("x", i), ("x", j)) if i != j else (("x", i),) for i, j in product(range(n), range(n))}
    graph["total"] = tuple([("p", i, j) for i, j in product(range(n), range(n))])
    tasks = nodes(graph)
    found = ordered(tasks)
    assert sorted(found, key=repr) == sorted(graph, key=repr)
    place = {key: i for i, key in enumerate(found)}
    assert all(place[below] < place[key] for key in graph for below in graph[key])


def test_tasks_that_need_each_other_are_named() -> None:
    graph = nodes({"top": ("x",), "x": ("y", "a"), "y": ("x",), "a": ()})
    with pytest.raises(RuntimeError, match="'x' needs 'y' needs 'x'"):
        ordered(graph)


def test_neighbours_are_in_the_order_of_their_numbers() -> None:
    mixed = [("y", 10), "text", ("x", 2), ("y", 9), ("x", "a"), ("y", 1, 2)]
    assert natural(dict.fromkeys(mixed)) == [("y", 1, 2), ("y", 9), ("y", 10), ("x", 2), ("x", "a"), "text"]


def test_rounds_that_share_all_dependencies_run_one_after_the_other() -> None:
    spec: Any = __import__("dask._task_spec", fromlist=["x"])
    width = 20
    graph: dict[Any, Any] = {("r", 0, i): (abs, i) for i in range(width)}
    for r in (1, 2):
        graph |= {("r", r, i): (max, [("r", r - 1, j) for j in range(width)]) for i in range(width)}
    graph["top"] = (max, [("r", 2, i) for i in range(width)])
    graph["not wanted"] = (operator.neg, ("r", 0, 0))
    kept = cull(converted(graph, spec), ["top"])
    assert "not wanted" not in kept and len(kept) == 3 * width + 1
    assert len({id(kept["r", 1, i].dependencies) for i in range(width)}) == 1
    found = ordered(kept)
    place = {key: i for i, key in enumerate(found)}
    assert sorted(place.values()) == list(range(len(kept)))
    assert all(place[d] < place[key] for key in kept for d in kept[key].dependencies)
