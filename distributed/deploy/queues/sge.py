"""``SGECluster``: workers as jobs of Grid Engine (Sun's, Son of, Univa, Altair)."""

from __future__ import annotations

import getpass
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import ClassVar

from distributed.deploy.queues.cluster import JobQueueCluster
from distributed.deploy.queues.job import Job
from distributed.deploy.queues.script import JobRequest

__all__ = ["SGECluster", "SGEJob"]

_IDS = re.compile(r"(\d+)(\.1-(\d+):1)?\s*")


class SGEJob(Job):
    """A job of Grid Engine, or a task of an array job (``123.4``)."""

    system = "Grid Engine"
    config_name = "sge"
    submit_command = "qsub -terse"
    cancel_command = "qdel"
    task_number = "SGE_TASK_ID"
    options: ClassVar[Sequence[str]] = ("resource_spec", "parallel_environment")

    @classmethod
    def directives(cls, request: JobRequest, tasks: int) -> list[str]:
        asked = request.options
        # Many sites' queues start csh, whatever the first line of the script is.
        lines = ["-S /bin/bash", f"-N {request.job_name}", "-cwd", "-j y"]
        lines += [f"-q {request.queue}"] if request.queue else []
        lines += [f"-P {request.account}"] if request.account else []
        lines += [f"-pe {asked['parallel_environment']} {request.cores}"] if asked.get("parallel_environment") else []
        lines += [f"-l {asked['resource_spec']}"] if asked.get("resource_spec") else []
        lines += [f"-l h_rt={request.walltime}"] if request.walltime else []
        lines += [f"-t 1-{tasks}"] if tasks > 1 else []
        number = "$JOB_ID.$TASK_ID" if tasks > 1 else "$JOB_ID"
        lines += [f"-o {request.log_directory}/{request.job_name}-{number}.log"]
        return [f"#$ {line}" for line in [*lines, *request.directives]]

    @classmethod
    def job_ids(cls, answer: str, tasks: int) -> list[str]:
        lines = [found for line in answer.splitlines() if (found := _IDS.fullmatch(line))]
        if not lines:
            raise ValueError(answer)
        number = lines[-1][1]
        return [number] if tasks == 1 else [f"{number}.{task}" for task in range(1, tasks + 1)]

    @classmethod
    def state_command(cls, ids: Sequence[str]) -> list[str]:
        return ["qstat", "-xml", "-g", "d", "-u", getpass.getuser()]

    @classmethod
    def states(cls, answer: str) -> dict[str, str]:
        found = {}
        for job in ET.fromstring(answer).iter("job_list"):
            number, task = job.findtext("JB_job_number", "").strip(), job.findtext("tasks", "").strip()
            found[f"{number}.{task}" if task else number] = job.findtext("state", "").strip()
        return found

    @classmethod
    def is_stuck(cls, state: str) -> bool:
        return "E" in state

    @classmethod
    def knows_none(cls, error: str) -> bool:
        return "does not exist" in error or "no longer exist" in error

    @classmethod
    def log_pattern(cls, request: JobRequest, job_id: str) -> str:
        return f"{request.job_name}-{job_id}.log"


class SGECluster(JobQueueCluster):
    """Workers as jobs of Grid Engine.

    Parameters
    ----------
    parallel_environment : str, optional
        Ask for ``cores`` slots of it; without it a job counts as one slot, whatever ``cores`` is.
    resource_spec : str, optional
        What ``qsub -l`` takes, such as ``"h_vmem=2G"``.
    **kwargs
        See :class:`JobQueueCluster`; ``account`` is the project (``qsub -P``), ``walltime`` is ``h_rt``.

    Examples
    --------
    >>> cluster = SGECluster(cores=8, memory="16 GB", parallel_environment="smp", queue="all.q")  # doctest: +SKIP
    >>> cluster.scale(jobs=10)  # doctest: +SKIP
    """

    job_cls = SGEJob
