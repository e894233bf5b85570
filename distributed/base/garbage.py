"""How often this process looks for cyclic garbage while a whole cluster lives in it. Shell: of the interpreter.

Tasks on their way are a dozen objects each that live for a while. With the interpreter's usual thresholds everything
that a cluster is made of is looked through for every few thousand of them, and 200 workers are 50,000 objects. The
programs ``dask scheduler`` and ``dask worker`` have thresholds of their own; a cluster inside a user's program changes
the program's while it runs, unless they are higher already or looking is switched off.
"""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

SELDOM = (10_000, 10, 10)
"""What must have been made before young objects are looked at, and how often that goes before older ones are."""

_lock = threading.Lock()
_owners: weakref.WeakSet[Any] = weakref.WeakSet()
_before: tuple[int, int, int] | None = None


def look_seldom(owner: Any) -> None:
    """From now on until ``owner`` has said :func:`look_as_before`, and every other owner too."""
    global _before
    with _lock:
        _owners.add(owner)
        usual = gc.get_threshold()
        if _before is None and 0 < usual[0] < SELDOM[0]:
            _before = usual
            gc.set_threshold(*SELDOM)


def look_as_before(owner: Any) -> None:
    """``owner`` needs it no longer. Thresholds that the program has set meanwhile stay. Idempotent."""
    global _before
    with _lock:
        _owners.discard(owner)
        if _before is not None and not _owners:
            if gc.get_threshold() == SELDOM:
                gc.set_threshold(*_before)
            _before = None
