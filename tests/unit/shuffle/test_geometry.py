"""Old chunks, new chunks, and what they have in common."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from distributed.shuffle.geometry import Grid, Overlap, Part, Rechunk, check, independent_parts, overlaps

NAN = math.nan


def test_overlaps_of_one_dimension() -> None:
    assert overlaps((4, 4), (3, 5)) == [
        Overlap(0, 0, 0, 3, 0, 0),
        Overlap(0, 1, 3, 4, 0, 0),
        Overlap(1, 1, 0, 4, 1, 1),
    ]


def test_empty_chunks_overlap_with_nothing() -> None:
    assert overlaps((0, 4, 0), (2, 0, 2)) == [Overlap(1, 0, 0, 2, 0, 0), Overlap(1, 2, 2, 4, 0, 0)]
    assert overlaps((0,), (0,)) == []


def test_unknown_chunks_stay() -> None:
    assert overlaps((NAN, NAN), (NAN, NAN)) == [Overlap(0, 0, 0, None, 0, 0), Overlap(1, 1, 0, None, 0, 0)]


@pytest.mark.parametrize("seed", range(50))
def test_overlaps_cover_everything_once(seed: int) -> None:
    rng = random.Random(seed)
    old, new = random_chunks(rng), random_chunks(rng)
    new = (*new, sum(old) - sum(new)) if sum(old) >= sum(new) else new
    old = (*old, sum(new) - sum(old)) if sum(new) > sum(old) else old
    old_starts = [sum(old[:i]) for i in range(len(old))]
    new_starts = [sum(new[:i]) for i in range(len(new))]
    covered: list[int] = []
    for o in overlaps(old, new):
        assert o.old_stop is not None
        n = o.old_stop - o.old_start
        assert n > 0
        assert old_starts[o.old] + o.old_start == new_starts[o.new] + o.new_start
        assert o.new_start + n <= new[o.new]
        covered += range(old_starts[o.old] + o.old_start, old_starts[o.old] + o.old_stop)
    assert covered == list(range(sum(old)))
    parts = independent_parts(old, new)
    assert [i for p in parts for i in range(p.old_start, p.old_stop)] == list(range(len(old)))
    assert [i for p in parts for i in range(p.new_start, p.new_stop)] == list(range(len(new)))
    for p in parts:
        assert sum(old[p.old_start : p.old_stop]) == sum(new[p.new_start : p.new_stop])


def random_chunks(rng: random.Random) -> tuple[int, ...]:
    return tuple([rng.choice([0, 1, 2, 3, 7]) for _ in range(rng.randrange(1, 6))])


def test_independent_parts() -> None:
    assert independent_parts((2, 2, 3), (4, 1, 2)) == [Part(0, 2, 0, 1), Part(2, 3, 1, 3)]
    assert independent_parts((5,), (5,)) == [Part(0, 1, 0, 1)]
    assert independent_parts((5, 0), (5,)) == [Part(0, 2, 0, 1)], "an empty chunk at the end joins its neighbour"
    assert independent_parts((0,), (0, 0)) == [Part(0, 1, 0, 2)]
    assert independent_parts((NAN, NAN), (NAN, NAN)) == [Part(0, 1, 0, 1), Part(1, 2, 1, 2)]


def test_grid_numbers_in_c_order() -> None:
    grid = Grid([(1, 2), (3, 4, 5)])
    assert len(grid) == 6
    assert [grid.number(index) for index in grid] == list(range(6))
    assert [grid.index(n) for n in range(6)] == list(grid)
    assert grid.chunk_shape((1, 2)) == (2, 5)


def test_of_new_counts_the_pieces() -> None:
    rechunk = Rechunk([(4, 4), (2, 2)], [(8,), (4,)])
    counts, along = rechunk.of_new((0, 0))
    assert counts == (2, 2)
    assert [[o.old for o in axis] for axis in along] == [[0, 1], [0, 1]]
    assert len(list(rechunk.of_old((1, 0)))) == 1


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ([(2, 2)], [(2, 3)], "chunks of dimension 0 add up to 5, not to 4"),
        ([(2, 2)], [(2, 2), (1,)], "an array of 1 dimensions cannot get chunks for 2"),
        ([(1,), (NAN, NAN)], [(1,), (NAN,)], "dimension 1 has chunks of unknown size"),
        ([(4,)], [(NAN,)], "dimension 0 has chunks of unknown size"),
    ],
)
def test_what_cannot_be(old: Any, new: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check(old, new)
