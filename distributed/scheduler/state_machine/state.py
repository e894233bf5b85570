"""The scheduler core: events in, instructions out. Pure: no clock, no I/O, no logging; ``now`` is handed in.

Theory. A task is needed while a client wants it or a needed task depends on it. A needed task waits (counting
unfinished dependencies), becomes ready, is placed on a worker (or queued, or has no worker), and ends in memory or
erred. What is no longer needed is released, and forgotten when nothing that still exists was made of it. See
``transitions/`` for the table.

Two beats. ``handle`` applies an event and notes what has become ready and which workers have room. ``flush`` places,
once for a batch of events. The shell calls ``flush`` after each batch, then sends what ``outbox.take()`` returns::

    for source, message in batch:
        state.handle(message, source, now)
    state.flush(now)
    act(state.outbox.take())

``next_deadline`` tells when ``handle_deadline`` wants to be called; there are no periodic callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from distributed.base.keys import Key
from distributed.messages import client_to_scheduler as from_client
from distributed.messages import control
from distributed.messages import nanny as from_nanny
from distributed.messages import worker_to_scheduler as from_worker
from distributed.scheduler.state_machine import deadlines, events
from distributed.scheduler.state_machine.events import SchedulerEvent
from distributed.scheduler.state_machine.explain import Explanation, explain
from distributed.scheduler.state_machine.graph_update import refuse_graph
from distributed.scheduler.state_machine.handlers import from_clients, from_operators, from_workers
from distributed.scheduler.state_machine.liveness import on_worker_back, on_worker_sends, on_worker_vouched
from distributed.scheduler.state_machine.no_worker import watch_queue
from distributed.scheduler.state_machine.outbox import Outbox
from distributed.scheduler.state_machine.pins import on_pin_tasks, on_recompute_tasks
from distributed.scheduler.state_machine.placement import place_ready
from distributed.scheduler.state_machine.replicas import (
    on_missing_data,
    on_move_replicas,
    on_replicas_added,
    on_replicas_dropped,
    on_who_has,
)
from distributed.scheduler.state_machine.retirement import on_retire_workers, step_retirements
from distributed.scheduler.state_machine.scattered import (
    on_data_announced,
    on_data_received,
    on_data_scattered,
    on_data_withdrawn,
)
from distributed.scheduler.state_machine.stealing import balance, on_steal_response
from distributed.scheduler.state_machine.story import StoryEntry, story
from distributed.scheduler.state_machine.tables import Tables
from distributed.scheduler.state_machine.validate import validate

Handler = Callable[[Tables, Any, str], None]


def _ignore(state: Tables, event: Any, source: str) -> None:
    """The shell's business (log events, requests), or nobody's (what the peer could not encode)."""


def _pass_over(state: Tables, event: Any, source: str) -> None:
    """A message of a peer that has no place here."""
    state.n_ignored += 1


HANDLERS: dict[type, Handler] = {
    from_client.UpdateGraph: from_clients.on_update_graph,
    from_client.WantKeys: from_clients.on_want_keys,
    from_client.ReleaseKeys: from_clients.on_release_keys,
    from_client.CancelKeys: from_clients.on_cancel_keys,
    from_client.RetryKeys: from_clients.on_retry_keys,
    from_client.DataAnnounced: on_data_announced,
    from_client.DataScattered: on_data_scattered,
    from_client.DataWithdrawn: on_data_withdrawn,
    from_client.FireAndForget: from_clients.on_fire_and_forget,
    from_client.ClientHeartbeat: from_clients.on_client_heartbeat,
    from_client.ClientClosing: from_clients.on_client_closing,
    from_client.ClientLogEvent: _ignore,
    from_client.SessionRequest: _ignore,
    control.Unsendable: _ignore,
    control.Applied: _ignore,
    # What belongs at the beginning of a link, or comes from a scheduler.
    **dict.fromkeys(
        (
            control.RegisterClient,
            control.RegisterWorker,
            control.RegisterNanny,
            control.Registered,
            control.Refused,
            control.BatchHeader,
            control.SchedulerEnds,
        ),
        _pass_over,
    ),
    from_worker.TaskFinished: from_workers.on_task_finished,
    from_worker.TaskErred: from_workers.on_task_erred,
    from_worker.TaskRescheduled: from_workers.on_task_rescheduled,
    from_worker.TaskLongRunning: from_workers.on_task_long_running,
    from_worker.StealResponse: on_steal_response,
    from_worker.ReplicasAdded: on_replicas_added,
    from_worker.DataReceived: on_data_received,
    from_worker.ReplicasDropped: on_replicas_dropped,
    from_worker.MissingData: on_missing_data,
    from_worker.WhoHas: on_who_has,
    from_worker.WorkerStatus: from_workers.on_worker_status,
    from_worker.Heartbeat: from_workers.on_heartbeat,
    from_worker.WorkerClosing: from_workers.on_worker_closing,
    from_worker.WorkerLogEvent: _ignore,
    from_nanny.WorkerProcessStarted: from_operators.on_worker_process_started,
    from_nanny.WorkerProcessExited: from_operators.on_worker_process_exited,
    from_nanny.WorkerVouched: on_worker_vouched,
    events.ClientJoined: from_clients.on_client_joined,
    events.ClientLost: from_clients.on_client_lost,
    events.ClientLeft: from_clients.on_client_left,
    events.WorkerJoined: from_operators.on_worker_joined,
    events.WorkerAway: from_operators.on_worker_away,
    events.WorkerBack: on_worker_back,
    events.WorkerLost: from_operators.on_worker_lost,
    events.WorkerSends: on_worker_sends,
    events.Restart: from_operators.on_restart,
    events.RetireWorkers: on_retire_workers,
    events.MoveReplicas: on_move_replicas,
    events.SetThreads: from_operators.on_set_threads,
    events.SetResources: from_operators.on_set_resources,
    events.PinTasks: on_pin_tasks,
    events.RecomputeTasks: on_recompute_tasks,
}


class SchedulerState(Tables):
    """The tables with the verbs of the core."""

    __slots__ = ()

    def handle(self, event: SchedulerEvent, source: str, now: float) -> None:
        """Apply one event. ``source``: the client's id, or the worker's address (of no meaning for other events)."""
        kind = type(event)
        self.now = now
        self.stimulus = stimulus = self.stimulus + 1
        self.context = (stimulus, kind.__name__, now)
        self.event = event
        HANDLERS[kind](self, event, source)

    def handle_batch(self, batch: Iterable[SchedulerEvent], source: str, now: float) -> None:
        """Apply the events of one peer, in order."""
        self.now = now
        for event in batch:
            kind = type(event)
            self.stimulus = stimulus = self.stimulus + 1
            self.context = (stimulus, kind.__name__, now)
            self.event = event
            HANDLERS[kind](self, event, source)

    def refuse(self, event: SchedulerEvent, source: str, why: str) -> None:
        """An event could not be handled, for a reason that a client may wait for in vain: tell it."""
        cs = self.clients.get(source)
        if type(event) is from_client.UpdateGraph and cs is not None:
            refuse_graph(self, event, cs, why)

    def flush(self, now: float) -> None:
        """The placing beat."""
        self.now = now
        self.stimulus += 1
        self.context = (self.stimulus, "Placing", now)
        self.event = None
        if self.ready or self.touched or self.fleet_changed or len(self.queued):
            place_ready(self)
        if self.retire_again:
            step_retirements(self)
            if self.touched or self.fleet_changed:
                place_ready(self)
        if self.queued.n or self.no_workers_since is not None:
            watch_queue(self)
        if self.saturated and self.idle:
            balance(self)
        if self.told_needs:
            self.told_needs = {}

    @property
    def outbox(self) -> Outbox:
        """What is to be sent and done."""
        return self.out

    def next_deadline(self) -> float | None:
        """When to call ``handle_deadline``, on the clock of ``now``; None: no need."""
        return deadlines.next_deadline(self)

    def handle_deadline(self, now: float) -> None:
        """Time has passed; includes the placing beat."""
        self.now = now
        self.stimulus += 1
        self.context = (self.stimulus, "Deadline", now)
        self.event = None
        deadlines.handle_deadlines(self)
        self.flush(now)

    def explain(self, key: Key) -> Explanation:
        """Why the task is not finished."""
        return explain(self, key)

    def story(self, *keys_or_stimuli: Key) -> list[StoryEntry]:
        """What happened to the keys, or because of the stimuli."""
        return story(self, *keys_or_stimuli)

    def validate(self) -> None:
        """Raise ``InvalidState`` if the tables contradict themselves."""
        validate(self)

    def set_recording(self, on: bool) -> None:
        """Put transitions into the outbox, or no longer (a plugin has come, or the last one gone)."""
        self.record = on
        self.tracing = on or self.log is not None
