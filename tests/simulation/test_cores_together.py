"""The real scheduler core with real worker cores under seeded chaos: every wanted key ends, both views agree, nothing
remains. A failing seed replays exactly: ``python -m tests.simulation.test_cores_together SEED``."""

from __future__ import annotations

import sys
import time

import pytest

from tests.simulation.world import World

SEEDS_A_TEST = 15


def episode(seed: int, acts: int = 40) -> World:
    """One life of a cluster."""
    world = World(seed)
    try:
        for _ in range(acts):
            world.act()
        world.calm_down()
        world.settle()
        world.release_all()
    except Exception as error:
        raise AssertionError(f"seed {seed} at {world.now:.4f}: {type(error).__name__}: {error}") from error
    return world


@pytest.mark.parametrize("first", range(0, 60, SEEDS_A_TEST))
def test_every_wanted_key_ends(first):
    for seed in range(first, first + SEEDS_A_TEST):
        episode(seed)


def test_a_seed_replays_exactly():
    first, second = (list(map(repr, episode(3).log)) for _ in range(2))
    assert first == second


def main() -> None:
    """Run seeds from the command line: first, and how many."""
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began, failed = time.monotonic(), 0
    for seed in range(first, first + number):
        try:
            episode(seed)
        except AssertionError as error:
            failed += 1
            print(str(error)[:600])
            if number == 1:
                raise
    print(f"{number} seeds, {failed} failed, {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
