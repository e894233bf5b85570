"""``PBSCluster``: workers as jobs of PBS (OpenPBS, PBS Professional)."""

from __future__ import annotations

import getpass
import glob
import math
import re
from collections.abc import Sequence
from typing import ClassVar

from distributed.deploy.queues.cluster import JobQueueCluster
from distributed.deploy.queues.job import Job
from distributed.deploy.queues.script import JobRequest

__all__ = ["PBSCluster", "PBSJob"]

_ID = re.compile(r"(\d+)(\[(\d*)\])?[.\w*-]*")
_ENDED = {"C", "E", "F", "X"}  # completed, exiting, finished, a task that has ended


class PBSJob(Job):
    """A job of PBS, or a task of an array job (``123[4]``). The server's name is left out of ids: ``qstat`` cuts it."""

    system = "PBS"
    config_name = "pbs"
    submit_command = "qsub"
    cancel_command = "qdel"
    task_number = "${PBS_ARRAY_INDEX:-$PBS_ARRAYID}"
    array_option: ClassVar[str] = "-J"
    """``-t`` for Torque."""
    options: ClassVar[Sequence[str]] = ("resource_spec",)

    @classmethod
    def directives(cls, request: JobRequest, tasks: int) -> list[str]:
        megabytes = math.ceil(request.memory / 2**20)
        resources = request.options.get("resource_spec") or f"select=1:ncpus={request.cores}:mem={megabytes}mb"
        lines = [f"-N {request.job_name}", "-j oe"]
        lines += [f"-q {request.queue}"] if request.queue else []
        lines += [f"-A {request.account}"] if request.account else []
        lines += [f"-l {resources}"]
        lines += [f"-l walltime={request.walltime}"] if request.walltime else []
        lines += [f"{cls.array_option} 1-{tasks}"] if tasks > 1 else []
        lines += [f"-o {request.log_directory}/"]
        return [f"#PBS {line}" for line in [*lines, *request.directives]]

    @classmethod
    def job_ids(cls, answer: str, tasks: int) -> list[str]:
        found = _ID.fullmatch(answer.strip().splitlines()[-1]) if answer.strip() else None
        if found is None:
            raise ValueError(answer)
        return [found[1]] if tasks == 1 else [f"{found[1]}[{task}]" for task in range(1, tasks + 1)]

    @classmethod
    def state_command(cls, ids: Sequence[str]) -> list[str]:
        # By the user, not by ids: one that has ended would make it fail.
        return ["qstat", "-t", "-u", getpass.getuser()]

    @classmethod
    def states(cls, answer: str) -> dict[str, str]:
        """The last column but one is the state, with and without ``-u``."""
        found = {}
        for line in answer.splitlines():
            words = line.split()
            named = _ID.fullmatch(words[0]) if len(words) > 4 else None
            if named and words[-2] not in _ENDED:
                found[named[1] + (f"[{named[3]}]" if named[3] else "")] = words[-2]
        return found

    @classmethod
    def knows_none(cls, error: str) -> bool:
        return "Unknown Job" in error or "has finished" in error

    @classmethod
    def log_pattern(cls, request: JobRequest, job_id: str) -> str:
        # PBS names the file in the directory when the job has ended: 123.server.OU, 123[4].server.OU.
        return f"{glob.escape(job_id)}.*"


class PBSCluster(JobQueueCluster):
    """Workers as jobs of PBS. For Torque: ``job_cls=`` a subclass of ``PBSJob`` with ``array_option = "-t"``.

    Parameters
    ----------
    resource_spec : str, optional
        What ``qsub -l`` takes; default: ``"select=1:ncpus=<cores>:mem=<memory>"``.
    **kwargs
        See :class:`JobQueueCluster`.

    Examples
    --------
    >>> cluster = PBSCluster(cores=8, memory="16 GB", queue="workq", walltime="02:00:00")  # doctest: +SKIP
    >>> cluster.scale(jobs=10)  # doctest: +SKIP
    """

    job_cls = PBSJob
