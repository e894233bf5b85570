"""The queue of one cluster: runs the batch system's commands, many jobs at a time. Shell.

Jobs that are asked for in one turn of the event loop are one array job; cancelled in one turn, one command. A watch
notices jobs that have ended: it asks the batch system when a worker that was there has left, and now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from distributed.base.status import Status
from distributed.comm import secrets
from distributed.deploy.queues.job import Job
from distributed.deploy.queues.script import JobRequest

__all__ = ["JobQueue", "run_command"]

logger = logging.getLogger("distributed.deploy.queues")

_COMMAND_S = 120.0
_SOON_S = 0.5
_LOG_TAIL = 1 << 16


async def run_command(words: Sequence[str], system: str, timeout_s: float = _COMMAND_S) -> str:
    """What the command prints. The cluster's secret is not in its environment.

    Raises
    ------
    RuntimeError
        One line: the command is not there, has no end, or what it says of its failure.
    """
    environment = {name: value for name, value in os.environ.items() if name not in secrets.SECRET_VARIABLES}
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*words, stdin=nothing, stdout=pipe, stderr=pipe, env=environment)
    except FileNotFoundError:
        raise RuntimeError(missing(words[0], system)) from None
    except OSError as e:
        raise RuntimeError(f"{words[0]} cannot be run: {e.strerror}") from None
    try:
        async with asyncio.timeout(timeout_s):
            out, error = await process.communicate()
    except TimeoutError:
        raise RuntimeError(f"{words[0]} has not ended in {timeout_s:.0f} s; does {system} answer?") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = [line.strip() for line in (error or out).decode(errors="replace").splitlines() if line.strip()]
        told = "; ".join(said[-3:]) or "nothing on stderr"
        raise RuntimeError(f"{words[0]} has failed with exit code {process.returncode}: {told}")
    return out.decode(errors="replace")


def missing(command: str, system: str) -> str:
    """What to say when there is no such command."""
    return f"the command {command} is not found: {system} is not here (a login node? a module to load?)"


class JobQueue:
    """Jobs of one cluster.

    Parameters
    ----------
    dialect
        The class of its jobs.
    request
        What each of them asks for.
    array
        Whether several jobs may be one array job.
    poll_interval_s
        Seconds between two questions to the batch system when nothing happens.
    """

    def __init__(self, dialect: type[Job], request: JobRequest, array: bool, poll_interval_s: float) -> None:
        self.dialect, self.request = dialect, request
        self.longest_array = dialect.longest_array if array else 1
        self.poll_interval_s = self._pause_s = poll_interval_s
        self._left = asyncio.Event()
        self.log_files: dict[str, str] = {}
        self._to_submit: dict[Job, asyncio.Future[str]] = {}
        self._to_cancel: dict[Job, asyncio.Future[None]] = {}
        self._jobs: dict[Job, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    # --- many at a time -----------------------------------------------------------------------------------------------

    async def submit(self, job: Job) -> str:
        """The id of the job, which waits or runs from now on. ``RuntimeError`` if it was refused."""
        self._begin(self._submit_all, self._to_submit)
        self._to_submit[job] = asyncio.get_running_loop().create_future()
        return await self._to_submit[job]

    async def cancel(self, job: Job) -> None:
        """End the job; nothing happens if it has ended."""
        self._jobs.pop(job, None)
        self._begin(self._cancel_all, self._to_cancel)
        self._to_cancel[job] = asyncio.get_running_loop().create_future()
        await self._to_cancel[job]

    def _begin(self, work: Callable[[], Awaitable[None]], waiting: object) -> None:
        """Run ``work`` once the event loop has heard all who ask in this turn."""
        if waiting:
            return

        async def later() -> None:
            await asyncio.sleep(0)
            await work()

        task = asyncio.ensure_future(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submit_all(self) -> None:
        waiting, self._to_submit = self._to_submit, {}
        for some in _chunks(list(waiting), self.longest_array):
            try:
                ids = await self._submit_some(some)
            except Exception as e:
                for job in some:
                    if not waiting[job].done():
                        waiting[job].set_exception(RuntimeError(str(e)))
                continue
            for job, job_id in zip(some, ids, strict=True):
                job.job_id = job_id
                self.log_files[str(job.name)] = self.dialect.log_pattern(self.request, job_id)
                if not waiting[job].done():
                    self._jobs[job] = None
                    waiting[job].set_result(job_id)
        unwanted = [job for job, future in waiting.items() if future.cancelled() and job.job_id is not None]
        await asyncio.gather(*[self.cancel(job) for job in unwanted])
        if self._jobs and (self._watch is None or self._watch.done()):
            self._watch = asyncio.ensure_future(self._keep_looking())

    async def _submit_some(self, jobs: list[Job]) -> list[str]:
        text = self.dialect.script(self.request, [job.number for job in jobs])
        descriptor, path = tempfile.mkstemp(prefix="dask-job-", suffix=".sh", dir=self.request.folder)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            words = [*shlex.split(self.dialect.submit_command), path]
            answer = await run_command(words, self.dialect.system)
        finally:
            os.unlink(path)
        try:
            return self.dialect.job_ids(answer, len(jobs))
        except (ValueError, IndexError):
            raise RuntimeError(f"{words[0]} has not told the id of the job; it said: {answer.strip()!r}") from None

    async def _cancel_all(self) -> None:
        waiting, self._to_cancel = self._to_cancel, {}
        ids = [job.job_id for job in waiting if job.job_id is not None]
        try:
            for some in _chunks(ids, 500):
                words = [*shlex.split(self.dialect.cancel_command), *self.dialect.cancel_arguments(some)]
                try:
                    await run_command(words, self.dialect.system)
                except RuntimeError as e:
                    if not self.dialect.knows_none(str(e)):
                        logger.warning("Jobs %s may run on: %s", ", ".join(some), e)
        finally:
            for future in waiting.values():
                if not future.done():
                    future.set_result(None)

    # --- jobs that end ------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while self._jobs:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self._left.wait()
                self._left.clear()
                self._pause_s = min(_SOON_S, self.poll_interval_s)
                continue
            # A job is shown as running for a while after its worker has left: ask again soon, then more seldom.
            self._pause_s = min(2 * self._pause_s, self.poll_interval_s)
            try:
                await self.look()
            except RuntimeError as e:
                logger.warning("Cannot ask %s for the jobs: %s", self.dialect.system, e)

    def worker_came(self, name: str) -> None:
        """The scheduler has a worker of this name."""
        for job in self._jobs:
            if job.name in (name, name.rpartition("-")[0]):
                job.seen = True

    def worker_left(self) -> None:
        """A worker has gone, perhaps with its job."""
        self._left.set()

    async def look(self) -> None:
        """Ask the batch system for the jobs; those that are there no more have ended."""
        asked = {job: job.job_id for job in self._jobs if job.job_id is not None}
        if not asked:
            return
        answers = []
        for some in _chunks(list(asked.values()), 500):
            try:
                answers.append(await run_command(self.dialect.state_command(some), self.dialect.system))
            except RuntimeError as e:
                if not self.dialect.knows_none(str(e)):
                    raise
        states = {job_id: state for answer in answers for job_id, state in self.dialect.states(answer).items()}
        reasons = {job_id: why for answer in answers for job_id, why in self.dialect.end_reasons(answer).items()}
        for job, job_id in asked.items():
            state = states.get(job_id)
            stuck = state is not None and self.dialect.is_stuck(state)
            if (stuck or state is None) and job in self._jobs and job.status is Status.running:
                self._has_ended(job, job_id, f"state {state}" if stuck else reasons.get(job_id, ""))
                if stuck:
                    await self.cancel(job)

    def _has_ended(self, job: Job, job_id: str, reason: str) -> None:
        del self._jobs[job]
        job.end_reason = f"has ended with its job {job_id}{self._why(job, reason)}"
        job.ended(failed=True)

    def _why(self, job: Job, reason: str) -> str:
        last = self.log_of(str(job.name)).strip().splitlines()[-1:]
        return (f", {reason}" if reason else "") + (f"; the last line in its log: {last[0]}" if last else "")

    def log_of(self, name: str) -> str:
        """The end of what the job of that name has printed, as far as its file can be read here."""
        files = sorted(Path(self.request.log_directory).glob(self.log_files.get(name) or "\0"))
        if not files:
            return ""
        try:
            with files[-1].open("rb") as file:
                file.seek(max(0, files[-1].stat().st_size - _LOG_TAIL))
                return file.read().decode(errors="replace")
        except OSError as e:
            return f"{files[-1]} cannot be read: {e.strerror}"

    async def close(self) -> None:
        """Stop watching, when what was begun is done."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _chunks(items: list[Any], longest: int) -> Iterator[list[Any]]:
    for begin in range(0, len(items), longest):
        yield items[begin : begin + longest]
