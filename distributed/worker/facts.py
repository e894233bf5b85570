"""What a worker tells of itself: to users, to plugins, to its logs. Views, made when they are read. A base of
:class:`Worker`."""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from distributed.base import preloading
from distributed.base.errors import CommClosedError
from distributed.base.keys import Key, user_key
from distributed.base.log_tail import LogTail
from distributed.client import current as client_room
from distributed.rpc.connection import Connection
from distributed.rpc.server import Server
from distributed.worker import memory
from distributed.worker.data_service import DataService
from distributed.worker.data_store import DataStore
from distributed.worker.data_transfer import DataTransfer
from distributed.worker.executor import TaskExecutor
from distributed.worker.member_link import MemberLink
from distributed.worker.plugin_host import PluginHost
from distributed.worker.runtime import get_task_key
from distributed.worker.state_machine.state import WorkerState


class Facts(Server):
    """A worker, to be read."""

    state: WorkerState
    executor: TaskExecutor
    data: DataStore | MutableMapping[Any, Any]
    data_service: DataService
    transfer: DataTransfer
    plugin_host: PluginHost
    nthreads: int
    memory_limit: int | None
    scheduler_address: str | None
    last_metrics: Mapping[str, Any]
    actors: dict[Key, Any]
    extensions: dict[str, Any]
    link: MemberLink
    _store: DataStore
    _preloads: list[preloading.Preload]
    _log_tail: LogTail
    _web: Any

    @property
    def name(self) -> Any:
        """What users call it; its address when they gave no name."""
        return self._name if self._name is not None else (self.address if self.listeners else None)

    @name.setter
    def name(self, value: Any) -> None:
        self._name = value

    @property
    def worker_address(self) -> str:
        return self.address

    @property
    def plugins(self) -> dict[str, Any]:
        """Plugins by name."""
        return self.plugin_host.plugins

    @property
    def connection(self) -> Connection:
        """The connection to the scheduler. Raises ``ValueError`` before there is one, CommClosedError while it is
        broken."""
        connection = self.link.connection
        if connection is None:
            if self.link.down_since is not None:
                raise CommClosedError(f"{self!r} has lost the scheduler, and is looking for it")
            raise ValueError(f"{self!r} is not connected to a scheduler")
        return connection

    @property
    def client(self) -> Any:
        """The client that all tasks of this worker share; made when first asked for."""
        return self._get_client()

    def _get_client(self, timeout: float | None = None) -> Any:
        return client_room.client_of_worker(self, timeout)

    @property
    def active_threads(self) -> dict[int, Any]:
        """Key of the running task by thread ident."""
        return {ident: user_key(key) for ident, key in self.executor.executing_keys().items()}

    @property
    def executing_count(self) -> int:
        return self.state.counts()["executing"]

    @property
    def preloads(self) -> list[preloading.Preload]:
        """What was loaded before the start."""
        return self._preloads

    @property
    def store(self) -> DataStore:
        """All values, wherever they are."""
        return self._store

    @property
    def memory_manager(self) -> memory.MemoryLimit:
        """Tells the memory limit."""
        return memory.MemoryLimit(self.memory_limit or None)

    @property
    def http_server(self) -> Any:
        """The server of web pages; None when there is none."""
        return self._web

    @property
    def executors(self) -> dict[str, Any]:
        """Named executors."""
        return {"default": self.executor, **self.executor.executors}

    def get_current_task(self) -> Any:
        """The key of the task that calls this."""
        key = get_task_key()
        if key is None:
            raise ValueError("get_current_task() was called outside of a task")
        return key

    def __repr__(self) -> str:
        name = f", name: {self._name}" if self._name is not None and self._name != self.address_safe else ""
        counts = self.state.counts()
        return (
            f"<Worker {self.address_safe!r}{name}, status: {self.status.name}, stored: {len(self.data)}, "
            f"running: {counts['executing']}/{self.nthreads}, ready: {counts['ready']}, comm: {counts['flight']}, "
            f"waiting: {self.state.n_waiting}>"
        )

    def identity(self) -> dict[str, Any]:
        return {
            "type": type(self).__name__,
            "id": self.name,
            "scheduler": self.scheduler_address,
            "nthreads": self.nthreads,
            "memory_limit": self.memory_limit,
        }

    def get_logs(self, start: float = 0, n: int | None = None, timestamps: bool = False) -> list[tuple[Any, ...]]:
        """The last ``n`` lines of the workers' log in this process, as ``(level, text)``; see ``LogTail.last``."""
        return self._log_tail.last(start, n, timestamps)

    def metrics(self) -> dict[str, Any]:
        """What the scheduler is told of this worker with each heartbeat."""
        counts = self.state.counts()
        return {
            "task_counts": counts,
            "executing": counts["executing"],
            "in_memory": counts["memory"],
            "ready": counts["ready"],
            "in_flight": counts["flight"],
            "managed_bytes": self.state.managed_nbytes,
            "spilled_bytes": {
                "memory": self.state.spilling.absent_nbytes,
                "disk": self.state.spilling.disk_nbytes,
                "shuffles": sum([getattr(it, "nbytes_on_disk", 0) for it in self.extensions.values()]),
            },
            "transfer": {
                "incoming_bytes_total": self.transfer.bytes_received,
                "outgoing_bytes_total": self.data_service.bytes_sent,
            },
            "time": time.time(),
            **memory.process_sample(),
        }
