"""In which order the tasks of a graph should run, so that few values are held at a time. Pure.

A forest, in which nothing is needed twice, has a best order that is cheap to find. Other graphs are walked depth first
from their ends, and what can be finished without anything new being loaded is finished at once (:func:`_walk`). Many
tasks with the same many dependencies stand behind one node for these, so that the work grows with the tasks and not
with the edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributed.messages.client_to_scheduler import SHARED_FROM


def ordered(graph: Mapping[Any, Any]) -> list[Any]:
    """The keys in the order in which they should run; the nodes have ``dependencies``.

    Raises ``RuntimeError`` when tasks need themselves.
    """
    if len(graph) < 2:
        return list(graph)
    found = forest_order(graph)
    if found is not None:
        return found
    keys = natural(graph)
    dependencies = _numbered(graph, keys)
    dependents = _dependents(dependencies)
    weights, stuck = _weights(dependencies, dependents)
    if stuck:
        raise RuntimeError(f"these tasks need each other: {_cycle(keys, dependencies, stuck)}")
    n_keys = len(keys)
    return [keys[i] for i in _walk(dependencies, dependents, weights) if i < n_keys]


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
        return None  # a cycle
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


def natural(graph: Mapping[Any, Any]) -> list[Any]:
    """The keys, neighbours of one collection next to each other: ``("x", 9)`` before ``("x", 10)``."""
    layers: dict[Any, list[Any]] = {}
    single: list[Any] = []
    for key in graph:
        if type(key) is tuple and key:
            layer = layers.get(key[0])
            if layer is None:
                layer = layers[key[0]] = []
            layer.append(key)
        else:
            single.append(key)
    found: list[Any] = []
    for layer in layers.values():
        try:
            layer.sort()
        except TypeError:  # numbers beside names: they stay as they came
            pass
        found += layer
    return found + single


def _numbered(graph: Mapping[Any, Any], keys: list[Any]) -> list[list[int]]:
    """The dependencies of each key, by number. Many that several tasks have alike are those of one node more."""
    number_of = {key: i for i, key in enumerate(keys)}
    found: list[list[int]] = []
    users: dict[Any, list[int]] = {}
    for key in keys:
        dependencies = graph[key].dependencies
        if len(dependencies) >= SHARED_FROM:
            # Tuples of equal content are one object already; frozensets know their hash.
            users.setdefault(id(dependencies) if type(dependencies) is tuple else dependencies, []).append(len(found))
        found.append([number_of[d] for d in dependencies if d in number_of])
    for numbers in users.values():
        if len(numbers) > 1:
            shared = [len(found)]
            found.append(found[numbers[0]])
            for i in numbers:
                found[i] = shared
    return found


def _dependents(dependencies: list[list[int]]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in dependencies]
    for i, below in enumerate(dependencies):
        for d in below:
            found[d].append(i)
    return found


def _weights(dependencies: list[list[int]], dependents: list[list[int]]) -> tuple[list[int], list[int]]:
    """How much is below each node: the sum of what is below its dependencies, and one. And the nodes that are in a
    cycle or need one."""
    weights = [1] * len(dependencies)
    missing = [len(below) for below in dependencies]
    ready = [i for i, n in enumerate(missing) if not n]
    while ready:
        i = ready.pop()
        weight = weights[i]
        for above in dependents[i]:
            weights[above] += weight
            missing[above] -= 1
            if not missing[above]:
                ready.append(above)
    return weights, [i for i, n in enumerate(missing) if n]


def _cycle(keys: list[Any], dependencies: list[list[int]], stuck: list[int]) -> str:
    """The keys of a cycle; ``stuck`` are in one or need one."""
    found = [stuck[0]]
    among = set(stuck)
    while True:
        below = next(d for d in dependencies[found[-1]] if d in among)
        if below in found:
            cycle = [i for i in [*found[found.index(below) :], below] if i < len(keys)]
            return " needs ".join([repr(keys[i]) for i in cycle])
        found.append(below)


def _walk(dependencies: list[list[int]], dependents: list[list[int]], weights: list[int]) -> list[int]:
    """Depth first from the heaviest ends, the heaviest branch first.

    A node is *at hand* when it can run, or is a single step behind one that is at hand. What needs several nodes runs
    as soon as each of them has run or is at hand: it brings many values down to one, and nothing is loaded for it. So
    a chunk that two reductions need does not wait until the second is asked for, and the parts of a chunk that is cut
    up are not made before somebody can use them.
    """
    missing = [len(below) for below in dependencies]
    lacking = missing.copy()  # how many dependencies have neither run nor are at hand
    done = [False] * len(dependencies)
    at_hand = done.copy()
    found: list[int] = []
    stack = [i for i, above in enumerate(dependents) if not above]
    stack.sort(key=lambda i: (weights[i], -i))
    while stack:
        i = stack[-1]
        if not done[i] and missing[i]:
            below = [d for d in dependencies[i] if not done[d]]
            if len(below) > 1:
                below.sort(key=lambda d: (weights[d], -d))
            stack += below
            continue
        stack.pop()
        if done[i]:
            continue
        done[i] = True
        found.append(i)
        above = dependents[i]
        known = at_hand[i]
        able: list[int] = []
        for c in above:
            missing[c] -= 1
            if not known:
                lacking[c] -= 1
            if not missing[c] and len(above) > 1 and dependents[c]:
                able.append(c)
            elif not missing[c] or not lacking[c]:
                stack.append(c)
        if able:
            stack += _finished(able, dependencies, dependents, lacking, at_hand)
    return found


def _finished(
    able: list[int],
    dependencies: list[list[int]],
    dependents: list[list[int]],
    lacking: list[int],
    at_hand: list[bool],
) -> list[int]:
    """Which nodes lack nothing, now that those of ``able`` (consumed) are at hand."""
    found: list[int] = []
    while able:
        i = able.pop()
        if at_hand[i]:
            continue
        at_hand[i] = True
        for c in dependents[i]:
            lacking[c] -= 1
            if lacking[c]:
                continue
            if len(dependencies[c]) == 1 and dependents[c]:
                able.append(c)
            else:
                found.append(c)
    return found
