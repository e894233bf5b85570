"""Clusters: starting, scaling and ending a scheduler and its workers together. Names are loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed.deploy.adaptive import Adaptive
    from distributed.deploy.cluster import Cluster
    from distributed.deploy.local import LocalCluster
    from distributed.deploy.spec import ProcessInterface, SpecCluster

__all__ = ["Adaptive", "Cluster", "LocalCluster", "ProcessInterface", "SpecCluster"]

_HOMES = {
    "Adaptive": "distributed.deploy.adaptive",
    "Cluster": "distributed.deploy.cluster",
    "LocalCluster": "distributed.deploy.local",
    "ProcessInterface": "distributed.deploy.spec",
    "SpecCluster": "distributed.deploy.spec",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value
