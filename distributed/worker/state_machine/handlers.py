"""Which change follows which event: one ``on_<fact>`` per event, and the table of all. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from distributed.messages.control import Unsendable
from distributed.messages.scheduler_to_worker import (
    AcquireReplicas,
    CloseWorkerOrder,
    ComputeTask,
    DefineFunction,
    FreeKeys,
    HoldersChanged,
    PeerLost,
    RemoveReplicas,
    SetStatus,
    SharedNeeds,
    StealRequest,
    StopRuns,
)
from distributed.messages.worker_to_scheduler import (
    DataReceived,
    StealResponse,
    TaskErred,
    TaskFinished,
    TaskLongRunning,
    WorkerStatus,
)
from distributed.worker.state_machine.events import (
    DataLost,
    DataUpdated,
    Deadline,
    ExecuteFailure,
    ExecuteLongRunning,
    ExecuteRescheduled,
    ExecuteSkipped,
    ExecuteSuccess,
    GatherDepFailure,
    GatherDepSuccess,
    MemoryHigh,
    Pause,
    SpillEnded,
    Unpause,
)
from distributed.worker.state_machine.instructions import AbortGather, StoreResult
from distributed.worker.state_machine.tables import CLOSING, NEVER, PAUSED, RUNNING, Tables
from distributed.worker.state_machine.task import (
    MEMORY,
    NO_PRIORITY,
    NOT_STARTED,
    TO_COMPUTE,
    TO_FETCH,
    TaskState,
)
from distributed.worker.state_machine.transitions import computing, executing, fetching, queueing, spilling, stopping


def on_free_keys(t: Tables, event: FreeKeys) -> None:
    """Forget these, in whatever state."""
    for key in event.keys:
        ts = t.tasks.get(key)
        if ts is not None:
            computing.free(t, ts)


def on_remove_replicas(t: Tables, event: RemoveReplicas) -> None:
    """Drop copies that no task here needs; the answer says what became of each."""
    for key in event.keys:
        ts = t.tasks.get(key)
        under_way = ts is not None and ts.state in TO_FETCH and ts.fetch is not None and ts.fetch.acquired
        if ts is not None and ts.state is MEMORY:
            if ts.dependents or ts.actor or ts.unshippable is not None:
                t.outbox.replica_added(key, ts.nbytes)
                continue
            computing.free(t, ts)
        elif ts is not None and ts.state in TO_FETCH and ts.fetch is not None:
            ts.fetch.acquired = False
            fetching.unwant(t, ts)
        t.outbox.replica_dropped(key, as_ordered=not under_way)


def on_acquire_replicas(t: Tables, event: AcquireReplicas) -> None:
    """Fetch copies that no task here asks for."""
    for need in event.needs:
        ts = t.tasks.get(need.key)
        if ts is None:
            ts = t.tasks[need.key] = TaskState(need.key)
        if ts.state is MEMORY:
            t.outbox.replica_added(need.key, ts.nbytes)
        elif ts.state not in TO_COMPUTE:
            fetching.want(t, ts, need.holders, need.nbytes, NO_PRIORITY, acquired=True)


def on_steal_request(t: Tables, event: StealRequest) -> None:
    """Give a task back unless it is with the executor, has ended, or is another run; always answer."""
    ts = t.tasks.get(event.key)
    given = ts is not None and ts.run_id == event.run_id and ts.state in NOT_STARTED
    if given and ts is not None:
        computing.free(t, ts)
    t.outbox.messages.append(StealResponse(event.key, event.run_id, given))


def on_holders_changed(t: Tables, event: HoldersChanged) -> None:
    """Who holds what, as the scheduler knows it now."""
    for need in event.needs:
        ts = t.tasks.get(need.key)
        if ts is not None:
            fetching.replace_holders(t, ts, need.holders, need.nbytes)


def on_peer_lost(t: Tables, event: PeerLost) -> None:
    """The scheduler has given up a peer whose connections may stand for ever."""
    if event.worker in t.fetches.flights:
        t.outbox.instructions.append(AbortGather(event.worker, event.reason))


def on_set_status(t: Tables, event: SetStatus) -> None:
    """The scheduler sets the status. A worker that is to close gives back what it has not started: others run it
    meanwhile, instead of after the close. One that is to go on says how it is: its news may have crossed the order."""
    t.status = event.status
    if t.status == RUNNING:
        t.status = PAUSED if t.short else RUNNING
        t.outbox.messages.append(WorkerStatus(t.status))
    if t.status == CLOSING:
        for ts in list(t.tasks.values()):
            if ts.state in NOT_STARTED:
                computing.give_back(t, ts)


def on_pause(t: Tables, event: Pause) -> None:
    """Memory is short."""
    t.short = True
    if t.status == RUNNING:
        t.status = PAUSED
        t.outbox.messages.append(WorkerStatus(PAUSED))


def on_unpause(t: Tables, event: Unpause) -> None:
    """Memory is there again; a worker that is closing stays so."""
    t.short = False
    if t.status == PAUSED:
        t.status = RUNNING
        t.outbox.messages.append(WorkerStatus(RUNNING))


def on_execute_success(t: Tables, event: ExecuteSuccess) -> None:
    """A run has returned: keep the value and report it, unless the run is stale."""
    ts = executing.end_run(t, event.run_id)
    if ts is None:
        return
    spec = ts.spec
    if spec is not None and spec.duration_s < 0:
        executing.learn_duration(t, spec, event.duration_s)
    if spec is not None and t.settings.hold_nbytes != NEVER:
        executing.learn_size(t, spec, event.nbytes)
    ts.type_name = event.type_name
    ts.unshippable = event.unshippable
    t.outbox.instructions.append(StoreResult(ts.key, event.run_id))
    queueing.enter_memory(t, ts, event.nbytes)
    t.outbox.messages.append(
        TaskFinished(
            ts.key,
            event.run_id,
            event.nbytes,
            event.duration_s,
            event.type_name,
            event.inline,
            event.started,
            event.thread,
            event.unshippable,
            event.metadata,
        )
    )
    if spec is not None and not spec.wanted:
        if ts.dependents:
            # What needs it is here already; the scheduler, and so everybody else, can wait.
            t.outbox.n_quiet += 1
        else:
            # Others may need it; they can wait while this worker is not about to need work from the scheduler.
            t.outbox.n_patient += 1
    if ts.dependencies:
        fetching.unlink(t, ts)


def on_execute_failure(t: Tables, event: ExecuteFailure) -> None:
    """A run has failed."""
    ts = executing.end_run(t, event.run_id)
    if ts is not None:
        report = TaskErred(
            ts.key, event.run_id, event.error, event.duration_s, event.started, event.thread, event.retriable
        )
        fetching.fail(t, ts, report)


def on_execute_rescheduled(t: Tables, event: ExecuteRescheduled) -> None:
    """A run asks to be made elsewhere."""
    ts = executing.end_run(t, event.run_id)
    if ts is not None:
        executing.leave_to_others(t, ts)


def on_execute_skipped(t: Tables, event: ExecuteSkipped) -> None:
    """A run was not begun; usually it was taken back and is stale."""
    ts = executing.end_run(t, event.run_id, begun=False)
    if ts is not None:
        executing.requeue(t, ts)


def on_execute_long_running(t: Tables, event: ExecuteLongRunning) -> None:
    """A run has seceded."""
    ts = executing.secede(t, event.run_id)
    if ts is not None:
        t.outbox.messages.append(TaskLongRunning(ts.key, event.run_id, event.duration_s))


def on_data_updated(t: Tables, event: DataUpdated) -> None:
    """Values have come from outside; a task that is to compute one of them goes on all the same."""
    for key, nbytes in event.nbytes.items():
        ts = t.tasks.get(key)
        if ts is None:
            ts = t.tasks[key] = TaskState(key)
        if ts.state is MEMORY:
            spilling.replace(t, ts, nbytes)
        elif ts.state not in TO_COMPUTE:
            t.missing.pop(ts, None)
            queueing.enter_memory(t, ts, nbytes)
        else:
            continue
        if event.report:
            t.outbox.replica_added(key, nbytes)
    if event.placed:
        t.outbox.n_quiet += 1
        t.outbox.messages.append(DataReceived(list(event.nbytes)))


def on_data_lost(t: Tables, event: DataLost) -> None:
    """Values are gone from the store."""
    for key in event.keys:
        ts = t.tasks.get(key)
        if ts is not None:
            computing.lose(t, ts)


def on_deadline(t: Tables, event: Deadline) -> None:
    """What was put off is due."""
    t.wake_at = t.fetches.pardon(t.now)
    fetching.ask_again(t)
    if t.limits or t.stops:
        stopping.look(t)


def on_others(t: Tables, event: DefineFunction | CloseWorkerOrder | Unsendable) -> None:
    """Matters of the shell alone, or nobody's (what the scheduler could not encode)."""


HANDLERS: Final[dict[type, Callable[[Tables, Any], None]]] = {
    SharedNeeds: computing.on_shared_needs,
    ComputeTask: computing.compute,
    FreeKeys: on_free_keys,
    StopRuns: stopping.on_stop_runs,
    RemoveReplicas: on_remove_replicas,
    AcquireReplicas: on_acquire_replicas,
    StealRequest: on_steal_request,
    HoldersChanged: on_holders_changed,
    SetStatus: on_set_status,
    PeerLost: on_peer_lost,
    DefineFunction: on_others,
    CloseWorkerOrder: on_others,
    Unsendable: on_others,
    ExecuteSuccess: on_execute_success,
    ExecuteFailure: on_execute_failure,
    ExecuteRescheduled: on_execute_rescheduled,
    ExecuteSkipped: on_execute_skipped,
    ExecuteLongRunning: on_execute_long_running,
    GatherDepSuccess: fetching.on_gather_success,
    GatherDepFailure: fetching.on_gather_failure,
    DataUpdated: on_data_updated,
    DataLost: on_data_lost,
    SpillEnded: spilling.on_spill_ended,
    MemoryHigh: spilling.on_memory_high,
    Pause: on_pause,
    Unpause: on_unpause,
    Deadline: on_deadline,
}
