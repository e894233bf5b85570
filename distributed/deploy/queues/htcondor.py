"""``HTCondorCluster``: workers as jobs of HTCondor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from distributed.deploy.queues.cluster import JobQueueCluster
from distributed.deploy.queues.job import Job
from distributed.deploy.queues.script import JobRequest, script_text

__all__ = ["HTCondorCluster", "HTCondorJob"]

_HELD = "5"
_ENDED = {"3", "4"}  # removed, completed
_IDS = re.compile(r"(\d+)\.(\d+) - \1\.(\d+)")


class HTCondorJob(Job):
    """A job of HTCondor, ``12.0``: one of a cluster of jobs, in its words. What is submitted is a description of the
    job that holds the shell script."""

    system = "HTCondor"
    config_name = "htcondor"
    submit_command = "condor_submit -terse"
    cancel_command = "condor_rm"
    task_number = "$1 + 1"
    options: ClassVar[Sequence[str]] = ("disk",)

    @classmethod
    def directives(cls, request: JobRequest, tasks: int) -> list[str]:
        if request.queue:
            raise ValueError("HTCondor has no queues: leave queue= out, or say requirements in job_extra_directives=")
        log = f"{request.log_directory}/{request.job_name}-$(ClusterId).$(ProcId).log"
        asked = {
            "batch_name": request.job_name,
            "request_cpus": request.cores,
            "request_memory": f"{math.ceil(request.memory / 2**20)}MB",
            "request_disk": request.options.get("disk"),
            "accounting_group": request.account,
            "output": log,
            "error": log,
            "stream_output": True,
            "stream_error": True,
        }
        if request.walltime_s is not None:
            ran = "(time() - JobCurrentStartDate)"
            asked["periodic_remove"] = f"(JobStatus == 2) && ({ran} > {math.ceil(request.walltime_s)})"
        own = request.directives
        lines = [f"{name} = {value}" for name, value in own.items()] if isinstance(own, Mapping) else list(own)
        return [*(f"{name} = {value}" for name, value in asked.items() if value is not None), *lines]

    @classmethod
    def script(cls, request: JobRequest, numbers: Sequence[int]) -> str:
        """The description of the jobs, with the script of each in it."""
        text = script_text(request, numbers, (), cls.task_number)
        lines = ["executable = /bin/bash", "transfer_executable = False"]
        lines += [f"arguments = \"-c '{_quoted(text)}' {request.job_name} $(ProcId)\""]
        asked = cls.directives(request, len(numbers))
        lines += [line for line in asked if not any(word in line for word in request.skip)]
        return "\n".join([*lines, f"queue {len(numbers)}"]) + "\n"

    @classmethod
    def job_ids(cls, answer: str, tasks: int) -> list[str]:
        found = _IDS.search(answer)
        if found is None:
            raise ValueError(answer)
        return [f"{found[1]}.{process}" for process in range(int(found[2]), int(found[3]) + 1)]

    @classmethod
    def state_command(cls, ids: Sequence[str]) -> list[str]:
        clusters = dict.fromkeys(job_id.partition(".")[0] for job_id in ids)
        return ["condor_q", *clusters, "-af", "ClusterId", "ProcId", "JobStatus", "HoldReason"]

    @classmethod
    def states(cls, answer: str) -> dict[str, str]:
        found = {}
        for line in answer.splitlines():
            cluster, process, status, *reason = line.split(maxsplit=3)
            if status not in _ENDED:
                found[f"{cluster}.{process}"] = f"held: {reason[0]}" if status == _HELD and reason else status
        return found

    @classmethod
    def is_stuck(cls, state: str) -> bool:
        return state.startswith("held")

    @classmethod
    def knows_none(cls, error: str) -> bool:
        return "not found" in error

    @classmethod
    def log_pattern(cls, request: JobRequest, job_id: str) -> str:
        return f"{request.job_name}-{job_id}.log"


def _quoted(script: str) -> str:
    """A shell script as one argument in a description of jobs.

    An argument holds no line ends, so bash makes them (``$'...'``). In the description, each line is continued on the
    next, where leading blanks would be lost and ``#`` be taken for a comment; quotes are doubled; ``$(`` is HTCondor's.
    """
    lines = script.replace("\\", "\\\\").replace("'", "\\'").rstrip("\n").split("\n")
    lines = [f"\\x{ord(line[0]):02x}{line[1:]}" if line[:1] in (" ", "\t", "#") else line for line in lines]
    text = "eval $'" + "\\n\\\n".join(lines) + "'"
    return text.replace('"', '""').replace("'", "''").replace("$", "$(DOLLAR)")


class HTCondorCluster(JobQueueCluster):
    """Workers as jobs of HTCondor.

    Parameters
    ----------
    disk : str, optional
        Disk to ask for, as ``request_disk`` takes it, such as ``"2GB"``.
    job_extra_directives : dict or list of str, optional
        Lines of the description of the jobs: ``{"requirements": "..."}`` or ``['requirements = ...']``.
    **kwargs
        See :class:`JobQueueCluster`; ``account`` is the accounting group. There are no queues. HTCondor removes jobs
        that run longer than ``walltime``.

    Examples
    --------
    >>> cluster = HTCondorCluster(cores=8, memory="16 GB", disk="10GB")  # doctest: +SKIP
    >>> cluster.scale(jobs=10)  # doctest: +SKIP
    """

    job_cls = HTCondorJob
