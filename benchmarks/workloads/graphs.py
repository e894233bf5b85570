"""Graphs of trivial tasks, as dicts and as futures: overhead per task and per dependency."""

from __future__ import annotations

import operator
from itertools import count
from typing import Any

from measure import Cost, Figures, cluster, inc, run_script

Graph = dict[Any, Any]
serial = count()


def total(parts: list[int]) -> int:
    return sum(parts)


def tree(leaves: int) -> tuple[Graph, Any, int]:
    """Pairs are added until one number is left."""
    name = f"tree{next(serial)}"
    graph: Graph = {(name, 0, i): (inc, i) for i in range(leaves)}
    level, width = 0, leaves
    while width > 1:
        level, width = level + 1, width // 2
        graph |= {
            (name, level, i): (operator.add, (name, level - 1, 2 * i), (name, level - 1, 2 * i + 1))
            for i in range(width)
        }
    return graph, (name, level, 0), leaves * (leaves + 1) // 2


def shuffle(width: int) -> tuple[Graph, Any, int]:
    """Each of ``width`` sources is split in ``width`` parts, and each target takes its part of all."""
    name = f"shuffle{next(serial)}"
    graph: Graph = {(name, "source", i): (inc, i) for i in range(width)}
    for i in range(width):
        graph |= {(name, "split", i, j): (operator.mul, (name, "source", i), j) for j in range(width)}
    graph |= {(name, "join", j): (total, [(name, "split", i, j) for i in range(width)]) for j in range(width)}
    graph[name] = (total, [(name, "join", j) for j in range(width)])
    return graph, name, sum([(i + 1) * j for i in range(width) for j in range(width)])


def all_to_all(width: int, rounds: int) -> tuple[Graph, Any, int]:
    """Each task of a round needs all of the round before."""
    name = f"dense{next(serial)}"
    graph: Graph = {(name, 0, i): (inc, 0) for i in range(width)}
    for r in range(1, rounds):
        graph |= {(name, r, i): (max, [(name, r - 1, j) for j in range(width)]) for i in range(width)}
    graph[name] = (total, [(name, rounds - 1, i) for i in range(width)])
    return graph, name, width


def chain(length: int) -> tuple[Graph, Any, int]:
    """One after the other."""
    name = f"chain{next(serial)}"
    graph: Graph = {(name, 0): (inc, 0)}
    graph |= {(name, i): (inc, (name, i - 1)) for i in range(1, length)}
    return graph, (name, length - 1), length


def tree_of_futures(client: Any, leaves: int) -> None:
    level = client.map(inc, range(leaves), pure=False)
    while len(level) > 1:
        level = [client.submit(operator.add, a, b, pure=False) for a, b in zip(level[::2], level[1::2], strict=True)]
    assert level[0].result() == leaves * (leaves + 1) // 2


def chain_of_futures(client: Any, length: int) -> None:
    future = client.submit(inc, 0, pure=False)
    for _ in range(length - 1):
        future = client.submit(inc, future, pure=False)
    assert future.result() == length


def graphs(smoke: bool) -> Figures:
    cases = {
        "tree": lambda: tree(16 if smoke else 2**15),
        "shuffle": lambda: shuffle(4 if smoke else 60),
        "all_to_all": lambda: all_to_all(*((5, 3) if smoke else (150, 6))),
        "chain": lambda: chain(20 if smoke else 20_000),
    }
    with cluster(2) as client:
        cost = Cost(client)
        for name, make in cases.items():
            graph, key, expected = make()

            def run(graph: Graph = graph, key: Any = key, expected: int = expected) -> None:
                assert client.get(graph, key) == expected

            cost.measure(name, len(graph), run)
        leaves, length = (16, 10) if smoke else (2**12, 2_000)
        cost.measure("tree_of_futures", 2 * leaves - 1, lambda: tree_of_futures(client, leaves))
        cost.measure("chain_of_futures", length, lambda: chain_of_futures(client, length))
        return cost.figures


if __name__ == "__main__":
    run_script(graphs)
