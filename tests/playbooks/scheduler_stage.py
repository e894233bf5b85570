"""The stage of the scheduler core: lines become events, what comes out becomes text.

=================================================================== =================================================
c joins | leaves | closes | vanishes                                a client
c submits x y(x) z(x,y) retries=1 resources=GPU:1 workers=a,b       ``+loose`` ``+actor`` ``priority=1`` ``wanted=z``
                                                                    ``submission=5`` ``+more``: not its last part
c wants | releases | cancels | retries | fires x y                  cancels: ``+force``
c scatters x on=a,b nbytes=100
a joins threads=2 resources=GPU:1 nanny=n host=h                    a worker, whose address is ``tcp://a:1``
a finishes x nbytes=10 duration=0.1                                 ``+unshippable``; ``x#1`` names a run
a fails x | reschedules x | secedes x | gives x | keeps x           fails: ``+for-good``; gives, keeps: a steal
a has x | drops x | misses x at=b | asks x                          replicas
a is paused | beats x=1.5 | closes | vanishes                       beats: seconds that x has run
n reports a signal=9 executing=x                                    the nanny of a: its process has ended
n vouches a state=running executing=x                               ... its process lives, its loop is silent
operator restarts | retires a timeout=5 | moves x to=b drop=a | rebalances | replicates x n=2 | threads a 2
operator resources a GPU:1
operator pins x=a y=none | recomputes x                             what the tables of shuffles ask for
time passes 0.5                                                     seconds, with all deadlines in them
why x                                                               asks the core; the answer comes out
=================================================================== =================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from distributed.messages.client_to_scheduler import (
    CancelKeys,
    ClientClosing,
    DataScattered,
    FireAndForget,
    ReleaseKeys,
    ReplicaOnWorkers,
    RetryKeys,
    TaskOptions,
    TaskSpec,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.control import RegisterWorker
from distributed.messages.nanny import WorkerProcessExited, WorkerVouched
from distributed.messages.payload import ErrorInfo, FunctionBlob, Payload
from distributed.messages.scheduler_to_worker import DefineFunction
from distributed.messages.worker_to_scheduler import (
    Heartbeat,
    MissingData,
    ReplicasAdded,
    ReplicasDropped,
    StealResponse,
    TaskErred,
    TaskFinished,
    TaskLongRunning,
    TaskRescheduled,
    WhoHas,
    WorkerClosing,
    WorkerStatus,
)
from distributed.scheduler.state_machine import SchedulerSettings, SchedulerState, TaskState, WorkerState
from distributed.scheduler.state_machine import events as ev
from distributed.scheduler.state_machine.data_plans import plan_rebalance, plan_replicate
from distributed.scheduler.state_machine.transitions import STATES
from tests.playbooks.notation import BadPlaybook, Line, address, call_of, line_of, message, run_of, show
from tests.playbooks.stage import Stage, Steps

FUNCTION = FunctionBlob(b"f", Payload(b"pickle"), "f")
BOOM = ErrorInfo("ValueError", "boom")
CANNOT_PICKLE = ErrorInfo("TypeError", "cannot be pickled")


class SchedulerStage(Stage):
    """One core and its cast: ``clients``, ``workers`` (with what their joining says), ``settings``."""

    def __init__(self, cast: dict[str, str]) -> None:
        known = {field.name for field in fields(SchedulerSettings)}
        given = dict(item.split("=") for item in cast.get("settings", "").split())
        if given.keys() - known:
            raise BadPlaybook(f"no such settings: {given.keys() - known}")
        values: dict[str, Any] = {n: None if v == "none" else type_of(v) for n, v in given.items()}
        silence = dict.fromkeys(("suspect_s", "lost_s", "lost_alone_s", "worker_ttl_s"))  # unless the cast says
        super().__init__(SchedulerState(SchedulerSettings(**{**silence, **values})))
        self.submission = 0
        self.clients = cast.get("clients", "c").split()
        for client in self.clients:
            self.handle(ev.ClientJoined(client), client)
        for worker in cast.get("workers", "").split():
            name, words = call_of(worker)
            self.perform(line_of(" ".join([name, "joins", *words])))
        self.flush()
        if self.collected:
            raise BadPlaybook(f"the cast comes in with a noise: {self.collected}")

    # Events

    def handle(self, event: Any, source: str = "") -> None:
        self.state.handle(event, source, self.now)
        self.state.validate()

    def flush(self) -> None:
        self.state.flush(self.now)
        self.state.validate()
        self.collect()

    def perform(self, line: Line) -> None:
        match line.who, line.verb:
            case "time", "passes":
                self.flush()
                self.wait(float(line.names[0]))
            case "why", key:
                self.flush()
                self.asked.append(f"{key}: {show(self.state.explain(key).text)}")
            case "operator", _:
                self.operate(line)
            case _, "reports" | "vouches":
                self.nanny(line)
            case client, _ if client in self.clients:
                self.handle(self.of_client(line), client)
            case worker, _:
                self.handle(self.of_worker(line, address(worker)), address(worker))

    def of_client(self, line: Line) -> Any:
        match line.verb:
            case "submits":
                return self.graph(line)
            case "wants":
                return WantKeys(list(line.names))
            case "releases":
                return ReleaseKeys(list(line.names))
            case "cancels":
                return CancelKeys(list(line.names), line.flag("force"), "cancelled")
            case "retries":
                return RetryKeys(list(line.names))
            case "fires":
                return FireAndForget(list(line.names))
            case "scatters":
                on = tuple([address(name) for name in line.items("on")])
                nbytes = int(line.number("nbytes", 100))
                return DataScattered([ReplicaOnWorkers(key, on, nbytes) for key in line.names])
            case "joins":
                return ev.ClientJoined(line.who)
            case "leaves":
                return ev.ClientLeft(line.who)
            case "vanishes":
                return ev.ClientLost(line.who)
            case "closes":
                return ClientClosing()
        raise BadPlaybook(f"{line.text!r}: a client does no such thing")

    def graph(self, line: Line) -> UpdateGraph:
        self.submission += 1
        specs = [TaskSpec(key, b"f", b"p", tuple(needs)) for key, needs in map(call_of, line.names)]
        options = TaskOptions(
            line.number("priority", 0),
            int(line.number("retries", 0)),
            tuple(line.items("workers")) or None,
            line.flag("loose"),
            line.amounts("resources") or None,
            line.flag("actor"),
        )
        return UpdateGraph(
            int(line.number("submission", self.submission)),
            specs,
            [FUNCTION],
            [options] if options != TaskOptions() else [],
            wanted=list(line.items("wanted")) if "wanted" in line.options else None,
            first_rank=int(line.number("rank", 0)),
            fifo_timeout_s=-1,
            last=not line.flag("more"),
        )

    def of_worker(self, line: Line, source: str) -> Any:
        match line.verb:
            case "joins":
                nanny = line.take("nanny") or None
                host = line.take("host", line.who)
                threads = int(line.number("threads", 1))
                return ev.WorkerJoined(
                    RegisterWorker(source, line.who, host, threads, resources=line.amounts("resources"), nanny=nanny)
                )
            case "finishes":
                key, run_id = self.run(line.names[0])
                unshippable = CANNOT_PICKLE if line.flag("unshippable") else None
                nbytes, duration = int(line.number("nbytes", 10)), line.number("duration", 0.1)
                return TaskFinished(key, run_id, nbytes, duration, unshippable=unshippable)
            case "fails":
                return TaskErred(*self.run(line.names[0]), BOOM, retriable=not line.flag("for-good"))
            case "reschedules":
                return TaskRescheduled(*self.run(line.names[0]))
            case "secedes":
                return TaskLongRunning(*self.run(line.names[0]), line.number("duration", 0.1))
            case "gives" | "keeps":
                return StealResponse(*self.run(line.names[0]), line.verb == "gives")
            case "has":
                return ReplicasAdded([(key, int(line.number("nbytes", 10))) for key in line.names])
            case "drops":
                return ReplicasDropped(list(line.names))
            case "misses":
                return MissingData(line.names[0], address(line.take("at")), "not there")
            case "asks":
                return WhoHas(list(line.names))
            case "is":
                return WorkerStatus(line.names[0])
            case "beats":
                return Heartbeat({}, [(key, line.number(key, 0)) for key in list(line.options)])
            case "closes":
                return WorkerClosing("closed by hand")
            case "vanishes":
                return ev.WorkerLost(source)
        raise BadPlaybook(f"{line.text!r}: nobody does such a thing")

    def run(self, word: str) -> tuple[str, int]:
        ts = self.state.tasks.get(word)
        return run_of(word, ts.run_id if ts is not None else -1)

    def nanny(self, line: Line) -> None:
        executing = tuple([self.run(word)[1] for word in line.items("executing")])
        worker = address(line.names[0])
        if line.verb == "vouches":
            self.handle(WorkerVouched(worker, 0, 5.0, line.take("state"), executing), line.who)
            return
        signal = int(line.number("signal", 0)) or None
        exit_code = int(line.take("exit")) if "exit" in line.options else None
        self.handle(WorkerProcessExited(worker, 0, exit_code, signal, executing), line.who)

    def operate(self, line: Line) -> None:
        names = line.names
        match line.verb:
            case "restarts":
                self.handle(ev.Restart())
            case "retires":
                timeout = float(line.take("timeout")) if "timeout" in line.options else None
                self.handle(ev.RetireWorkers([address(name) for name in names], timeout_s=timeout))
            case "moves":
                to, drop = line.items("to"), line.items("drop")
                self.handle(ev.MoveReplicas(names[0], list(map(address, to)), list(map(address, drop))))
            case "rebalances":
                for move in plan_rebalance(self.state):
                    self.handle(move)
            case "replicates":
                for move in plan_replicate(self.state, list(names), int(line.number("n", 2))):
                    self.handle(move)
            case "threads":
                self.handle(ev.SetThreads(address(names[0]), int(names[1])))
            case "resources":
                self.handle(ev.SetResources(address(names[0]), {names[1].split(":")[0]: float(names[1].split(":")[1])}))
            case "pins":
                pins = [(key, line.take(key)) for key in list(line.options)]
                self.handle(ev.PinTasks([(key, None if to == "none" else address(to)) for key, to in pins]))
            case "recomputes":
                self.handle(ev.RecomputeTasks(list(names), "its share is lost"))
            case _:
                raise BadPlaybook(f"{line.text!r}: an operator does no such thing")

    # What came out

    def collect(self) -> None:
        batch = self.state.outbox.take()
        for worker, box in batch.to_workers.items():
            self.collected += [f"to {show(worker)}: {message(m)}" for m in box if type(m) is not DefineFunction]
        for client, box in batch.to_clients.items():
            self.collected += [f"to {client}: {message(m)}" for m in box]
        for item in batch.instructions:
            if hasattr(item, "name"):
                item = item._replace(name="")  # the same as the address
            self.collected.append(f"shell: {message(item)}")

    # What has changed

    def forget_steps(self) -> None:
        assert self.state.log is not None
        self.state.log.clear()

    def steps(self) -> tuple[list[str], Steps]:
        steps: Steps = {}
        notes = []
        for key, start, finish, _ in self.state.log or ():
            if start in STATES:
                steps.setdefault(f"task {key}", [start]).append(finish)
            else:
                notes.append(f"note {key}: {start} {show(finish)}")
        return notes, steps

    def views(self) -> Iterator[tuple[str, str]]:
        for key, ts in self.state.tasks.items():
            yield f"task {key}", "; ".join(self.of_task(ts))
        for ws in self.state.workers.values():
            yield f"worker {ws.name}", "; ".join(self.of_one_worker(ws))

    def of_task(self, ts: TaskState) -> Iterator[str]:
        if ts.processing_on is not None:
            yield f"run {ts.run_id} on {ts.processing_on.name}"
            if ts.n_waiting:
                yield f"ahead of {ts.n_waiting} inputs"
        if ts.state == "waiting" and ts.n_waiting:
            yield f"waits for {ts.n_waiting}"
        if ts.state == "queued":
            yield f"{self.state.queued.position(ts)} before it"
        if ts.who_has:
            yield f"held by {','.join([str(ws.name) for ws in ts.who_has])}"
        if ts.n_waiters:
            yield f"needed by {ts.n_waiters}"
        if ts.who_wants:
            yield f"wanted by {','.join([cs.client_key for cs in ts.who_wants])}"
        if ts.suspicious:
            yield f"blamed {ts.suspicious} times"
        if ts.error is not None:
            blame = ts.exception_blame
            yield f"{show(ts.error)}" + (f" of {blame.key}" if blame is not None and blame is not ts else "")
        if ts in self.state.steals:
            steal = self.state.steals[ts]
            yield f"asked back from {steal.victim.name} for {steal.thief.name}"

    def of_one_worker(self, ws: WorkerState) -> Iterator[str]:
        yield ws.status_name
        if ws.suspect_since is not None:
            yield "suspect"
        if ws.nthreads != 1:
            yield f"{ws.nthreads} threads"
        if ws.processing:
            tasks = [f"{ts.key}{' (seceded)' if ts in ws.long_running else ''}" for ts in ws.processing]
            yield f"runs {','.join(tasks)} for {ws.occupancy:.4g} s"
        if ws.has_what:
            yield f"holds {','.join([ts.key for ts in ws.has_what])} ({ws.nbytes} bytes)"
        if ws.resources:
            yield f"uses {show(ws.used_resources)} of {show(ws.resources)}"


def type_of(text: str) -> Any:
    """``3``, ``0.5``, ``true`` or text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return float(text)
