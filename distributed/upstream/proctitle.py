"""``distributed.proctitle``: what ``ps`` shows of a process, where the package ``setproctitle`` is installed."""

from __future__ import annotations

import importlib
import os

_VARIABLE = "DASK_DISTRIBUTED_PROCTITLE"
_enabled = os.environ.get(_VARIABLE) == "1"


def enable_proctitle_on_children() -> None:
    """Processes started from now on may set their titles."""
    os.environ[_VARIABLE] = "1"


def enable_proctitle_on_current() -> None:
    """This process may set its title."""
    global _enabled
    _enabled = True


def setproctitle(title: str) -> None:
    """Set this process's title, if that was enabled and the package ``setproctitle`` is installed."""
    if not _enabled:
        return
    try:
        module = importlib.import_module("setproctitle")
    except ImportError:
        return
    module.setproctitle(title)
