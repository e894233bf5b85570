"""Where low rooms meet high ones: names of default implementations, loaded when first asked for, and hooks.

``Client()`` without an address starts a ``LocalCluster``; a ``Future`` that is unpickled in a task finds its worker's
client. Neither room may import the other, so the low one asks here. Names are strings, so nothing is imported early.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

TABLE = {
    "Client": "distributed.client:Client",
    "Future": "distributed.client:Future",
    "LocalCluster": "distributed.deploy.local:LocalCluster",
    "SpecCluster": "distributed.deploy:SpecCluster",
    "Cluster": "distributed.deploy:Cluster",
    "Scheduler": "distributed.scheduler:Scheduler",
    "Worker": "distributed.worker:Worker",
    "Nanny": "distributed.nanny:Nanny",
    "get_client": "distributed.client:get_client",
    "get_worker": "distributed.worker:get_worker",
    "secede": "distributed.worker:secede",
    "rejoin": "distributed.worker:rejoin",
    "worker_client": "distributed.client:worker_client",
}

# What every scheduler and every worker is extended with: name -> what makes it of the server.
SCHEDULER_EXTENSIONS = {
    "amm": "distributed.scheduler.active_memory:ActiveMemoryManagerExtension",
    "coordination": "distributed.coordination.extension:Coordination",
    "shuffle": "distributed.shuffle.scheduler_half:ShuffleSchedulerPlugin",
}
WORKER_EXTENSIONS = {"shuffle": "distributed.shuffle.worker_half:ShuffleWorkerPlugin"}

# Operations that are seldom asked for: name -> a function whose first argument is the server.
SCHEDULER_OPERATIONS = {
    "benchmark_hardware": "distributed.diagnostics.hardware:benchmark",
    "dump_cluster_state": "distributed.diagnostics.cluster_dump:dump_of_cluster",
    "dump_cluster_state_to_url": "distributed.diagnostics.cluster_dump:write_on_scheduler",
    "get_runspec": "distributed.diagnostics.recreate:spec_of",
    "get_task_stream": "distributed.diagnostics.task_stream:get_task_stream_of",
    "memory_sampler_start": "distributed.diagnostics.memory_sampler:start_on",
    "memory_sampler_stop": "distributed.diagnostics.memory_sampler:stop_on",
    "profile": "distributed.diagnostics.profiles:profile_of_workers",
    "spans": "distributed.diagnostics.spans:summary",
}
WORKER_OPERATIONS = {
    "benchmark_disk": "distributed.diagnostics.hardware:disk_of_worker",
    "benchmark_memory": "distributed.diagnostics.hardware:memory_of_worker",
    "benchmark_network": "distributed.diagnostics.hardware:network_of_worker",
    "dump_state": "distributed.diagnostics.cluster_dump:dump_of_worker",
    "profile": "distributed.diagnostics.profiles:profile_of_worker",
}

# What makes something of an annotation of tasks: loaded, and called with the scheduler, when the first such task comes.
ON_ANNOTATION = {"span": "distributed.diagnostics.spans:start_spans"}


def operations(table: dict[str, str], server: Any) -> dict[str, Callable[..., Any]]:
    """Handlers of the operations in ``table``, each loaded when it is first asked for."""
    return {op: functools.partial(_call, target, server) for op, target in table.items()}


def _call(target: str, server: Any, **kwargs: Any) -> Any:
    return load(target)(server, **kwargs)


def load(name: str) -> Any:
    """The object that :data:`TABLE` gives for ``name``; also takes a ``module:attribute`` or ``module.attribute``
    directly.

    Raises ``ImportError`` that names what could not be found.
    """
    target = TABLE.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not colon:
        module_name, _, attribute = target.rpartition(".")
    if not module_name:
        raise ImportError(f"no default implementation is called {name!r}; known: {', '.join(sorted(TABLE))}")
    try:
        value: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            if not colon and not hasattr(value, part):
                value = importlib.import_module(target)  # the name of a module that nobody has loaded yet
                break
            value = getattr(value, part)
    except (AttributeError, ModuleNotFoundError) as e:
        if isinstance(e, ModuleNotFoundError) and e.name != target:
            raise
        raise ImportError(f"{module_name!r} has no {attribute!r}") from None
    return value


class Hook(Generic[T]):
    """A process-wide place that a high room fills and a low room asks."""

    __slots__ = ("_default", "_value", "name")

    def __init__(self, name: str, default: T) -> None:
        self.name = name
        self._default = default
        self._value = default

    def set(self, value: T) -> None:
        """Fill it; the last one wins."""
        self._value = value

    def get(self) -> T:
        """What was set last, or the default."""
        return self._value

    def reset(self) -> None:
        """Back to the default."""
        self._value = self._default

    def __repr__(self) -> str:
        return f"<Hook {self.name}: {self._value!r}>"


def _nothing() -> Any:
    return None


# Each holds a function without arguments that answers for the calling thread (or coroutine), or None.
current_worker: Hook[Callable[[], Any]] = Hook("current_worker", _nothing)
current_client_of_worker: Hook[Callable[[], Any]] = Hook("current_client_of_worker", _nothing)
current_task_key: Hook[Callable[[], Any]] = Hook("current_task_key", _nothing)

_HOOKS: dict[str, Hook[Any]] = {
    hook.name: hook for hook in (current_worker, current_client_of_worker, current_task_key)
}


def get_hook(name: str) -> Any:
    """What was set under ``name`` last; None when nothing was."""
    hook = _HOOKS.get(name)
    return None if hook is None else hook.get()


def set_hook(name: str, value: Any) -> None:
    """Fill the place ``name``, which is made when it is new."""
    _HOOKS.setdefault(name, Hook(name, None)).set(value)
