"""The worker in its process, from the start to the end; one after another. Shell.

Knows where the worker is, whether it has registered, and what it said before it left. What follows from an end is the
nanny's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distributed.comm import registry
from distributed.messages.nanny import WorkerProcessExited, WorkerProcessStarted, WorkerVouched
from distributed.messages.payload import ErrorInfo
from distributed.nanny import environment
from distributed.nanny.memory_watch import MemoryWatch
from distributed.nanny.process import ProcessEnd, WorkerProcess
from distributed.nanny.watch import Watch
from distributed.protocol import serialize
from distributed.worker import scratch

_START_LIMIT_S = 60.0
_AT_EXIT_S = 1.0


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker ended.

    ``address``: where it was; None: it had not registered. ``leaving``: what it said when it left of its own accord.
    ``ordered``: this nanny has ended it.
    """

    process: ProcessEnd
    address: str | None
    leaving: Mapping[str, Any] | None
    ordered: bool

    @property
    def expected(self) -> bool:
        """Whether somebody wanted it."""
        return self.ordered or self.leaving is not None

    def report(self, restarting: bool) -> WorkerProcessExited:
        """What the scheduler is told of a worker that had registered."""
        assert self.address is not None
        return WorkerProcessExited(
            self.address,
            self.process.pid,
            self.process.exit_code,
            self.process.signal,
            self.process.executing,
            self.process.peak_bytes,
            self.process.log_tail,
            self.expected,
            restarting,
            self.process.culprits,
            self.process.cause,
        )


class DiedAtStart(Exception):
    """A process has ended before its worker had registered, and nobody had told it to."""

    def __init__(self, end: ProcessEnd) -> None:
        super().__init__(str(end))
        self.end = end

    def told(self) -> str:
        """How it ended, and its last lines."""
        text = f"the last one (pid {self.end.pid}) ended with {self.end}"
        return text + "".join(f"\n  | {line}" for line in self.end.log_tail[-20:])


class WorkerLife:
    """Starts a worker process and ends it, one at a time.

    Parameters
    ----------
    tell :
        Takes the messages for the scheduler.
    on_end :
        Called at the end of each process, when its traces are gone.
    suspect_s :
        After how many seconds the scheduler suspects a silent worker.
    memory_limit :
        Bytes; a process that comes near them is killed. None: no limit.

    Attributes
    ----------
    process : WorkerProcess or None
        The last one, which may have ended.
    address : str or None
        Where the worker is, None while none has registered.
    directory : str or None
        Of the last worker.
    """

    def __init__(
        self,
        tell: Callable[[WorkerProcessStarted | WorkerVouched], None],
        on_end: Callable[[WorkerEnd], None],
        suspect_s: float,
        memory_limit: int | None,
    ) -> None:
        self.process: WorkerProcess | None = None
        self.address: str | None = None
        self.directory: str | None = None
        self._tell = tell
        self._on_end = on_end
        self._watch = Watch(tell, suspect_s)
        self._memory_watch = MemoryWatch(memory_limit)
        self._listening_at: str | None = None
        self._started: asyncio.Future[None] | None = None
        self._leaving: Mapping[str, Any] | None = None
        self._ordered_end = False

    def is_alive(self) -> bool:
        """Whether there is a worker process."""
        return self.process is not None and self.process.is_alive()

    async def goes_on(self) -> bool:
        """Whether there is a worker, which is then waited for until it has registered; raises why it cannot."""
        if not self.is_alive() or self._started is None:
            return False
        await asyncio.shield(self._started)
        return True

    async def start(self, config: Mapping[str, Any], variables: Mapping[str, str], death_timeout: float | None) -> None:
        """Start a process, and wait until its worker has registered.

        Parameters
        ----------
        config : dict
            What the process reads: see ``worker_process.py``.
        variables : dict
            Its environment.
        death_timeout : float, optional
            Seconds after which the worker gives up; a process that is silent for longer is killed.

        Raises
        ------
        DiedAtStart
            The process has ended. What the worker itself raised is raised as it is.
        TimeoutError
            It has taken too long.
        """
        self._started = started = asyncio.get_running_loop().create_future()
        started.add_done_callback(_seen)
        self._leaving = None
        self._ordered_end = False
        process = WorkerProcess(config, environment.spawn_variables(variables), self._on_message)
        self.process = process
        process.ended.add_done_callback(lambda future: self._on_process_end(process, future.result()))
        limit = _START_LIMIT_S if death_timeout is None else death_timeout + 5.0
        try:
            done, _ = await asyncio.wait(
                [started, process.ended],
                timeout=None if death_timeout is None else limit,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            self._ordered_end = True
            await process.kill()
            raise
        if started in done:
            try:
                started.result()
            except BaseException:
                self._ordered_end = True
                await process.stop("start-failed", 1.0)
                raise
            return
        if not done:
            self._ordered_end = True
            await process.kill()
            raise TimeoutError(f"the worker process has not started within {limit:.0f} s")
        raise DiedAtStart(process.ended.result())

    def _on_message(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "started":
            self.address = message["address"]
            if self._started is not None and not self._started.done():
                self._started.set_result(None)
            if self.process is not None:
                self._tell(WorkerProcessStarted(message["address"], self.process.pid))
                self._watch.start(self.process, message["address"])
                self._memory_watch.start(self.process)
        elif event == "listening":
            self._listening_at = message["address"]
        elif event == "directory":
            self.directory = message["path"]
        elif event == "failed":
            if self._started is not None and not self._started.done():
                self._started.set_exception(_as_exception(message["error"]))
        elif event == "leaving":
            self._leaving = message

    def _on_process_end(self, process: WorkerProcess, end: ProcessEnd) -> None:
        if process is not self.process:
            return
        self._watch.stop()
        self._memory_watch.stop()
        self._remove_traces()
        if self._started is not None and not self._started.done():
            self._started.set_exception(DiedAtStart(end))  # whoever waits for it learns
        address, self.address = self.address, None
        self._on_end(WorkerEnd(end, address, self._leaving, self._ordered_end))

    async def end(self, reason: str, timeout_s: float) -> None:
        """End the process: in order if that takes at most ``timeout_s``."""
        self._ordered_end = True
        if self.process is not None:
            await self.process.stop(reason, timeout_s)
            self._started = None

    def forget(self) -> None:
        """There will be no more of them."""
        self.process = None
        self._remove_traces()  # a process that was still starting may have left some since it was last looked at

    def end_now(self) -> None:
        """The program ends in haste: the worker process has a moment to end too."""
        process = self.process
        if process is not None and process.is_alive() and process.end_now("nanny-gone", _AT_EXIT_S):
            self._remove_traces()

    def _remove_traces(self) -> None:
        """What a process that was killed has left."""
        if self.directory is not None:
            scratch.remove_directory(self.directory)
        if self._listening_at is not None:
            registry.remove_traces(self._listening_at)
            self._listening_at = None


def _as_exception(info: ErrorInfo) -> Exception:
    error, _ = serialize.unpack_error(info)
    return error if isinstance(error, Exception) else RuntimeError(f"{info.type_name}: {info.message}")


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
