"""``distributed.itertools``: one iterator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

X = TypeVar("X")
Y = TypeVar("Y")


def ffill(x: Iterable[X], xp: Iterable[X], fp: Iterable[Y], left: Y) -> Iterator[Y]:
    """For each of ``x`` the last ``fp`` whose ``xp`` is not greater, ``left`` before the first; all ascending.

    >>> list(ffill([0.5, 1, 3], [1, 2], ["a", "b"], left="-"))
    ['-', 'a', 'b']
    """
    points = zip(xp, fp, strict=True)
    now = left
    coming = next(points, None)
    for value in x:
        while coming is not None and not value < coming[0]:  # type: ignore[operator]
            now = coming[1]
            coming = next(points, None)
        yield now
