"""Samples of call stacks, added up as a tree: what ran, called from where, seen how often. Pure.

A node is ``{"identifier": str, "description": {"filename", "name", "line_number", "line"}, "count": int, "children":
{identifier: node}}``; the root stands for no function. Also served as ``distributed.profile``.
"""

from __future__ import annotations

import linecache
from collections.abc import Collection, Iterable
from types import FrameType
from typing import Any

Tree = dict[str, Any]
_NO_SAMPLE = "root"


def create() -> Tree:
    """A tree without samples.

    >>> create()["count"]
    0
    """
    return _node(_NO_SAMPLE, {"filename": "", "name": "", "line_number": 0, "line": ""})


def _node(identifier: str, description: dict[str, Any]) -> Tree:
    return {"identifier": identifier, "description": description, "count": 0, "children": {}}


def identifier(frame: FrameType) -> str:
    """The same text for the same function."""
    code = frame.f_code
    return f"{code.co_name};{code.co_filename};{code.co_firstlineno}"


def info_frame(frame: FrameType) -> dict[str, Any]:
    """Where a frame stands."""
    code = frame.f_code
    # None while a frame of another thread is between two lines.
    number: int = frame.f_lineno or code.co_firstlineno
    line = linecache.getline(code.co_filename, number, frame.f_globals).strip()
    return {"filename": code.co_filename, "name": code.co_name, "line_number": number, "line": line}


def call_stack(frame: FrameType | None) -> list[str]:
    """The lines of a traceback, outermost first."""
    lines = []
    while frame is not None:
        info = info_frame(frame)
        lines.append(f'  File "{info["filename"]}", line {info["line_number"]}, in {info["name"]}\n\t{info["line"]}')
        frame = frame.f_back
    return lines[::-1]


def process(
    frame: FrameType, child: object, state: Tree, *, stop: str | None = None, omit: Collection[str] = ()
) -> Tree:
    """Add the stack that ends in ``frame`` to ``state``; returns the node of ``frame``.

    Parameters
    ----------
    child
        Not used; upstream's place for the frame below.
    stop
        The stack begins below the innermost function whose file name ends so.
    omit
        Stacks with a function whose file name ends so are left out.
    """
    frames: list[FrameType] = []
    current: FrameType | None = frame
    while current is not None:
        filename = current.f_code.co_filename
        if stop is not None and filename.endswith(stop):
            break
        if any(filename.endswith(end) for end in omit):
            return state
        frames.append(current)
        current = current.f_back
    node = state
    node["count"] += 1
    for part in reversed(frames):
        name = identifier(part)
        below = node["children"].get(name)
        if below is None:
            below = node["children"][name] = _node(name, info_frame(part))
        below["count"] += 1
        node = below
    return node


def merge(*trees: Tree) -> Tree:
    """The sum of several trees.

    >>> merge(create(), create())["children"]
    {}
    """
    if not trees:
        return create()
    total = _node(trees[0]["identifier"], trees[0]["description"])
    below: dict[str, list[Tree]] = {}
    for tree in trees:
        total["count"] += tree["count"]
        for name, node in tree["children"].items():
            below.setdefault(name, []).append(node)
    total["children"] = {name: merge(*nodes) for name, nodes in below.items()}
    return total


def between(
    history: Iterable[tuple[float, dict[str, Tree]]], start: float | None, stop: float | None, key: str | None
) -> Tree:
    """The sum of the trees of a time, as ``(time, {key prefix: tree})`` pairs; of one prefix if ``key`` is given."""
    return merge(
        create(),
        *[
            tree
            for time, trees in history
            if (start is None or time >= start) and (stop is None or time <= stop)
            for prefix, tree in trees.items()
            if key is None or prefix == key
        ],
    )


def rectangles(tree: Tree, left: float = 0.0, width: float = 1.0, depth: int = 0) -> list[dict[str, Any]]:
    """What a flame graph draws: for each node its place (``left`` and ``width`` as parts of 1, ``depth``) and facts."""
    found: list[dict[str, Any]] = []
    total = max(1, tree["count"])
    if depth:
        found.append({"left": left, "width": width, "depth": depth - 1, "count": tree["count"], **tree["description"]})
    for node in sorted(tree["children"].values(), key=lambda node: -int(node["count"])):
        part = width * node["count"] / total
        found += rectangles(node, left, part, depth + 1)
        left += part
    return found
