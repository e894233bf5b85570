"""A distributed task engine for Python.

Futures, task graphs and data on many processes and machines, under the names that users of dask.distributed know. Every
public name is loaded when it is first used (PEP 562), so that ``import distributed`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from distributed import _aliases
from distributed._version import __version__
from distributed.base import settings as _settings

_aliases.install()
_settings.register_when_dask_loads()  # our defaults join dask.config when somebody loads that

# public name -> the module that defines it
_HOMES = {
    "Actor": "distributed.client.actor",
    "ActorFuture": "distributed.client.actor",
    "BaseActorFuture": "distributed.client.actor",
    "Adaptive": "distributed.deploy",
    "CancelledError": "distributed.base.errors",
    "Client": "distributed.client",
    "CommClosedError": "distributed.base.errors",
    "CompatibleExecutor": "distributed.client.executor",
    "CondaInstall": "distributed.plugins",
    "DataLostError": "distributed.base.errors",
    "DeserializeError": "distributed.base.errors",
    "Environ": "distributed.plugins",
    "Event": "distributed.coordination",
    "Executor": "distributed.client",
    "ForwardOutput": "distributed.plugins",
    "Future": "distributed.client",
    "FutureCancelledError": "distributed.base.errors",
    "HandshakeRefused": "distributed.base.errors",
    "InstallPlugin": "distributed.plugins",
    "KilledWorker": "distributed.base.errors",
    "LocalCluster": "distributed.deploy",
    "Lock": "distributed.coordination",
    "MemorySampler": "distributed.diagnostics",
    "MultiLock": "distributed.coordination",
    "Nanny": "distributed.nanny",
    "NannyPlugin": "distributed.plugins",
    "NoValidWorkerError": "distributed.base.errors",
    "NoWorkerError": "distributed.base.errors",
    "PipInstall": "distributed.plugins",
    "Pub": "distributed.coordination",
    "Queue": "distributed.coordination",
    "RemoteError": "distributed.base.errors",
    "Retry": "distributed.client.retry",
    "Reschedule": "distributed.base.errors",
    "Scheduler": "distributed.scheduler",
    "SchedulerPlugin": "distributed.plugins",
    "Security": "distributed.comm.security",
    "Semaphore": "distributed.coordination",
    "SerializationError": "distributed.base.errors",
    "Span": "distributed.diagnostics",
    "SSHCluster": "distributed.deploy",
    "SpecCluster": "distributed.deploy",
    "SubprocessCluster": "distributed.deploy",
    "Status": "distributed.base.status",
    "Sub": "distributed.coordination",
    "TaskCancelled": "distributed.base.errors",
    "TaskExited": "distributed.base.errors",
    "TaskProcessDied": "distributed.base.errors",
    "TaskTimeoutError": "distributed.base.errors",
    "TimeoutError": "distributed.base.errors",
    "UploadDirectory": "distributed.plugins",
    "UploadFile": "distributed.plugins",
    "Variable": "distributed.coordination",
    "Worker": "distributed.worker",
    "WorkerPlugin": "distributed.plugins",
    "WorkerStartTimeoutError": "distributed.base.errors",
    "as_completed": "distributed.client",
    "connect": "distributed.comm",
    "current_task_cancelled": "distributed.worker.runtime",
    "default_client": "distributed.client",
    "fire_and_forget": "distributed.client",
    "futures_of": "distributed.client",
    "get_client": "distributed.client",
    "get_task_metadata": "distributed.diagnostics",
    "get_task_stream": "distributed.diagnostics",
    "get_worker": "distributed.worker",
    "local_client": "distributed.client",
    "performance_report": "distributed.diagnostics",
    "print": "distributed.worker",
    "progress": "distributed.diagnostics",
    "rejoin": "distributed.worker",
    "secede": "distributed.worker",
    "span": "distributed.diagnostics",
    "wait": "distributed.client",
    "warn": "distributed.worker",
    "worker_client": "distributed.client",
}
_ROOMS = frozenset(
    [
        "cli",
        "client",
        "comm",
        "coordination",
        "deploy",
        "diagnostics",
        "http",
        "nanny",
        "plugins",
        "protocol",
        "rpc",
        "scheduler",
        "shuffle",
        "testing",
        "worker",
    ]
)

__all__ = ["__version__", *sorted([*_HOMES, "rpc"])]


class _Package(ModuleType):
    """This package: loading the old address ``distributed.worker_client`` does not hide the function of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOMES):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """By name, as any module: picklers know modules by their exact type."""
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value
    if name == "config":
        import dask

        return dask.config.config
    if name in _ROOMS or _aliases.is_alias(f"distributed.{name}"):
        return importlib.import_module(f"distributed.{name}")
    raise AttributeError(f"module 'distributed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})
