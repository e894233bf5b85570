"""Soak tests: a local cluster whose workers are killed, stopped and scaled while work with known results runs on it.

From the command line ``python -m distributed.testing.chaos --minutes 5 --seed 1``; in a program :func:`run`.

Examples
--------
>>> tally = run(Options(seed=1, seconds=60))  # doctest: +SKIP
>>> assert not tally.violations, tally.details()  # doctest: +SKIP
"""

from distributed.testing.chaos.soak import Options, run
from distributed.testing.chaos.tally import Tally, Violation

__all__ = ["Options", "Tally", "Violation", "run"]
