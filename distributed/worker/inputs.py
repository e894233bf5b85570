"""Puts the values of a task's dependencies where its arguments have ``TaskInput`` placeholders. Pure.

Placeholders at the top level of the arguments are the common case and take a path of their own; deeper ones are looked
for inside lists, tuples, sets and dicts (and their subclasses that are namedtuples), nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed.protocol.serialize import TaskInput, TaskInputs


def fill_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], value_of: Callable[[int], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments with ``value_of(i)`` for each ``TaskInput(i)``."""
    filled = [value_of(a.index) if type(a) is TaskInput else fill(a, value_of) for a in args]
    return filled, ({name: fill(value, value_of) for name, value in kwargs.items()} if kwargs else kwargs)


def fill(member: Any, value_of: Callable[[int], Any]) -> Any:
    """``member`` with its placeholders filled; the very same object when there are none."""
    kind = type(member)
    if kind is TaskInput:
        return value_of(member.index)
    if kind is TaskInputs:
        return [value_of(index) for index in range(member.start, member.stop)]
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        parts = [fill(part, value_of) for part in member]
        if all(map(_is, parts, member)):
            return member
        return parts if kind is list else kind(parts)
    if kind is dict:
        pairs = {fill(k, value_of): fill(v, value_of) for k, v in member.items()}
        return member if all(map(_is, pairs.values(), member.values())) and all(map(_is, pairs, member)) else pairs
    if isinstance(member, tuple) and hasattr(member, "_make"):
        parts = [fill(part, value_of) for part in member]
        return member if all(map(_is, parts, member)) else member._make(parts)
    return member


def _is(left: Any, right: Any) -> bool:
    return left is right
