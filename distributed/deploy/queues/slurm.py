"""``SlurmCluster``: workers as jobs of Slurm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from distributed.deploy.queues.cluster import JobQueueCluster
from distributed.deploy.queues.job import Job
from distributed.deploy.queues.script import JobRequest

__all__ = ["SlurmCluster", "SlurmJob"]

# COMPLETING is not among them: the worker has ended, and a broken node stays in that state for long.
_ALIVE = {"PENDING", "RUNNING", "CONFIGURING", "SUSPENDED", "RESIZING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
          "SPECIAL_EXIT", "RESV_DEL_HOLD", "SIGNALING", "STAGE_OUT", "STOPPED"}  # fmt: skip


class SlurmJob(Job):
    """A job of Slurm, or a task of an array job (``123_4``)."""

    system = "Slurm"
    config_name = "slurm"
    submit_command = "sbatch --parsable"
    cancel_command = "scancel"
    walltime_unit_s = 60.0
    task_number = "SLURM_ARRAY_TASK_ID"
    options: ClassVar[Sequence[str]] = ("job_cpu", "job_mem")

    @classmethod
    def directives(cls, request: JobRequest, tasks: int) -> list[str]:
        asked = request.options
        lines = [f"--job-name={request.job_name}", "--ntasks=1"]
        lines += [f"--cpus-per-task={asked.get('job_cpu') or request.cores}"]
        lines += [f"--mem={asked.get('job_mem') or f'{math.ceil(request.memory / 2**20)}M'}"]
        lines += [f"--partition={request.queue}"] if request.queue else []
        lines += [f"--account={request.account}"] if request.account else []
        lines += [f"--time={request.walltime}"] if request.walltime else []
        lines += [f"--array=1-{tasks}"] if tasks > 1 else []
        lines += [f"--output={request.log_directory}/{request.job_name}-{'%A_%a' if tasks > 1 else '%j'}.log"]
        return [f"#SBATCH {line}" for line in [*lines, *request.directives]]

    @classmethod
    def job_ids(cls, answer: str, tasks: int) -> list[str]:
        number = answer.strip().splitlines()[-1].partition(";")[0] if answer.strip() else ""
        if not number.isdigit():
            raise ValueError(answer)
        return [number] if tasks == 1 else [f"{number}_{task}" for task in range(1, tasks + 1)]

    @classmethod
    def state_command(cls, ids: Sequence[str]) -> list[str]:
        jobs = dict.fromkeys(job_id.partition("_")[0] for job_id in ids)
        return ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T %r", f"--jobs={','.join(jobs)}"]

    @classmethod
    def states(cls, answer: str) -> dict[str, str]:
        return {job_id: state for job_id, state in _rows(answer) if state.split()[0] in _ALIVE}

    @classmethod
    def end_reasons(cls, answer: str) -> Mapping[str, str]:
        return {job_id: state for job_id, state in _rows(answer) if state.split()[0] not in _ALIVE}

    @classmethod
    def knows_none(cls, error: str) -> bool:
        return "Invalid job id" in error

    @classmethod
    def log_pattern(cls, request: JobRequest, job_id: str) -> str:
        return f"{request.job_name}-{job_id}.log"


def _rows(answer: str) -> list[tuple[str, str]]:
    found = []
    for line in answer.splitlines():
        job_id, _, state = line.strip().partition(" ")
        if state:
            found.append((job_id, state.removesuffix(" None")))
    return found


class SlurmCluster(JobQueueCluster):
    """Workers as jobs of Slurm; also called ``SLURMCluster``.

    Parameters
    ----------
    job_cpu : int, optional
        CPUs to ask for; default: ``cores``.
    job_mem : str, optional
        Memory to ask for, as ``sbatch --mem`` takes it; default: ``memory``.
    **kwargs
        See :class:`JobQueueCluster`; ``queue`` is the partition.

    Examples
    --------
    >>> cluster = SlurmCluster(cores=8, memory="16 GB", queue="debug", walltime="02:00:00")  # doctest: +SKIP
    >>> cluster.scale(jobs=10)  # doctest: +SKIP
    """

    job_cls = SlurmJob
