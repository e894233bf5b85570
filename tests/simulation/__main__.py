"""``python -m tests.simulation --seeds 1000``: many lives of a cluster; ``--seed 7``: one, with its last events."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time

from tests.simulation.test_cores_together import episode
from tests.simulation.world import World


def digest(world: World) -> str:
    """One line that differs as soon as anything that happened does."""
    return hashlib.sha256("\n".join(map(repr, world.log)).encode()).hexdigest()


def main() -> int:
    """Exit code 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, default=None, help="only this one")
    parser.add_argument("--acts", type=int, default=40, help="length of an episode")
    parser.add_argument("--digest", action="store_true", help="print a digest of all that happened")
    options = parser.parse_args()
    if options.seed is not None:
        print(digest(episode(options.seed, options.acts)) if options.digest else _story(options.seed, options.acts))
        return 0
    began, failed = time.monotonic(), 0
    for seed in range(options.first, options.first + options.seeds):
        try:
            episode(seed, options.acts)
        except AssertionError as error:
            failed += 1
            print(str(error)[:600], flush=True)
    print(f"{options.seeds} seeds, {failed} failed, {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


def _story(seed: int, acts: int) -> str:
    return episode(seed, acts).story()


if __name__ == "__main__":
    sys.exit(main())
