"""Performs what the worker's state machine decides: the whole list of what a worker can do to the world. Shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from distributed.base.keys import Key
from distributed.messages.payload import Payload
from distributed.messages.worker_to_scheduler import WorkerToScheduler
from distributed.worker.data_store import DataStore
from distributed.worker.data_transfer import DataTransfer
from distributed.worker.executor import TaskExecutor
from distributed.worker.spilling import Spiller
from distributed.worker.state_machine.instructions import (
    AbortGather,
    CancelExecute,
    Evict,
    Execute,
    GatherDep,
    Instruction,
    RemoveFiles,
    SendToScheduler,
    Spill,
    StopExecute,
    StoreFetched,
    StoreResult,
    Unload,
)


class Effects:
    """The hands of a worker.

    ``results`` (by run id) and ``arrived`` (by peer and key) hold values aside between the event that announces them
    and the instruction to keep them; what is not asked for then is let go of.
    """

    def __init__(
        self,
        executor: TaskExecutor,
        store: DataStore,
        transfer: DataTransfer,
        spiller: Spiller,
        send: Callable[[list[WorkerToScheduler], float], None],
    ) -> None:
        self.executor = executor
        self.store = store
        self.transfer = transfer
        self.spiller = spiller
        self.results: dict[int, Any] = {}
        self.arrived: dict[str, dict[Key, Payload]] = {}
        self.on_result: Callable[[Key, Any], Any] | None = None
        self._send = send

    def perform(self, instructions: list[Instruction]) -> None:
        """Do these, in order."""
        for it in instructions:
            match it:
                case Execute():
                    self.executor.submit(it)
                case StoreResult():
                    self._store_result(it)
                case SendToScheduler():
                    self._send(it.messages, it.patience_s)
                case Evict():
                    for key in it.keys:
                        self.store.discard(key)
                case GatherDep():
                    self.transfer.fetch(it.worker, it.keys)
                case AbortGather():
                    self.transfer.abort(it.worker, it.reason)
                case StoreFetched():
                    self._store_fetched(it)
                case Spill():
                    self.spiller.spill(it.keys, it.number)
                case Unload():
                    for key in it.keys:
                        self.store.unload(key)
                case RemoveFiles():
                    for key in it.keys:
                        self.store.remove_file(key)
                case CancelExecute():
                    self.executor.cancel(it.run_id)
                case StopExecute():
                    self.executor.stop(it.run_id, it.reason, it.interrupt)
                case _:
                    assert_never(it)
        if self.results:
            self.results.clear()
        if self.arrived:
            self.arrived.clear()

    def _store_result(self, it: StoreResult) -> None:
        value = self.results.pop(it.run_id)
        if self.on_result is not None:
            value = self.on_result(it.key, value)
        self.store[it.key] = value

    def _store_fetched(self, it: StoreFetched) -> None:
        arrived = self.arrived.get(it.worker, {})
        for key in it.keys:
            payload = arrived.get(key)
            if payload is not None:
                self.store.seal(key, payload, it.worker)
