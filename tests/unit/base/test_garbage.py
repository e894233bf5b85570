"""How often the process looks for cyclic garbage: changed while somebody wants it, and back as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from distributed.base.garbage import SELDOM, look_as_before, look_seldom

USUAL = (701, 9, 8)


class Owner:
    pass


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*before)


def test_it_lasts_until_the_last_owner_has_gone() -> None:
    a, b = Owner(), Owner()
    look_seldom(a)
    look_seldom(b)
    look_seldom(b)
    assert gc.get_threshold() == SELDOM
    look_as_before(b)
    look_as_before(b)
    assert gc.get_threshold() == SELDOM
    look_as_before(a)
    assert gc.get_threshold() == USUAL
    look_seldom(a)
    assert gc.get_threshold() == SELDOM
    look_as_before(a)
    assert gc.get_threshold() == USUAL


@pytest.mark.parametrize("chosen", [(0, 10, 10), (50_000, 5, 5)])
def test_what_the_program_has_chosen_stays(chosen: tuple[int, int, int]) -> None:
    owner = Owner()
    gc.set_threshold(*chosen)
    look_seldom(owner)
    assert gc.get_threshold() == chosen
    look_as_before(owner)
    assert gc.get_threshold() == chosen
    gc.set_threshold(*USUAL)
    look_seldom(owner)
    gc.set_threshold(*chosen)
    look_as_before(owner)
    assert gc.get_threshold() == chosen


def test_an_owner_that_is_forgotten_holds_nobody_up() -> None:
    a = Owner()
    look_seldom(Owner())
    look_seldom(a)
    look_as_before(a)
    assert gc.get_threshold() == USUAL
