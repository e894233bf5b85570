"""Clusters whose workers are jobs of a batch system: Slurm, Grid Engine, HTCondor, PBS. Names are loaded when first
used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.base.lazy import lazy_names

if TYPE_CHECKING:
    from distributed.deploy.queues.cluster import JobQueueCluster
    from distributed.deploy.queues.htcondor import HTCondorCluster, HTCondorJob
    from distributed.deploy.queues.job import Job
    from distributed.deploy.queues.pbs import PBSCluster, PBSJob
    from distributed.deploy.queues.sge import SGECluster, SGEJob
    from distributed.deploy.queues.slurm import SlurmCluster, SlurmJob

    SLURMCluster = SlurmCluster

__all__ = ["HTCondorCluster", "HTCondorJob", "Job", "JobQueueCluster", "PBSCluster", "PBSJob", "SGECluster", "SGEJob",
           "SLURMCluster", "SlurmCluster", "SlurmJob"]  # fmt: skip

_HOMES = {
    "HTCondorCluster": "distributed.deploy.queues.htcondor",
    "HTCondorJob": "distributed.deploy.queues.htcondor",
    "Job": "distributed.deploy.queues.job",
    "JobQueueCluster": "distributed.deploy.queues.cluster",
    "PBSCluster": "distributed.deploy.queues.pbs",
    "PBSJob": "distributed.deploy.queues.pbs",
    "SGECluster": "distributed.deploy.queues.sge",
    "SGEJob": "distributed.deploy.queues.sge",
    "SLURMCluster": "distributed.deploy.queues.slurm:SlurmCluster",
    "SlurmCluster": "distributed.deploy.queues.slurm",
    "SlurmJob": "distributed.deploy.queues.slurm",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
