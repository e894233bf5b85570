"""Which futures are pickled or opened in a block of code, so that whoever passes them on can hold them. Shell.

A future is a claim of one client. On its way to another one it is a name in a pickle, which keeps nothing alive: the
giver must hold its own until the taker's claim has reached the scheduler.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

HANDOVER_S = 30.0
"""Whoever answers with futures, and is not told (any more) that they have arrived, holds them for so long."""


class _Noting(threading.local):
    into: list[Any] | None = None


noting = _Noting()
"""``into``: where futures that the calling thread pickles or opens note themselves."""


@contextlib.contextmanager
def noted_futures() -> Iterator[list[Any]]:
    """The futures that this thread pickles or opens inside of the block, at whatever depth; filled as it goes."""
    before, found = noting.into, list[Any]()
    noting.into = found
    try:
        yield found
    finally:
        noting.into = before
