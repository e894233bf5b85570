"""Clusters: starting, scaling and ending a scheduler and its workers together."""

from distributed.deploy.adaptive import Adaptive
from distributed.deploy.cluster import Cluster
from distributed.deploy.local import LocalCluster
from distributed.deploy.spec import ProcessInterface, SpecCluster

__all__ = ["Adaptive", "Cluster", "LocalCluster", "ProcessInterface", "SpecCluster"]
