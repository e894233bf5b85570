"""Numbers for Prometheus, in its text format: of a scheduler, of a worker. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from distributed.base import settings
from distributed.comm.keys import METRICS
from distributed.http.handlers import PageHandler
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
        text = as_text(f"{namespace}_{kind}", found)
        if kind == "scheduler" and (figures := self.owner.extensions["semaphores"].metrics()):
            text += as_text(f"{namespace}_semaphore", of_semaphores(figures))
        self.finish(text)


def of_the_scheduler(scheduler: Any) -> list[Family]:
    """Workers, tasks, clients, bytes, and what was audited."""
    state: SchedulerState = scheduler.state
    counts = queries.counts(state)
    session = scheduler.shell.streams.counts()
    n_partly = counts["workers"] - counts["idle"] - counts["saturated"]
    workers = {"idle": counts["idle"], "partially_saturated": max(0, n_partly), "saturated": counts["saturated"]}
    return [
        gauge("clients", "Clients that are connected", counts["clients"]),
        gauge("desired_workers", "Workers that the present work asks for", counts["desired_workers"]),
        ("workers", "gauge", "Workers by how busy they are", labelled("state", workers)),
        ("tasks", "gauge", "Tasks by state", labelled("state", queries.task_counts(state))),
        gauge("task_groups", "Groups of tasks that exist", len(state.task_groups)),
        gauge("threads", "Threads of all workers", counts["cores"]),
        gauge("tasks_output_bytes", "Bytes of results on all workers", counts["bytes"]),
        gauge("uptime_seconds", "Since this scheduler was made", scheduler.uptime_s),
        *[counter(f"{name}_total", f"Sessions of clients: {name}", n) for name, n in session.items()],
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
    memory = {"process": float(metrics.get("memory", 0)), "limit": float(view["memory_limit"])}
    return [
        ("tasks", "gauge", "Tasks by state", labelled("state", view["tasks"])),
        gauge("threads", "Threads for tasks", view["nthreads"]),
        ("memory_bytes", "gauge", "Memory", labelled("type", memory)),
        gauge("results", "Values held", view["in_memory"]),
        *[gauge(f"last_{name}", "As the last heartbeat said", float(value)) for name, value in plain],
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
