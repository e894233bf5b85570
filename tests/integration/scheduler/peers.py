"""Peers of a scheduler that are nothing but a connection: what they send is written down, what they get is kept."""

from __future__ import annotations

from typing import Any

from distributed.messages.client_to_scheduler import ClientClosing, TaskSpec, UpdateGraph
from distributed.messages.control import RegisterClient, Registered, RegisterNanny, RegisterWorker
from distributed.messages.payload import FunctionBlob, Payload
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, ComputeTask, DefineFunction, FreeKeys
from distributed.messages.worker_to_scheduler import TaskFinished, WorkerClosing
from distributed.rpc.pool import connect
from distributed.rpc.session import SessionLink
from tests.integration.comm.loops import until

INC = FunctionBlob(b"digest-of-inc", Payload(b"pickle of inc, never opened"), "inc")


class Peer:
    """One connection with everything that came over it."""

    role = "client"
    # False: over a real socket, although both ends are in one process.
    shortcuts = True

    def __init__(self, scheduler: Any, **handlers: Any) -> None:
        self.scheduler = scheduler
        self.got: list[Any] = []
        self.handlers: dict[str, Any] = dict(handlers)
        self.lost = False
        self.connection: Any = None

    async def __aenter__(self):
        self.connection = await connect(
            self.scheduler.address,
            5,
            role=self.role,
            handlers=self.handlers,
            on_messages=self._on_messages,
            on_closed=self._on_closed,
            shortcuts=self.shortcuts,
        )
        self.connection.send(self.first_message())
        await until(lambda: self.got or self.lost)
        return self

    async def __aexit__(self, *exc):
        await self.connection.close()

    def first_message(self) -> Any:
        raise NotImplementedError

    def _on_messages(self, messages: list[Any]) -> None:
        self.got.extend(messages)
        for message in messages:
            self.react(message)

    def _on_closed(self, error: Any) -> None:
        self.lost = True

    def react(self, message: Any) -> None:
        pass

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.got if type(message) is kind]

    def send(self, *messages: Any) -> None:
        self.connection.send_many(messages)

    async def ask(self, op: str, **kwargs: Any) -> Any:
        return await self.connection.request(op, kwargs, 10)


class FakeWorker(Peer):
    """Finishes every task at once (``lazy``: never), with a result of 10 bytes."""

    role = "worker"

    def __init__(self, scheduler, number=1, name=None, nthreads=1, lazy=False, obedient=True, info=None, **handlers):
        super().__init__(scheduler, **handlers)
        self.address = f"tcp://127.0.0.1:{number}"
        self.name = name or f"w{number}"
        self.nthreads = nthreads
        self.lazy = lazy
        self.obedient = obedient
        self.info = info or {}
        self.data: dict[Any, Payload] = {}
        self.functions: set[bytes] = set()
        self.batches: list[int] = []
        self.handlers.setdefault("get_data", self.get_data)
        self.handlers.setdefault("update_data", self.update_data)

    def first_message(self):
        return RegisterWorker(self.address, self.name, "127.0.0.1", self.nthreads, 1000, **self.info)

    def get_data(self, keys, who="", borrows=False):
        return {key: self.data[key] for key in keys if key in self.data}

    def update_data(self, data, after=None, placed=False):
        self.data.update(data)
        return {"status": "OK"}

    def _on_messages(self, messages):
        self.batches.append(len(messages))
        super()._on_messages(messages)

    def react(self, message):
        match message:
            case DefineFunction():
                assert message.blob.digest not in self.functions
                self.functions.add(message.blob.digest)
            case ComputeTask() if not self.lazy:
                assert not message.function or message.function in self.functions
                self.finish(message)
            case FreeKeys():
                for key in message.keys:
                    self.data.pop(key, None)
            case CloseWorkerOrder() if self.obedient:
                self.send(WorkerClosing(message.reason))
            case _:
                pass

    def finish(self, task: ComputeTask) -> None:
        value = Payload(f"value of {task.key}".encode())
        self.data[task.key] = value
        self.send(TaskFinished(task.key, task.run_id, 10, 0.001, "int", value if task.wanted else None, 1.0, 7))


class FakeClient(Peer):
    """Submits tasks of the function INC."""

    role = "client"

    def __init__(self, scheduler, name="client-1", **kwargs):
        super().__init__(scheduler)
        self.name = name
        self.kwargs = kwargs
        self.number = 0
        self.link = SessionLink()

    def first_message(self):
        return RegisterClient(self.name, **self.kwargs)

    async def __aenter__(self):
        await super().__aenter__()
        self.begin()
        return self

    async def __aexit__(self, *exc):
        if not self.connection.closed:
            self.send(ClientClosing())
        await super().__aexit__(*exc)

    def begin(self):
        """Registered: from now on messages have numbers."""
        rest, self.got = self.got[1:], self.got[:1]
        if type(self.got[0]) is not Registered:
            return
        self.link.id = self.got[0].session
        self.link.attach(self.connection, self.got[0].applied)
        if rest:
            super()._on_messages(self.link.receive(self.connection, rest))

    def _on_messages(self, messages):
        if self.link.connection is not None:
            messages = self.link.receive(self.connection, messages)
        super()._on_messages(messages)

    def send(self, *messages: Any) -> None:
        self.link.send(list(messages))

    def submit(self, *keys: Any, **kwargs: Any) -> None:
        self.number += 1
        tasks = [TaskSpec(key, INC.digest, Payload(b"arguments")) for key in keys]
        self.send(UpdateGraph(self.number, tasks, [INC], **kwargs))


class FakeNanny(Peer):
    """Answers what the test tells it to."""

    role = "nanny"

    def __init__(self, scheduler, address="tcp://127.0.0.1:900", **handlers):
        super().__init__(scheduler, **handlers)
        self.address = address

    def first_message(self):
        return RegisterNanny(self.address, "nanny")
