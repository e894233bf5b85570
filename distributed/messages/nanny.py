"""Nanny to scheduler: what became of the process it watches."""

from __future__ import annotations

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


class WorkerVouched(Struct, tag="worker-vouched", array_like=True):
    """The event loop of ``worker`` has been silent for ``silent_s``; its process is in ``process_state`` (psutil's
    names: ``running``, ``sleeping``, ``stopped``, ...). ``executing`` holds the run ids that are being executed."""

    worker: str
    pid: int
    silent_s: float
    process_state: str
    executing: tuple[int, ...]


NannyToScheduler = WorkerProcessStarted | WorkerProcessExited | WorkerVouched
