from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

from distributed.client.graph import converted, cull
from distributed.client.ordering import forest_order, ordered


def nodes(edges: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    return {key: SimpleNamespace(dependencies=below) for key, below in edges.items()}


def test_a_forest_is_walked_depth_first_and_the_larger_branch_first() -> None:
    graph = nodes({"top": ("leaf", "pair"), "leaf": (), "pair": ("a", "b"), "a": (), "b": (), "alone": ()})
    assert forest_order(graph) == ["a", "b", "pair", "leaf", "top", "alone"]


def test_what_is_needed_twice_and_what_needs_itself_is_no_forest() -> None:
    assert forest_order(nodes({"x": ("a",), "y": ("a",), "a": ()})) is None
    assert forest_order(nodes({"x": ("y",), "y": ("x",), "a": ()})) is None


def test_dependencies_outside_the_graph_do_not_matter() -> None:
    assert forest_order(nodes({"x": ("elsewhere",), "y": ("elsewhere",)})) == ["x", "y"]


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
