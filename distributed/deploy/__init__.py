"""Clusters: starting, scaling and ending a scheduler and its workers together. Names are loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.base.lazy import lazy_names

if TYPE_CHECKING:
    from distributed.deploy.adaptive import Adaptive
    from distributed.deploy.cluster import Cluster
    from distributed.deploy.kubernetes import KubeCluster
    from distributed.deploy.local import LocalCluster
    from distributed.deploy.queues import (
        HTCondorCluster,
        JobQueueCluster,
        PBSCluster,
        SGECluster,
        SLURMCluster,
        SlurmCluster,
    )
    from distributed.deploy.ray import RayCluster
    from distributed.deploy.spec import ProcessInterface, SpecCluster
    from distributed.deploy.ssh import SSHCluster
    from distributed.deploy.subprocess import SubprocessCluster

__all__ = ["Adaptive", "Cluster", "HTCondorCluster", "JobQueueCluster", "KubeCluster", "LocalCluster",
           "PBSCluster", "ProcessInterface", "RayCluster", "SGECluster", "SLURMCluster", "SSHCluster", "SlurmCluster",
           "SpecCluster", "SubprocessCluster"]  # fmt: skip

_HOMES = {
    "Adaptive": "distributed.deploy.adaptive",
    "Cluster": "distributed.deploy.cluster",
    "HTCondorCluster": "distributed.deploy.queues",
    "JobQueueCluster": "distributed.deploy.queues",
    "KubeCluster": "distributed.deploy.kubernetes",
    "LocalCluster": "distributed.deploy.local",
    "PBSCluster": "distributed.deploy.queues",
    "ProcessInterface": "distributed.deploy.spec",
    "RayCluster": "distributed.deploy.ray",
    "SGECluster": "distributed.deploy.queues",
    "SLURMCluster": "distributed.deploy.queues",
    "SSHCluster": "distributed.deploy.ssh",
    "SlurmCluster": "distributed.deploy.queues",
    "SpecCluster": "distributed.deploy.spec",
    "SubprocessCluster": "distributed.deploy.subprocess",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
