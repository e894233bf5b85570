"""Nanny to scheduler: what became of the process it watches."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class WorkerProcessStarted(Struct, tag="worker-process-started", array_like=True):
    """A worker process runs under this nanny; ``worker`` is its address once it has one."""

    worker: str
    pid: int


class WorkerProcessExited(Struct, tag="worker-process-exited", array_like=True, omit_defaults=True):
    """The process of ``worker`` is gone. Exactly one of ``exit_code`` and ``signal`` tells how.

    ``executing`` holds the run ids that were being executed at that moment (None: not known); of these ``culprits``
    take the blame (None: all). ``cause`` is what the nanny knows of it beyond the exit code or signal.
    ``peak_bytes`` is the most memory it held. ``log_tail`` are its last lines of stderr.
    """

    worker: str
    pid: int
    exit_code: int | None = None
    signal: int | None = None
    executing: tuple[int, ...] | None = None
    peak_bytes: int = 0
    log_tail: tuple[str, ...] = ()
    expected: bool = False
    will_restart: bool = True
    culprits: tuple[int, ...] | None = None
    cause: str = ""


STOPPED: Final = frozenset(["stopped", "tracing-stop", "zombie", "dead"])
"""States of a process (names of psutil) for which nobody can vouch."""


class WorkerVouched(Struct, tag="worker-vouched", array_like=True):
    """The event loop of ``worker`` is silent; its process is in ``process_state`` (psutil's names: ``running``,
    ``sleeping``, ``stopped``, ...). ``held_s``: for so long, as far as was seen, the process was not stopped and its
    loop did not move all the same. ``executing`` holds the run ids that are being executed."""

    worker: str
    pid: int
    held_s: float
    process_state: str
    executing: tuple[int, ...]


NannyToScheduler = WorkerProcessStarted | WorkerProcessExited | WorkerVouched
