"""In which order the tasks of a graph should run, so that few values are held at a time. Pure, but for dask's own rule.

A forest, in which nothing is needed twice, has a best order that is cheap to find; other graphs are ordered by dask.
Many tasks with the same many dependencies are shown to dask behind one stand-in for these, so that its work grows with
the tasks and not with the edges.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from distributed.messages.client_to_scheduler import SHARED_FROM


def ordered(graph: Mapping[Any, Any]) -> list[Any]:
    """The keys in the order in which they should run; the nodes have ``dependencies``."""
    if len(graph) < 2:
        return list(graph)
    found = forest_order(graph)
    if found is not None:
        return found
    order = importlib.import_module("dask.order").order
    ranks = order(_thinned(graph))
    return sorted(graph, key=ranks.__getitem__)


def forest_order(graph: Mapping[Any, Any]) -> list[Any] | None:
    """Depth first, the branch that needs to hold most values first; None when the graph is no forest.

    This holds the fewest values at a time (R. Sethi and J. D. Ullman, "The generation of optimal code for arithmetic
    expressions", Journal of the ACM 17 (1970), 715-728).
    """
    needed: dict[Any, None] = {}
    branches: dict[Any, list[Any]] = {}
    for key, node in graph.items():
        dependencies = node.dependencies
        if not dependencies:
            continue
        below = [d for d in dependencies if d in graph]
        for dependency in below:
            if dependency in needed:
                return None
            needed[dependency] = None
        branches[key] = below
    if any(len(below) > 1 and type(graph[key].dependencies) is not tuple for key, below in branches.items()):
        place = {key: i for i, key in enumerate(graph)}
        for below in branches.values():
            below.sort(key=place.__getitem__)
    roots = [key for key in graph if key not in needed]
    top_down = _descend(roots, branches)
    if len(top_down) < len(graph):
        return None  # a cycle: dask names it
    held: dict[Any, int] = {}
    for key in reversed(top_down):
        few = branches.get(key)
        if not few:
            held[key] = 1
        elif len(few) == 1:
            held[key] = held[few[0]]
        else:
            few.sort(key=lambda branch: -held[branch])
            held[key] = max([held[branch] + i for i, branch in enumerate(few)])
    found = _descend(roots, branches)
    found.reverse()
    return found


def _descend(roots: list[Any], branches: Mapping[Any, list[Any]]) -> list[Any]:
    """Each key before those below it, the last branch first: read from its end, the first branch first."""
    found: list[Any] = []
    stack = list(roots)
    while stack:
        key = stack.pop()
        found.append(key)
        below = branches.get(key)
        if below:
            stack.extend(below)
    return found


def _thinned(graph: Mapping[Any, Any]) -> dict[Any, Any]:
    """The graph as nodes of dask, in which dependencies that several tasks share stand behind one node."""
    node_type = importlib.import_module("dask._task_spec").GraphNode
    users: dict[Any, list[Any]] = {}
    nodes: dict[Any, Any] = {}
    for key, node in graph.items():
        dependencies = node.dependencies
        if len(dependencies) >= SHARED_FROM:
            # Tuples of equal content are one object already; frozensets know their hash.
            users.setdefault(id(dependencies) if type(dependencies) is tuple else dependencies, []).append(key)
        nodes[key] = node if isinstance(node, node_type) else _stand_in(node_type, frozenset(dependencies))
    for number, keys in enumerate(users.values()):
        if len(keys) > 1:
            shared = f"\0shared-{number}"
            nodes[shared] = _stand_in(node_type, frozenset(graph[keys[0]].dependencies))
            stand_in = _stand_in(node_type, frozenset([shared]))
            nodes.update(dict.fromkeys(keys, stand_in))
    return nodes


def _stand_in(node_type: Any, dependencies: frozenset[Any]) -> Any:
    node = object.__new__(node_type)
    node._dependencies = dependencies
    return node
