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
    """``future`` is that of a coroutine or of an executor that runs it, ``process`` the process of its own."""

    __slots__ = ("execute", "inputs", "future", "process", "task")

    task: RunningTask

    def __init__(self, execute: Execute, inputs: list[Any]) -> None:
        self.execute = execute
        self.inputs = inputs
        self.future: concurrent.futures.Future[Any] | Any = None
        self.process: Killable | None = None

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
