"""What a task says to the people at the clients: :func:`print` and :func:`warn`. Shell.

Outside of tasks both are what Python has under these names. An event carries plain text, so that the scheduler opens
nothing; a warning's class travels by name, and stands as ``UserWarning`` where nobody knows it.
"""

from __future__ import annotations

import builtins
import sys
import warnings as standard
from typing import Any, TextIO

from distributed.worker.runtime import get_worker

PRINT_TOPIC = "print"
WARN_TOPIC = "warn"


def print(
    *args: Any, sep: str | None = " ", end: str | None = "\n", file: TextIO | None = None, flush: bool = False
) -> None:
    """As the built-in; from a task, the text appears at every client too.

    Parameters
    ----------
    file
        Text for anything but stdout and stderr stays on the worker.

    Examples
    --------
    >>> def work(i):
    ...     distributed.print("working on", i)
    """
    if not all(value is None or isinstance(value, str) for value in (sep, end)):
        raise TypeError(f"sep= and end= take text or None, not {sep!r} and {end!r}")
    builtins.print(*args, sep=sep, end=end, file=file, flush=flush)
    name = _name_of(file)
    worker = _worker_elsewhere()
    if name is not None and worker is not None:
        text = (" " if sep is None else sep).join(map(str, args)) + ("\n" if end is None else end)
        worker.tell_output(text, name)


def warn(
    message: str | Warning, category: type[Warning] | None = UserWarning, stacklevel: int = 1, source: Any = None
) -> None:
    """As ``warnings.warn``; from a task, every client warns too."""
    category = type(message) if isinstance(message, Warning) else category or UserWarning
    if not (isinstance(category, type) and issubclass(category, Warning)):
        raise TypeError(f"category= takes a subclass of Warning, not {category!r}")
    worker = _worker_elsewhere()
    if worker is not None:
        name = f"{category.__module__}:{category.__qualname__}"
        worker.log_event(WARN_TOPIC, {"message": str(message), "category": name})
    standard.warn(message, category, stacklevel + 1, source)


def _worker_elsewhere() -> Any:
    """The worker of the calling task, unless it shares the client's process and its terminal."""
    try:
        worker = get_worker()
    except ValueError:
        return None
    return None if worker.address.startswith("inproc://") else worker


def _name_of(file: TextIO | None) -> str | None:
    if file is None or file is sys.stdout:
        return "stdout"
    return "stderr" if file is sys.stderr else None
