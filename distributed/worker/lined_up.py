"""Runs that have been handed over behind another one, until that has ended. Shell; any thread, except where said.

The job before holds them in ``followers``, by run id. Whoever takes one out of there owns it: the thread that has run
the one before, the loop, or the order to take it back.
"""

from __future__ import annotations

from typing import Final

from distributed.worker.data_store import DataStore
from distributed.worker.job import Job

_ABSENT: Final = object()


def line_up(job: Job, before: Job, store: DataStore) -> None:
    """Have a job wait for another, whose end the loop has not been told of. On the loop.

    It takes hold of its inputs, with a gap for the value to come. Raises ``KeyError`` when another input is not here.
    """
    absent = before.execute.key
    job.inputs = [_ABSENT if key == absent else store.hold(key) for key in job.execute.dependencies]
    job.before = before
    if before.followers is None:
        before.followers = {}
    before.followers[job.execute.run_id] = job


def take_back(job: Job) -> bool:
    """Whether it was still waiting for another; it is not any more."""
    before = job.before
    if before is None or before.followers is None or before.followers.pop(job.execute.run_id, None) is None:
        return False
    job.before = None
    return True


def claim(before: Job) -> list[Job]:
    """Those that nobody has taken yet, in order; if the job before has returned, they are given its value."""
    claimed = []
    followers = before.followers or {}
    for run_id in list(followers):
        job = followers.pop(run_id, None)
        if job is not None:
            job.before = None
            if before.returned:
                job.inputs = [before.value if value is _ABSENT else value for value in job.inputs]
            claimed.append(job)
    return claimed
