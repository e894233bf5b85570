"""Numbers for Prometheus, in its text format: of a scheduler, of a worker. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distributed.base import settings
from distributed.comm.keys import METRICS
from distributed.http.handlers import PageHandler
from distributed.http.loop_watch import LoopWatch
from distributed.http.snapshot import is_scheduler, of_worker
from distributed.scheduler import queries
from distributed.scheduler.state_machine import SchedulerState

Sample = tuple[dict[str, str], float]
Family = tuple[str, str, str, list[Sample]]
"""Name without its namespace, ``gauge`` or ``counter``, what it is, samples."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(PageHandler):
    """``/metrics``."""

    access = METRICS

    def get(self) -> None:
        kind = "scheduler" if is_scheduler(self.owner) else "worker"
        found = of_the_scheduler(self.owner) if kind == "scheduler" else of_the_worker(self.owner)
        namespace = settings.get("distributed.dashboard.prometheus.namespace", "dask")
        self.set_header("Content-Type", CONTENT_TYPE)
        text = as_text(f"{namespace}_{kind}", [*found, *of_the_loop(self.web.watch)])
        if kind == "scheduler":
            text += as_text(f"{namespace}_stealing", of_stealing(self.owner.state))
            if figures := self.owner.extensions["semaphores"].metrics():
                text += as_text(f"{namespace}_semaphore", of_semaphores(figures))
        self.finish(text)


def of_the_scheduler(scheduler: Any) -> list[Family]:
    """Workers, tasks, clients, bytes, and what was audited."""
    state: SchedulerState = scheduler.state
    counts = queries.counts(state)
    session = scheduler.shell.streams.counts()
    n_clients, n_workers = counts["clients"], counts["workers"]
    return [
        gauge("clients", "Clients that are connected", n_clients),
        counter("client_connections_added_total", "Clients that have come", state.n_clients_seen),
        counter("client_connections_removed_total", "Clients that have left", state.n_clients_seen - n_clients),
        gauge("desired_workers", "Workers that the present work asks for", counts["desired_workers"]),
        ("workers", "gauge", "Workers by how busy they are", labelled("state", _workers_by_state(state))),
        counter("workers_added_total", "Workers that have come", state.n_workers_seen),
        counter("workers_removed_total", "Workers that have left", state.n_workers_seen - n_workers),
        counter("worker_reports_ignored_total", "Reports about runs that were not the worker's", state.n_ignored),
        ("tasks", "gauge", "Tasks by state", labelled("state", queries.task_counts(state))),
        gauge("task_groups", "Groups of tasks that exist", len(state.task_groups)),
        gauge("threads", "Threads of all workers", counts["cores"]),
        *_of_prefixes(state),
        gauge("uptime_seconds", "Since this scheduler was made", scheduler.uptime_s),
        *[counter(f"{name}_total", f"Sessions of clients: {name}", n) for name, n in session.items()],
    ]


def _workers_by_state(state: SchedulerState) -> dict[str, int]:
    found = dict.fromkeys(("idle", "partially_saturated", "saturated", "paused", "retiring"), 0)
    for ws in state.workers.values():
        if ws in state.retirements or ws.status_name == "closing_gracefully":
            found["retiring"] += 1
        elif ws.status_name == "paused":
            found["paused"] += 1
        elif ws in state.saturated:
            found["saturated"] += 1
        else:
            found["idle" if ws.address in state.idle else "partially_saturated"] += 1
    return found


def _of_prefixes(state: SchedulerState) -> list[Family]:
    """What is known of all tasks of one name, also of those that are gone."""
    prefixes = state.task_prefixes
    label = "task_prefix_name"
    seconds = {name: prefix.duration for name, prefix in prefixes.items()}
    blamed = {name: prefix.suspicious for name, prefix in prefixes.items()}
    nbytes = {name: sum([group.nbytes_total for group in prefix.groups]) for name, prefix in prefixes.items()}
    n_forgotten = sum([prefix.states["forgotten"] for prefix in prefixes.values()])
    return [
        counter("tasks_forgotten_total", "Tasks that are gone", n_forgotten),
        ("tasks_suspicious_total", "counter", "Times that a task was blamed for a death", labelled(label, blamed)),
        ("tasks_compute_seconds_total", "counter", "Seconds that tasks have run", labelled(label, seconds)),
        ("tasks_output_bytes", "gauge", "Bytes of the results of groups that exist", labelled(label, nbytes)),
    ]


def of_stealing(state: SchedulerState) -> list[Family]:
    """Tasks that were asked back for an idle worker."""
    return [
        counter("request_count_total", "Tasks that a busy worker was asked for", state.n_steal_requests),
        counter("request_cost_total", "Expected seconds of these, with their inputs' way", state.steal_requests_s),
        counter("given_total", "Tasks that were given", state.stolen_count),
    ]


def of_the_loop(watch: LoopWatch) -> list[Family]:
    """The event loop and the garbage collector of this process, since the first scrape."""
    longest_s = watch.scraped()
    return [
        gauge("tick_duration_maximum_seconds", "Longest that the event loop stood since the last scrape", longest_s),
        counter("tick_count_total", "Ticks of the event loop", watch.n_ticks),
        counter("gc_collection_seconds_total", "Seconds of collecting garbage", watch.gc_s),
        counter("last_time_total", "Time of the last tick, on a monotonic clock", watch.last_tick),
    ]


def of_semaphores(figures: dict[Any, dict[str, float]]) -> list[Family]:
    """Leases and waits of each semaphore and lock that is in use, by name."""
    whats = {
        "max_leases": ("gauge", "Leases that there may be"),
        "active_leases": ("gauge", "Leases that are taken"),
        "pending_leases": ("gauge", "Requests that wait for one"),
        "acquire_total": ("counter", "Leases that were granted"),
        "release_total": ("counter", "Leases that have ended"),
        "average_pending_lease_time_s": ("gauge", "Mean seconds for which a lease was waited for"),
    }
    return [
        (name, kind, what, [({"name": str(semaphore)}, found[name]) for semaphore, found in figures.items()])
        for name, (kind, what) in whats.items()
    ]


def of_the_worker(worker: Any) -> list[Family]:
    """Tasks, threads, memory, and the numbers of the last heartbeat."""
    view = of_worker(worker)
    metrics = view["metrics"]
    plain = [(n, v) for n, v in metrics.items() if isinstance(v, (int, float)) and n.isidentifier() and n != "memory"]
    process, managed = float(metrics.get("memory", 0)), float(metrics.get("managed_bytes", 0))
    spilled = metrics.get("spilled_bytes", {}).get("disk", 0)
    memory = {
        "process": process, "limit": float(view["memory_limit"]), "managed": managed,
        "unmanaged": max(0.0, process - managed), "spilled": float(spilled),
    }  # fmt: skip
    return [
        ("tasks", "gauge", "Tasks by state", labelled("state", view["tasks"])),
        gauge("threads", "Threads for tasks", view["nthreads"]),
        ("memory_bytes", "gauge", "Memory", labelled("type", memory)),
        gauge("results", "Values held", view["in_memory"]),
        gauge("latency_seconds", "How long the scheduler took to answer, last time", worker.link.latency_s),
        *_of_transfers(worker),
        ("spill_bytes_total", "counter", "Bytes", labelled("activity", {"disk-write": worker.spiller.written_nbytes})),
        *[gauge(f"last_{name}", "As the last heartbeat said", float(value)) for name, value in plain],
    ]


def _of_transfers(worker: Any) -> list[Family]:
    """Values that came from other workers, and that went to them and to clients."""
    transfer, service = worker.transfer, worker.data_service
    return [
        gauge("transfer_incoming_count", "Requests for values without an answer yet", transfer.n_under_way),
        counter("transfer_incoming_count_total", "Answers with values that came", transfer.n_answers),
        counter("transfer_incoming_bytes_total", "Bytes of values that came", transfer.bytes_received),
        counter("transfer_outgoing_count_total", "Answers with values that went", service.n_answers),
        counter("transfer_outgoing_bytes_total", "Bytes of values that went", service.bytes_sent),
    ]


def gauge(name: str, what: str, value: float) -> Family:
    """One number that goes up and down."""
    return name, "gauge", what, [({}, value)]


def counter(name: str, what: str, value: float) -> Family:
    """One number that only grows."""
    return name, "counter", what, [({}, value)]


def labelled(label: str, values: dict[str, Any]) -> list[Sample]:
    """A sample for each item."""
    return [({label: name}, value) for name, value in values.items()]


def as_text(prefix: str, families: Iterable[Family]) -> str:
    """The text format.

    >>> print(as_text("dask_worker", [("tasks", "gauge", "Tasks", [({"state": 'a"b'}, 2)])]), end="")
    # HELP dask_worker_tasks Tasks
    # TYPE dask_worker_tasks gauge
    dask_worker_tasks{state="a\\\\"b"} 2
    """
    lines = []
    for name, kind, what, samples in families:
        lines += [f"# HELP {prefix}_{name} {what}", f"# TYPE {prefix}_{name} {kind}"]
        for labels, value in samples:
            inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{prefix}_{name}{'{' + inner + '}' if inner else ''} {value:.17g}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
