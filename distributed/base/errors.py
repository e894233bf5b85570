"""Every exception that the house raises on purpose. All survive a pickle, and all say what to do or where to look.

Names and attributes are the public ones; the texts are ours. Pure: imports nothing of the house.
"""

from __future__ import annotations

import concurrent.futures
import signal as signals
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

CancelledError = concurrent.futures.CancelledError
TimeoutError = TimeoutError

__all__ = [
    "CancelledError",
    "CommClosedError",
    "DataLostError",
    "DeserializeError",
    "FatalCommClosedError",
    "FrameError",
    "FutureCancelledError",
    "FuturesCancelledError",
    "HandshakeRefused",
    "InsecureListenError",
    "InvalidState",
    "KilledWorker",
    "NoValidWorkerError",
    "NoWorkerError",
    "PeerAlert",
    "RemoteError",
    "Reschedule",
    "SerializationError",
    "TaskCancelled",
    "TaskExited",
    "TaskProcessDied",
    "TaskTimeoutError",
    "TimeoutError",
    "WorkerDeath",
    "WorkerStartTimeoutError",
]


class Reschedule(Exception):
    """Raise this inside a task to have it run again, on another worker when there is one.

    >>> from distributed import Reschedule
    >>> def picky(x):
    ...     raise Reschedule
    """


class InvalidState(AssertionError):
    """A state machine has found a contradiction in its own tables: a defect of the house, never of the user's code."""


# ---------------------------------------------------------------- futures


class FutureCancelledError(CancelledError):
    """The future of ``key`` is cancelled; ``reason`` says why, ``msg`` is what the person who cancelled added."""

    key: Any
    reason: str
    msg: str | None

    def __init__(self, key: Any, reason: str | None = None, msg: str | None = None) -> None:
        self.key = key
        self.reason = reason if reason else "unknown"
        self.msg = msg
        super().__init__(*((key, reason) if msg is None else (key, reason, msg)))

    def __str__(self) -> str:
        text = f"{self.key} was cancelled ({self.reason})."
        return f"{text}\n{self.msg}" if self.msg else text


class FuturesCancelledError(CancelledError):
    """Several futures that were asked for together are cancelled; a paragraph for each reason."""

    errors: list[FutureCancelledError]

    def __init__(self, errors: Iterable[FutureCancelledError]) -> None:
        self.errors = list(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        by_cause: dict[tuple[str, str | None], list[Any]] = {}
        for error in self.errors:
            by_cause.setdefault((error.reason, error.msg), []).append(error.key)
        lines = [f"{_n_futures(self.errors)} cancelled:", "Reasons:"]
        for (reason, msg), keys in by_cause.items():
            shown = ", ".join(map(repr, keys[:5])) + (f", and {len(keys) - 5} more" if len(keys) > 5 else "")
            lines += [f"{_n_futures(keys)} cancelled ({reason}).", f"Message: {msg}", f"Future: [{shown}]"]
        return "\n".join(lines)


def _n_futures(of: Sequence[Any]) -> str:
    return "1 Future" if len(of) == 1 else f"{len(of)} Futures"


class DataLostError(FutureCancelledError):
    """``key`` will never have a value: the only copies of it, or of data that it needs, are gone, and nothing tells how
    to compute these again (they were scattered). ``reason`` names the lost data and the worker that held it."""

    def __str__(self) -> str:
        text = f"{self.key!r} will have no value ({self.reason})"
        return f"{text}\n{self.msg}" if self.msg else text


# ---------------------------------------------------------------- workers


@dataclass(frozen=True)
class WorkerDeath:
    """How one worker process ended while it ran a task.

    ``exit_code`` and ``signal`` (a number) are None when the operating system did not tell, e.g. when the machine is
    gone.
    """

    worker: str
    host: str = ""
    pid: int = 0
    exit_code: int | None = None
    signal: int | None = None
    peak_bytes: int = 0
    log_tail: tuple[str, ...] = ()
    cause: str = ""

    @property
    def how(self) -> str:
        """``killed by SIGKILL``, ``exit code 3``, or what else is known."""
        if self.signal is not None:
            try:
                name = signals.Signals(self.signal).name
            except ValueError:
                name = f"signal {self.signal}"
            known = self.cause not in ("", f"killed by signal {self.signal}")
            hint = " (often the kernel's out-of-memory killer)" if name == "SIGKILL" and not known else ""
            return f"killed by {name}{hint}"
        if self.exit_code is not None:
            return f"ended with exit code {self.exit_code}"
        return self.cause or "the connection to it was lost; how the process ended is not known"

    def __str__(self) -> str:
        place = f" on host {self.host}" if self.host else ""
        pid = f", pid {self.pid}" if self.pid else ""
        peak = f", peak memory {self.peak_bytes / 2**20:.0f} MiB" if self.peak_bytes else ""
        text = f"worker {self.worker}{place}{pid}: {self.how}{peak}"
        if self.cause and self.cause not in text:
            text += f" ({self.cause})"
        return text + "".join(f"\n      | {line.rstrip()}" for line in self.log_tail)


class KilledWorker(Exception):
    """A task was given up, because the workers that ran it died, one after the other.

    Parameters
    ----------
    task
        Key of the task.
    last_worker
        Address of the last worker that died (or an object that has an ``address``).
    allowed_failures
        How many deaths are forgiven (configuration ``distributed.scheduler.allowed-failures``).
    attempts
        One :class:`WorkerDeath` for each death, oldest first; they make the text.
    """

    task: Any
    last_worker: Any
    allowed_failures: int
    attempts: tuple[WorkerDeath, ...]

    def __init__(
        self, task: Any, last_worker: Any, allowed_failures: int, attempts: Sequence[WorkerDeath] = ()
    ) -> None:
        self.task = task
        self.last_worker = last_worker
        self.allowed_failures = allowed_failures
        self.attempts = tuple(attempts)
        super().__init__(task, last_worker, allowed_failures, self.attempts)

    def __str__(self) -> str:
        last = getattr(self.last_worker, "address", self.last_worker)
        count = max(len(self.attempts), self.allowed_failures + 1)
        lines = [
            f"Task {self.task!r} was tried on {count} workers, and each of them died while running it "
            f"(allowed-failures: {self.allowed_failures}). The last one was {last}."
        ]
        lines += [f"  attempt {number}: {death}" for number, death in enumerate(self.attempts, 1)]
        if not self.attempts:
            lines.append("  How they died is not known; look at the logs of the workers and of their machines.")
        return "\n".join(lines)


def _restrictions_text(**restrictions: Any) -> str:
    return "".join(f"\n  {name.replace('_', ' ')}: {value}" for name, value in restrictions.items() if value)


class NoValidWorkerError(Exception):
    """No worker that the task's restrictions allow has come within ``timeout`` seconds."""

    task: Any
    host_restrictions: set[str]
    worker_restrictions: set[str]
    resource_restrictions: dict[str, float]
    timeout: float

    def __init__(
        self,
        task: Any,
        host_restrictions: set[str],
        worker_restrictions: set[str],
        resource_restrictions: dict[str, float],
        timeout: float,
    ) -> None:
        self.task = task
        self.host_restrictions = host_restrictions
        self.worker_restrictions = worker_restrictions
        self.resource_restrictions = resource_restrictions
        self.timeout = timeout
        super().__init__(task, host_restrictions, worker_restrictions, resource_restrictions, timeout)

    def __str__(self) -> str:
        return (
            f"Task {self.task!r} could not run: for {self.timeout:g} s no worker matched its restrictions"
            + _restrictions_text(
                hosts=self.host_restrictions, workers=self.worker_restrictions, resources=self.resource_restrictions
            )
        )


class NoWorkerError(Exception):
    """No worker at all has come within ``timeout`` seconds."""

    task: Any
    timeout: float

    def __init__(self, task: Any, timeout: float) -> None:
        self.task = task
        self.timeout = timeout
        super().__init__(task, timeout)

    def __str__(self) -> str:
        return f"Task {self.task!r} could not run: for {self.timeout:g} s no worker was running at all"


class WorkerStartTimeoutError(TimeoutError):
    """Fewer workers than expected have come in time."""

    available_workers: int
    expected_workers: int
    timeout: float | str  # as the caller wrote it

    def __init__(self, available_workers: int, expected_workers: int, timeout: float | str) -> None:
        self.available_workers = available_workers
        self.expected_workers = expected_workers
        self.timeout = timeout
        super().__init__(available_workers, expected_workers, timeout)

    def __str__(self) -> str:
        limit = self.timeout if isinstance(self.timeout, str) else f"{self.timeout} s"
        return f"Only {self.available_workers}/{self.expected_workers} workers came within {limit}"


class TaskExited(RuntimeError):
    """The task tried to end its process (``sys.exit``, ``KeyboardInterrupt``); ``code`` is what it passed to
    ``sys.exit``."""

    code: Any

    def __init__(self, message: str, code: Any = None) -> None:
        self.code = code
        super().__init__(message, code)

    def __str__(self) -> str:
        return str(self.args[0])


class TaskTimeoutError(TimeoutError):
    """A run of the task took longer than its ``timeout`` of ``limit_s`` seconds, on ``worker`` (an address).

    It was told to end; see ``docs/TASKS.md`` for what that means.
    """

    task: Any
    limit_s: float
    worker: str

    def __init__(self, task: Any, limit_s: float, worker: str) -> None:
        self.task = task
        self.limit_s = limit_s
        self.worker = worker
        super().__init__(task, limit_s, worker)

    def __str__(self) -> str:
        return f"Task {self.task!r} took longer than its limit of {self.limit_s:g} s on worker {self.worker}"


class TaskProcessDied(RuntimeError):
    """The process of an isolated task has ended without a result; ``exit_code`` is negative for a signal."""

    task: Any
    exit_code: int

    def __init__(self, task: Any, exit_code: int) -> None:
        self.task = task
        self.exit_code = exit_code
        super().__init__(task, exit_code)

    def __str__(self) -> str:
        how = (
            WorkerDeath("", exit_code=self.exit_code)
            if self.exit_code >= 0
            else WorkerDeath("", signal=-self.exit_code)
        )
        return f"The process of the isolated task {self.task!r} has died: {how.how}"


class TaskCancelled(BaseException):
    """Thrown into the thread of a task that was cancelled, or whose time is over, and that has not ended by itself.

    Like ``KeyboardInterrupt`` it is no ``Exception``, so that a task which catches errors and goes on does not swallow
    it. ``finally`` blocks and context managers run.
    """


def error_names(kind: type[BaseException]) -> tuple[str, ...]:
    """``module.Class`` of an exception's class and of the classes above it.

    >>> error_names(KeyError)[:2]
    ('builtins.KeyError', 'builtins.LookupError')
    """
    return tuple([f"{one.__module__}.{one.__qualname__}" for one in kind.__mro__ if one is not object])


class RemoteError(Exception):
    """Stands for an exception that could not travel: it cannot be pickled, or cannot be opened here.

    ``type_name``, ``message`` and ``traceback_text`` are those of the original.
    """

    type_name: str
    message: str
    traceback_text: str

    def __init__(self, type_name: str, message: str = "", traceback_text: str = "", note: str = "") -> None:
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text
        self.note = note
        super().__init__(type_name, message, traceback_text, note)

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.message}" if self.message else self.type_name
        if self.note:
            text += f"\n({self.note})"
        return f"{text}\n\nIt was raised here:\n{self.traceback_text}" if self.traceback_text else text


# ---------------------------------------------------------------- wires


class CommClosedError(OSError):
    """The connection is closed, by either side; the text says which and why."""


class FatalCommClosedError(CommClosedError):
    """The connection is closed for a reason that trying again will not remove."""


class HandshakeRefused(FatalCommClosedError):
    """The peer speaks another protocol or version, or does not know the cluster's secret."""


class InsecureListenError(PermissionError):
    """Nothing listens: whoever reaches this machine could come in without authentication, and nobody said so."""


class FrameError(CommClosedError):
    """The bytes on a connection are not what this protocol sends; the connection is closed, nothing was allocated."""


class PeerAlert(FrameError):
    """The peer says within TLS that it cannot use what came from here; what it sent itself was in order."""


# ---------------------------------------------------------------- pickles


class SerializationError(TypeError):
    """An object cannot be pickled. The text names it and the path to the member at fault, which is also ``path``."""

    path: str

    def __init__(self, message: str, path: str = "") -> None:
        self.path = path
        super().__init__(message, path)

    def __str__(self) -> str:
        return str(self.args[0])


class DeserializeError(RuntimeError):
    """A pickle cannot be opened here, often because a package or module that it names is not installed on this side.

    Parameters
    ----------
    message
        What could not be opened, where, and why.
    key
        Of the task whose value it is; of the task itself when its arguments or its function are at fault.
    producer
        Addresses of workers that have it, or had made it; empty when it came from a client.
    """

    key: Any
    producer: str

    def __init__(self, message: str, key: Any = None, producer: str = "") -> None:
        self.key = key
        self.producer = producer
        super().__init__(message, key, producer)

    def __str__(self) -> str:
        return str(self.args[0])
