"""Named parts of a program's work: tasks that were submitted inside of ``with span("load"):``, counted together.

The names travel as an annotation of the tasks. The scheduler keeps spans by a plugin that is there from the first task
with a span on, so nobody pays for them before.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from distributed.base.keys import as_key, key_prefix
from distributed.plugins.scheduler import SchedulerPlugin

Name = tuple[str, ...]
DEFAULT: Name = ("default",)
_EXTENSION = "spans"


@contextlib.contextmanager
def span(*tags: str) -> Iterator[str]:
    """Tasks submitted inside belong to the span of this name; spans nest.

    Parameters
    ----------
    *tags
        One or more names; several open as many spans, one in the other.

    Yields
    ------
    str
        The id of the (innermost) span.

    Examples
    --------
    >>> with span("training"):  # doctest: +SKIP
    ...     with span("load"):
    ...         rows = client.map(load, paths)
    """
    if not tags or not all(isinstance(tag, str) and tag for tag in tags):
        raise ValueError(f"span() takes one or more names, not {tags!r}")
    import dask

    around = dask.get_annotations().get("span") or {"name": (), "ids": ()}
    name = (*around["name"], *tags)
    ids = (*around["ids"], *[str(uuid.uuid4()) for _ in tags])
    with dask.annotate(span={"name": name, "ids": ids}):
        yield ids[-1]


class Span:
    """One span on the scheduler.

    Attributes
    ----------
    name
        The tags from the outermost in.
    id
        Different for each time the block is entered.
    groups
        Task groups whose tasks belong to it (and not only to one of its children).
    metadata
        What :meth:`add_metadata` has noted.
    """

    def __init__(self, name: Name, id_: str, parent: Span | None) -> None:
        self.name = name
        self.id = id_
        self.parent = parent
        self.children: list[Span] = []
        self.groups: dict[Any, None] = {}
        self.enqueued = time.time()
        self.metadata: dict[str, Any] = {}
        self._is_sum = False
        self._states: dict[str, int] = {}
        self._first = 0.0
        self._last = 0.0
        self._nbytes = 0
        self._durations: dict[tuple[str, str], float] = {}  # of prefix and action
        self._nthreads: Sequence[tuple[float, int]] = ()  # of the cluster: since when, how many

    def __repr__(self) -> str:
        return f"<Span {self.name}, id={self.id}>"

    def add_metadata(self, metadata: dict[str, Any]) -> None:
        """Note more about it."""
        self.metadata.update(metadata)

    @property
    def annotation(self) -> dict[str, tuple[str, ...]]:
        """What marks a task as part of it."""
        spans = [*reversed(list(self._upwards()))]
        return {"name": self.name, "ids": tuple(one.id for one in spans)}

    def _upwards(self) -> Iterator[Span]:
        at: Span | None = self
        while at is not None:
            yield at
            at = at.parent

    def traverse_spans(self) -> Iterator[Span]:
        """This one and all below."""
        yield self
        for child in self.children:
            yield from child.traverse_spans()

    def traverse_groups(self) -> Iterator[Any]:
        """The groups of this one and of all below."""
        seen: dict[Any, None] = {}
        for one in self.traverse_spans():
            seen.update(one.groups)
        yield from seen

    @property
    def states(self) -> dict[str, int]:
        """How many tasks of it (and of those below) are in each state."""
        total: dict[str, int] = {}
        for one in self.traverse_spans():
            for state, n in one._states.items():
                total[state] = total.get(state, 0) + n
        return total

    @property
    def done(self) -> bool:
        """Whether all its tasks have ended."""
        return not any(self.states.get(state) for state in ("waiting", "no-worker", "queued", "processing"))

    @property
    def start(self) -> float:
        """When its first task began (wall-clock seconds); 0.0: none has."""
        return min([one._first for one in self.traverse_spans() if one._first], default=0.0)

    @property
    def stop(self) -> float:
        """When its last task ended; now, while some run."""
        return max([one._last for one in self.traverse_spans()]) if self.done else time.time()

    @property
    def all_durations(self) -> dict[str, float]:
        """Seconds of all tasks by action."""
        total: dict[str, float] = {}
        for one in self.traverse_spans():
            for (_, action), took in one._durations.items():
                total[action] = total.get(action, 0.0) + took
        return total

    @property
    def cumulative_worker_metrics(self) -> dict[tuple[str, ...], float]:
        """Seconds that its tasks took on workers, by ``("execute", prefix, action, "seconds")``; what the threads of
        the cluster could have done besides in that time has the prefix ``N/A``."""
        total: dict[tuple[str, ...], float] = {}
        for one in self.traverse_spans():
            for (prefix, action), took in one._durations.items():
                name = ("execute", prefix, action, "seconds")
                total[name] = total.get(name, 0.0) + took
        idle = self.active_cpu_seconds - self.all_durations.get("compute", 0.0)
        if idle > 0:
            total["execute", "N/A", "idle or other spans", "seconds"] = idle
        return total

    @property
    def nthreads_intervals(self) -> list[tuple[float, float, int]]:
        """How many threads the cluster had while it was active: ``(from, to, threads)``, in wall-clock seconds."""
        active: list[tuple[float, float]] = []
        for begin, end in sorted([(one.enqueued, one.stop) for one in self._parts()]):
            if active and begin <= active[-1][1]:
                active[-1] = active[-1][0], max(end, active[-1][1])
            elif begin < end:
                active.append((begin, end))
        steps = list(self._nthreads)
        until = [since for since, _ in steps[1:]] + [float("inf")]
        found = []
        for begin, end in active:
            for (since, n), to in zip(steps, until, strict=True):
                if max(begin, since) < min(end, to):
                    found.append((max(begin, since), min(end, to), n))
        return found

    @property
    def active_cpu_seconds(self) -> float:
        """Seconds that all threads of the cluster had, together, while it was active."""
        return sum([(to - since) * n for since, to, n in self.nthreads_intervals])

    def _parts(self) -> list[Span]:
        """Itself; of a sum of spans, these."""
        return self.children if self._is_sum else [self]

    @property
    def duration(self) -> float:
        """Seconds of all tasks together."""
        return sum(self.all_durations.values())

    @property
    def nbytes_total(self) -> int:
        """Bytes of all results."""
        return sum(one._nbytes for one in self.traverse_spans())

    def note(self, prefix: str, start: str, finish: str, kwargs: dict[str, Any]) -> None:
        """A task of it went from one state to another."""
        states = self._states
        if states.get(start):
            states[start] -= 1
        if finish != "forgotten":
            states[finish] = states.get(finish, 0) + 1
        if start != "processing":
            return
        for part in kwargs.get("startstops") or ():
            self._first = min(self._first or part["start"], part["start"])
            self._last = max(self._last, part["stop"])
            name = (prefix, part["action"])
            self._durations[name] = self._durations.get(name, 0.0) + part["stop"] - part["start"]
        if finish == "memory":
            self._nbytes += kwargs.get("nbytes") or 0

    @staticmethod
    def merge(*spans: Span) -> Span:
        """A span with the numbers of all of them."""
        total = Span(("merged",) if len({one.name for one in spans}) != 1 else spans[0].name, "", None)
        total.enqueued = min((one.enqueued for one in spans), default=0.0)
        total.children = list(spans)
        total._is_sum = True
        total._nthreads = spans[0]._nthreads if spans else ()
        return total


class Spans(SchedulerPlugin):
    """All spans of a scheduler; ``scheduler.extensions["spans"]``.

    Attributes
    ----------
    spans
        id -> span.
    root_spans
        Those that are in no other.
    """

    name = "spans"

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.root_spans: list[Span] = []
        self.spans_search_by_name: dict[Name, list[Span]] = {}
        self.spans_search_by_tag: dict[str, list[Span]] = {}
        self._of_task: dict[Any, Span] = {}
        self._everything_else: Span | None = None
        self._nthreads: list[tuple[float, int]] = []

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """The cluster has grown."""
        self.note_nthreads(scheduler)

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        """The cluster has shrunk."""
        self.note_nthreads(scheduler)

    def note_nthreads(self, scheduler: Any) -> None:
        """How many threads the cluster has from now on."""
        self._nthreads.append((time.time(), scheduler.total_nthreads))

    def update_graph(self, scheduler: Any, *, tasks: Any, annotations: Any, **kwargs: Any) -> None:
        """Find the span of each new task."""
        named = annotations.get("span", {})
        for key in tasks:
            if key in self._of_task:
                continue
            mark = named.get(key)
            one = self._default() if mark is None else self._ensure(tuple(mark["name"]), tuple(mark["ids"]))
            self._of_task[key] = one
            ts = scheduler.state.tasks.get(as_key(key))
            if ts is not None:
                one.groups[ts.group] = None
                one._states[ts.state] = one._states.get(ts.state, 0) + 1

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Count it."""
        one = self._of_task.get(key)
        if one is not None:
            one.note(key_prefix(as_key(key)), start, finish, kwargs)
            if finish == "forgotten":
                del self._of_task[key]

    def _default(self) -> Span:
        if self._everything_else is None:
            self._everything_else = self._ensure(DEFAULT, (str(uuid.uuid4()),))
        return self._everything_else

    def _ensure(self, name: Name, ids: tuple[str, ...]) -> Span:
        parent: Span | None = None
        for depth, id_ in enumerate(ids, 1):
            one = self.spans.get(id_)
            if one is None:
                one = self.spans[id_] = Span(name[:depth], id_, parent)
                one._nthreads = self._nthreads
                (self.root_spans if parent is None else parent.children).append(one)
                self.spans_search_by_name.setdefault(one.name, []).append(one)
                for tag in one.name:
                    self.spans_search_by_tag.setdefault(tag, []).append(one)
            parent = one
        assert parent is not None
        return parent

    def find_by_tags(self, *tags: str) -> Iterator[Span]:
        """Spans that have all these tags; of nested ones the outermost only."""
        wanted = set(tags)
        found = [one for one in self.spans.values() if wanted <= set(one.name)]
        chosen = {one.id for one in found}
        yield from (one for one in found if one.parent is None or one.parent.id not in chosen)

    def merge_all(self) -> Span:
        """All spans as one."""
        return Span.merge(*self.root_spans)

    def merge_by_tags(self, *tags: str) -> Span:
        """Those with all these tags as one."""
        return Span.merge(*self.find_by_tags(*tags))


def start_spans(scheduler: Any) -> None:
    """Keep spans from now on."""
    if Spans.name not in scheduler.plugins:
        plugin = Spans()
        plugin.note_nthreads(scheduler)
        scheduler.add_plugin(plugin)
        scheduler.extensions[_EXTENSION] = plugin


def summary(scheduler: Any) -> list[dict[str, Any]]:
    """Name, id, states and times of all spans as plain data."""
    plugin = scheduler.plugins.get(Spans.name)
    return [] if plugin is None else [_plain(one) for one in plugin.spans.values()]


def _plain(one: Span) -> dict[str, Any]:
    return {
        "name": one.name,
        "id": one.id,
        "states": one.states,
        "start": one.start,
        "duration": one.duration,
        "nbytes": one.nbytes_total,
    }
