"""Old addresses: module paths that other people's code imports and that are not rooms of this house.

ONE table, upstream path -> our module, served by an import hook when somebody asks. ``dask.distributed.X`` is served
too, always as the very same module object as ``distributed.X``. This module imports nothing of the house.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

TABLE = {
    "distributed._signals": "distributed.upstream.signals",
    "distributed.active_memory_manager": "distributed.scheduler.active_memory",
    "distributed.actor": "distributed.client.actor",
    "distributed.cfexecutor": "distributed.client.executor",
    "distributed.chaos": "distributed.plugins.chaos",
    "distributed.collections": "distributed.upstream.collections",
    "distributed.cluster_dump": "distributed.diagnostics.cluster_dump",
    "distributed.profile": "distributed.upstream.profile",
    "distributed.comm.utils": "distributed.comm.buffer_lists",
    "distributed.compatibility": "distributed.upstream.compatibility",
    "distributed.config": "distributed.upstream.config",
    "distributed.core": "distributed.upstream.core",
    "distributed.deploy.adaptive_core": "distributed.deploy.adaptive",
    "distributed.diagnostics.plugin": "distributed.plugins",
    "distributed.event": "distributed.coordination.event",
    "distributed.exceptions": "distributed.base.errors",
    "distributed.itertools": "distributed.upstream.itertools",
    "distributed.lock": "distributed.coordination.lock",
    "distributed.metrics": "distributed.upstream.metrics",
    "distributed.mpi": "distributed.deploy.mpi",
    "distributed.multi_lock": "distributed.coordination.multi_lock",
    "distributed.objects": "distributed.upstream.objects",
    "distributed.preloading": "distributed.upstream.preloading",
    "distributed.proctitle": "distributed.upstream.proctitle",
    "distributed.protocol.core": "distributed.protocol.message_frames",
    "distributed.protocol.cuda": "distributed.protocol.families",
    "distributed.protocol.numpy": "distributed.protocol.numpy_family",
    "distributed.protocol.utils": "distributed.protocol.frame_lists",
    "distributed.publish": "distributed.client.datasets",
    "distributed.pubsub": "distributed.coordination.pubsub",
    "distributed.queues": "distributed.coordination.queues",
    "distributed.security": "distributed.comm.security",
    "distributed.semaphore": "distributed.coordination.semaphore",
    "distributed.recreate_tasks": "distributed.diagnostics.recreate",
    "distributed.sizeof": "distributed.protocol.sizeof",
    "distributed.spans": "distributed.diagnostics.spans",
    "distributed.system": "distributed.deploy.utils",
    "distributed.system_monitor": "distributed.upstream.system_monitor",
    "distributed.threadpoolexecutor": "distributed.worker.runtime",
    "distributed.utils": "distributed.upstream.utils",
    "distributed.utils_comm": "distributed.upstream.utils_comm",
    "distributed.utils_test": "distributed.testing",
    "distributed.variable": "distributed.coordination.variable",
    "distributed.versions": "distributed.upstream.versions",
    "distributed.worker_client": "distributed.client.current",
    "distributed.worker_memory": "distributed.worker.memory",
    "distributed.worker_state_machine": "distributed.upstream.worker_state_machine",
}
_DASK_PREFIX = "dask.distributed."


def is_alias(name: str) -> bool:
    """Whether ``name`` is an old address with a new one."""
    return name in TABLE


class _Loader:
    """Hands out the module that lives at another path, untouched."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.target)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Finder:
    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.startswith(_DASK_PREFIX):
            own = "distributed." + fullname[len(_DASK_PREFIX) :]
            return importlib.util.spec_from_loader(fullname, _Loader(TABLE.get(own, own)))  # type: ignore[arg-type]
        home = TABLE.get(fullname)
        if home is None:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(home))  # type: ignore[arg-type]


def install() -> None:
    """Put the hook before the path finders; harmless when called again."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
