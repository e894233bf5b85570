"""A small stage for the scheduler core: build a cluster, let things happen, look at what comes out.

Every message and instruction that comes out must be claimed by the test (``task_at``, ``told``, ``sent``, ...), or the
environment fails at its end. ``validate()`` runs after every event.
"""

from __future__ import annotations

from typing import Any, Self

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import (
    CancelKeys,
    DataScattered,
    ReleaseKeys,
    ReplicaOnWorkers,
    TaskOptions,
    TaskSpec,
    UpdateGraph,
)
from distributed.messages.control import RegisterWorker
from distributed.messages.payload import ErrorInfo, FunctionBlob, Payload
from distributed.messages.scheduler_to_worker import ComputeTask, DefineFunction, FreeKeys, StopRuns
from distributed.messages.worker_to_scheduler import ReplicasAdded, TaskErred, TaskFinished
from distributed.scheduler.state_machine import SchedulerSettings, SchedulerState, TaskState, WorkerState
from distributed.scheduler.state_machine.events import ClientJoined, WorkerJoined, WorkerLost

FUNCTION = FunctionBlob(b"digest", Payload(b"pickle"), "inc")
BOOM = ErrorInfo("ValueError", "boom")


def a_task(key: Key, *dependencies: Key, options: int = 0) -> TaskSpec:
    """A spec whose function is ``inc``."""
    return TaskSpec(key, b"digest", b"args", dependencies, options)


def a_worker(name: str, nthreads: int = 1, **kwargs: Any) -> RegisterWorker:
    """The registration of the worker ``name`` at the address ``tcp://<name>:1`` on the host ``<name>``."""
    return RegisterWorker(f"tcp://{name}:1", name, kwargs.pop("host", name), nthreads, **kwargs)


class TestEnv:
    """A core, its peers, and a clock that moves only when told."""

    __test__ = False

    def __init__(self, workers: dict[str, int] | None = None, clients: str = "c", **settings: Any) -> None:
        # Nobody sends heartbeats here: tests of silence say after how long it counts.
        unwatched = dict.fromkeys(("suspect_s", "lost_s", "lost_alone_s", "worker_ttl_s"))
        self.state = SchedulerState(SchedulerSettings(**{**unwatched, **settings}))
        self.now = 0.0
        self.submission = 0
        self.to_workers: dict[str, list[Any]] = {}
        self.to_clients: dict[str, list[Any]] = {}
        self.instructions: list[Any] = []
        self.transitions: list[Any] = []
        for client in clients:
            self.event(ClientJoined(client), client)
        for name, nthreads in (workers or {}).items():
            self.join(name, nthreads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *args: object) -> None:
        if kind is None:
            self.check_claimed()

    def check_claimed(self) -> None:
        """Fail if anything came out that the test has not looked at."""
        left = {
            **{name: box for name, box in self.to_workers.items() if box},
            **{name: box for name, box in self.to_clients.items() if box},
        }
        assert not left, f"not claimed: {left}"
        assert not self.instructions, f"not claimed: {self.instructions}"

    # Events

    def event(self, event: Any, source: str = "", flush: bool = True) -> None:
        """Something happens; the placing beat follows at once unless told otherwise."""
        self.state.handle(event, source, self.now)
        self.state.validate()
        if flush:
            self.flush()

    def flush(self) -> None:
        self.state.flush(self.now)
        self.state.validate()
        self.collect()

    def collect(self) -> None:
        batch = self.state.outbox.take()
        for address, box in batch.to_workers.items():
            name = address.removeprefix("tcp://").removesuffix(":1")
            self.to_workers.setdefault(name, []).extend([m for m in box if type(m) is not DefineFunction])
        for client, box in batch.to_clients.items():
            self.to_clients.setdefault(client, []).extend(box)
        self.instructions.extend(batch.instructions)
        self.transitions.extend(batch.transitions)

    def wait(self, seconds: float) -> None:
        """Let time pass, and each deadline in it fire."""
        end = self.now + seconds
        for _ in range(100_000):
            deadline = self.state.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.state.handle_deadline(self.now)
            self.state.validate()
            self.collect()
        else:
            raise AssertionError("deadlines do not come to an end")
        self.now = end

    def join(self, name: str, nthreads: int = 1, **kwargs: Any) -> WorkerState:
        info = a_worker(name, nthreads, **kwargs)
        self.event(WorkerJoined(info), info.address)
        return self.worker(name)

    def lose(self, name: str, cause: str = "connection lost") -> None:
        self.event(WorkerLost(f"tcp://{name}:1", cause))

    def submit(
        self, *specs: TaskSpec, client: str = "c", options: list[TaskOptions] | None = None, **kwargs: Any
    ) -> None:
        self.submission += 1
        kwargs.setdefault("fifo_timeout_s", 0.0)
        self.now += 1e-3
        event = UpdateGraph(kwargs.pop("submission", self.submission), list(specs), [FUNCTION], options or [], **kwargs)
        self.event(event, client)

    def finish(
        self, key: Key, name: str | None = None, nbytes: int = 10, duration_s: float = 0.1, **kwargs: Any
    ) -> None:
        """The worker that has the task (or ``name``, with the current run id) reports it done."""
        task = self.task(key)
        address = f"tcp://{name}:1" if name else task.processing_on.address  # type: ignore[union-attr]
        run_id = kwargs.pop("run_id", task.run_id)
        self.event(TaskFinished(key, run_id, nbytes, duration_s, kwargs.pop("type_name", "int"), **kwargs), address)

    def raise_(self, key: Key, error: ErrorInfo = BOOM, retriable: bool = True) -> None:
        """The task raises."""
        task = self.task(key)
        assert task.processing_on is not None
        self.event(TaskErred(key, task.run_id, error, retriable=retriable), task.processing_on.address)

    def release(self, *keys: Key, client: str = "c") -> None:
        self.event(ReleaseKeys(list(keys)), client)

    def cancel(self, *keys: Key, client: str = "c", force: bool = False, reason: str = "cancelled") -> None:
        self.event(CancelKeys(list(keys), force, reason), client)

    def scatter(self, key: Key, *names: str, client: str = "c", nbytes: int = 100) -> None:
        replica = ReplicaOnWorkers(key, tuple([f"tcp://{name}:1" for name in names]), nbytes, "bytes")
        self.event(DataScattered([replica]), client)

    def replica(self, key: Key, name: str, nbytes: int = 10) -> None:
        self.event(ReplicasAdded([(key, nbytes)]), f"tcp://{name}:1")

    # Looking

    def task(self, key: Key) -> TaskState:
        return self.state.tasks[key]

    def states(self) -> dict[Key, str]:
        return {key: task.state for key, task in self.state.tasks.items()}

    def worker(self, name: str) -> WorkerState:
        return self.state.workers[f"tcp://{name}:1"]

    def where(self, key: Key) -> str:
        """Name of the worker that the task is assigned to."""
        ws = self.task(key).processing_on
        assert ws is not None, self.task(key)
        return str(ws.name)

    def holders(self, key: Key) -> list[str]:
        return [str(ws.name) for ws in self.task(key).who_has]

    # Claiming

    def sent(self, name: str) -> list[Any]:
        """Take all messages to a worker."""
        return self.to_workers.pop(name, [])

    def told(self, client: str = "c") -> list[Any]:
        """Take all messages to a client."""
        return self.to_clients.pop(client, [])

    def computes(self, name: str) -> list[ComputeTask]:
        """Take the messages to a worker, which must all be ComputeTask."""
        box = self.sent(name)
        assert all(type(m) is ComputeTask for m in box), box
        return box

    def computed_keys(self, name: str) -> list[Key]:
        return [m.key for m in self.computes(name)]

    def freed(self, name: str) -> list[Key]:
        """Take the messages to a worker, which must all be FreeKeys (StopRuns go along); the keys in them."""
        box = [m for m in self.sent(name) if type(m) is not StopRuns]
        assert all(type(m) is FreeKeys for m in box), box
        return [key for m in box for key in m.keys]

    def instructed(self) -> list[Any]:
        """Take all instructions to the shell."""
        taken, self.instructions = self.instructions, []
        return taken

    def ignore_all(self) -> None:
        """Take everything, unseen: what came before does not matter to the test."""
        self.to_workers.clear()
        self.to_clients.clear()
        self.instructions.clear()
