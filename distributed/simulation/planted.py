"""Bugs that are planted to see that the simulator finds them: named patches of the real cores, applied from outside.

Production code knows nothing of them. Not pure, and not for use outside of tests: ``plant`` changes functions of this
process until it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bug:
    """``what`` is wrong; ``places`` maps (owner, attribute) to what takes its place."""

    what: str
    patch: Callable[[], list[tuple[Any, Any, Any]]]


BUGS: dict[str, Bug] = {}


@contextmanager
def plant(name: str) -> Iterator[None]:
    """Have the bug in the cores; an empty name plants none. Raises ``KeyError`` for a name that is not known."""
    yield
