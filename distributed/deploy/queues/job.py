"""One job of a batch system, as a cluster's member, and what each batch system must say of itself. Shell.

A subclass is a dialect: its class attributes and class methods write directives and read answers, and do no I/O; the
:class:`~distributed.deploy.queues.queue.JobQueue` runs the commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from distributed.base.status import Status
from distributed.deploy.members import ProcessInterface
from distributed.deploy.queues.script import JobRequest, script_text

__all__ = ["Job", "Queue"]


class Queue(Protocol):
    """What a job needs of its cluster's queue."""

    async def submit(self, job: Job) -> object: ...
    async def cancel(self, job: Job) -> None: ...


class Job(ProcessInterface):
    """A job that runs the workers called ``name``.

    Parameters
    ----------
    scheduler
        Its address; jobs find it by the scheduler file.
    name
        Of its workers.
    queue
        Submits and cancels.
    number
        Which job of the cluster.
    """

    system: ClassVar[str] = "the batch system"
    """What people call it."""
    config_name: ClassVar[str] = ""
    """Defaults of keywords are settings ``jobqueue.<config_name>.<keyword>``."""
    submit_command: ClassVar[str] = ""
    cancel_command: ClassVar[str] = ""
    walltime_unit_s: ClassVar[float] = 1.0
    """What a walltime that is a bare number counts."""
    longest_array: ClassVar[int] = 1000
    """Most tasks in one array job; 1: there are no array jobs."""
    task_number: ClassVar[str] = ""
    """Shell expression: place in the array job, from 1 on."""
    options: ClassVar[Sequence[str]] = ()
    """Keywords that only this system knows."""

    def __init__(self, scheduler: str | None = None, name: Any = None, *, queue: Queue, number: int) -> None:
        super().__init__()
        self.name, self.number, self.queue = name, number, queue
        self.job_id: str | None = None
        self.seen = False  # whether the scheduler has ever had one of its workers
        self.end_reason = "has failed"

    async def start(self) -> None:
        """Submit it. ``RuntimeError`` quotes the batch system when it refuses."""
        await self.queue.submit(self)
        await super().start()

    async def close(self) -> None:
        """Cancel it, unless it has ended."""
        running = self.status is Status.running
        await super().close()
        if running:
            await self.queue.cancel(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: job {self.job_id or 'not submitted'}, {self.status.name}>"

    # --- the dialect ------------------------------------------------------------------------------------------------

    @classmethod
    def directives(cls, request: JobRequest, tasks: int) -> list[str]:
        """Lines at the head of the script; more than one task: an array job with tasks 1, 2, ..."""
        raise NotImplementedError

    @classmethod
    def script(cls, request: JobRequest, numbers: Sequence[int]) -> str:
        """The script of the jobs with these numbers."""
        return script_text(request, numbers, cls.directives(request, len(numbers)), cls.task_number)

    @classmethod
    def job_ids(cls, answer: str, tasks: int) -> list[str]:
        """Ids of the jobs, from what the submit command has printed. ``ValueError`` if they are not in it."""
        raise NotImplementedError

    @classmethod
    def state_command(cls, ids: Sequence[str]) -> list[str]:
        """The command that tells of these jobs."""
        raise NotImplementedError

    @classmethod
    def states(cls, answer: str) -> dict[str, str]:
        """State by id of the jobs that wait or run, from what the state command has printed."""
        raise NotImplementedError

    @classmethod
    def is_stuck(cls, state: str) -> bool:
        """Whether a job in this state will not run unless somebody helps it: it is cancelled, and has ended."""
        return False

    @classmethod
    def knows_none(cls, error: str) -> bool:
        """Whether a failure of the state or cancel command means that none of the jobs is there any more."""
        return False

    @classmethod
    def end_reasons(cls, answer: str) -> Mapping[str, str]:
        """Why jobs have ended, where the state command tells that."""
        return {}

    @classmethod
    def cancel_arguments(cls, ids: Iterable[str]) -> list[str]:
        """Arguments of the cancel command."""
        return list(ids)

    @classmethod
    def log_pattern(cls, request: JobRequest, job_id: str) -> str:
        """Pattern of the file in the log directory that this job prints to."""
        raise NotImplementedError
