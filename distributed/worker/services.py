"""What a worker can be told to do besides tasks: pause, take values, files, calls of actors. A base of
:class:`Worker`. Shell."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from distributed.base.keys import Key
from distributed.base.status import Status
from distributed.messages.actors import ActorCall
from distributed.messages.worker_to_scheduler import WorkerStatus
from distributed.protocol.sizeof import sizeof
from distributed.rpc.connection import Connection
from distributed.worker import remote_calls
from distributed.worker.actor_calls import ActorCalls
from distributed.worker.state_machine.events import DataUpdated, Pause, Unpause
from distributed.worker.tick import Tick


class Services(Tick):
    """Orders to a worker."""

    scheduler: Any
    total_resources: dict[str, float]
    local_directory: str
    actor_calls: ActorCalls

    def _on_first_messages(self, connection: Connection, messages: list[Any]) -> None:
        if type(messages[0]) is ActorCall:
            self.actor_calls.serve(connection, messages)
        else:
            super()._on_first_messages(connection, messages)

    def pause(self) -> None:
        """Start no more tasks for now; those that run go on."""
        self.status = Status.paused
        for extension in self.extensions.values():
            make_room = getattr(extension, "on_memory_short", None)
            if make_room is not None:
                make_room()
        self.handle(Pause())

    def unpause(self) -> None:
        """Start tasks again."""
        self.status = Status.running
        self.handle(Unpause())

    def announce_status(self) -> None:
        """Tell the scheduler the status of now."""
        self.send([WorkerStatus(self.status.name)])

    async def set_resources(self, **resources: float) -> None:
        """Change the capacities of this worker."""
        self.total_resources.update(resources)
        self.state.set_resources(dict(self.total_resources))
        self._act()
        await self.scheduler.set_resources(worker=self.address, resources=dict(self.total_resources))

    def validate_state(self) -> None:
        """Raise if the tables of the state machine contradict each other."""
        self.state.validate()

    def _nbytes_of(self, key: Key) -> int:
        task = self.state.tasks.get(key)
        return -1 if task is None else task.nbytes

    def data_updated(self, nbytes: Mapping[Key, int], report: bool, placed: bool = False) -> None:
        """Values were put into the data store from outside."""
        self.handle(DataUpdated(nbytes, report, placed))

    def update_data(self, data: Mapping[Key, Any], report: bool = True) -> dict[Key, int]:
        """Put values of this process into the data store under these keys."""
        nbytes = {}
        for key, value in data.items():
            self._store[key] = value
            nbytes[key] = sizeof(value)
        self.data_updated(nbytes, report)
        return nbytes

    def upload_file(self, filename: str, data: bytes | str, load: bool = True) -> dict[str, Any]:
        """Write a file into the worker's directory; ``.py``, ``.zip`` and ``.egg`` become importable, with ``load`` at
        once."""
        content = data.encode() if isinstance(data, str) else bytes(data)
        path = remote_calls.save_file(self.local_directory, filename, content)
        remote_calls.make_importable(path)
        if load:
            remote_calls.import_file(path)
        self.executor.forget_functions()
        return {"status": "OK", "nbytes": len(content)}

    def call_stacks(self, keys: Iterable[Key] | None = None) -> dict[Key, list[str]]:
        """Where the threads of running tasks stand: key -> frames as text."""
        wanted = None if keys is None else set(keys)
        frames = sys._current_frames()
        frames.pop(threading.get_ident(), None)  # ours, which holds this dict: a cycle
        return {
            key: traceback.format_stack(frames[ident])
            for ident, key in self.executor.executing_keys().items()
            if ident in frames and (wanted is None or key in wanted)
        }
