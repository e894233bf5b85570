"""One ``Execute`` with what it needs in hand, and the two ways in which it fails before the user's code runs. Data."""

from __future__ import annotations

import concurrent.futures
from typing import Any, Protocol

from distributed.worker.runtime import RunningTask
from distributed.worker.spill_file import SpillFile
from distributed.worker.state_machine.instructions import Execute


class Killable(Protocol):
    """A process that runs one task."""

    def kill(self) -> None: ...


class Job:
    """``future`` is that of a coroutine or of an executor that runs it, ``process`` the process of its own.
    ``before`` is the job that it waits for, ``followers`` those that wait for it (``lined_up.py``; None when there have
    never been any); once it has ``returned``, they get its ``value``."""

    __slots__ = ("execute", "inputs", "future", "process", "task", "before", "followers", "returned", "value")

    task: RunningTask

    def __init__(self, execute: Execute) -> None:
        self.execute = execute
        self.inputs: list[Any] = []
        self.future: concurrent.futures.Future[Any] | Any = None
        self.process: Killable | None = None
        self.before: Job | None = None
        self.followers: dict[int, Job] | None = None
        self.returned = False
        self.value: Any = None

    def end(self) -> None:
        """Cancel its future, kill its process: whichever there is. Its end is still to come."""
        if self.future is not None:
            self.future.cancel()
        if self.process is not None:
            self.process.kill()


class Unopened(Exception):
    """The function, the arguments or an input of the task could not be opened."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class InputLost(Exception):
    """An input that was on disk cannot be read."""

    def __init__(self, file: SpillFile, error: OSError) -> None:
        self.file = file
        self.error = error
