"""Every number that the scheduler core goes by, in one place. Pure data; the shell fills it from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from distributed.messages.client_to_scheduler import SHARED_FROM


@dataclass(slots=True)
class SchedulerSettings:
    """Seconds and bytes unless the name says otherwise; None switches a limit off."""

    # Worker deaths that one task may be blamed for; one more makes it erred (KilledWorker).
    allowed_failures: int = 3
    # Queued tasks are sent to a worker that has fewer than ceil(saturation * nthreads) of them...
    saturation: float = 1.1
    # ...or whose tasks are expected to keep each of its threads busy for less than this.
    prefetch_s: float = 0.01
    # Of many short tasks a worker is given at least as many at once as keep a thread busy for this.
    handful_s: float = 0.002
    # Expected duration of tasks of an unknown prefix; the smallest that is ever expected (what a task costs a worker).
    unknown_duration_s: float = 0.5
    min_duration_s: float = 1e-5
    # Weight of the newest duration in the moving average of its prefix.
    duration_weight: float = 0.25
    default_durations_s: dict[str, float] = field(default_factory=dict)
    # Bytes per second between workers, seconds to start a transfer, and the size assumed where it is unknown.
    bandwidth: float = 100e6
    transfer_latency_s: float = 0.001
    unknown_nbytes: int = 1000
    # Work stealing: how often, from which expected backlog (seconds a thread) on, and how much at once.
    stealing: bool = True
    steal_interval_s: float = 0.1
    steal_backlog_s: float = 0.05
    steal_batch: int = 200
    # A worker with a nanny that vanished: how long its exit report may take.
    exit_report_s: float = 0.5
    # A silent worker gets no new tasks; is lost when its nanny does not vouch for it, when it has none, in any case.
    suspect_s: float | None = 5.0
    lost_s: float | None = 15.0
    lost_alone_s: float | None = 60.0
    worker_ttl_s: float | None = 300.0
    # How long a worker whose connection broke may take to come back; 0: it is lost at once.
    worker_grace_s: float | None = 30.0
    # How long the wishes of a client whose connection broke are kept.
    client_grace_s: float | None = 30.0
    # A task that no worker qualifies for: told after the one, given up after the other.
    tell_no_worker_s: float = 0.5
    no_workers_timeout_s: float | None = None
    retire_timeout_s: float | None = None
    # So many dependencies go to a worker once for all tasks of a batch that have the very same.
    shared_from: int = SHARED_FROM
    # Entries of the log that story() reads; 0 switches it off.
    story_length: int = 20_000
    # Put every transition into the outbox (for plugins).
    record_transitions: bool = False
