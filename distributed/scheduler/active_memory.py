"""The active memory manager: every few seconds policies look at the copies of values, and suggest to make some more or
to drop some. Shell: policies are users' code; what comes of their suggestions the core does (``MoveReplicas``).

No policy can drop the last copy of a value, a copy that a task is to use where it lies, or one that is being moved.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections.abc import Collection, Generator, Iterable
from typing import Any, NamedTuple

from distributed.base import defaults, settings
from distributed.base.settings import parse_timedelta
from distributed.scheduler.state_machine import TaskState, WorkerState
from distributed.scheduler.state_machine.events import MoveReplicas

logger = logging.getLogger("distributed.scheduler")

MEASURES = ("process", "optimistic", "managed", "unmanaged", "unmanaged_old", "unmanaged_recent")


class Suggestion(NamedTuple):
    """What a policy yields: ``"replicate"`` or ``"drop"``, a task, and the workers to choose from (None: any)."""

    op: str
    ts: TaskState
    candidates: Collection[WorkerState] | None = None


SuggestionGenerator = Generator[tuple[Any, ...], WorkerState | None, None]


class ActiveMemoryManagerPolicy(abc.ABC):
    """Base class of policies. One is kept in each manager; equal ones count once."""

    manager: ActiveMemoryManagerExtension

    @abc.abstractmethod
    def run(self) -> SuggestionGenerator:
        """Look at ``self.manager.scheduler``, change nothing, and yield suggestions.

        Each ``yield "replicate", task, candidates`` or ``yield "drop", task, candidates`` returns the worker that was
        chosen, or None when the suggestion was not taken. What was chosen is done when all policies have ended.
        """


class ActiveMemoryManagerExtension:
    """Runs policies on a scheduler; ``scheduler.extensions["amm"]``.

    Parameters
    ----------
    scheduler : Scheduler
    policies : iterable of ActiveMemoryManagerPolicy, optional
        Default: those of the setting ``distributed.scheduler.active-memory-manager.policies``.
    measure : str, optional
        The attribute of ``WorkerState.memory`` by which workers are compared.
    register : bool
        Whether the scheduler is to know it, and clients to reach it by ``client.amm``.
    start : bool, optional
        Whether it runs by itself.
    interval : float or str, optional
        Seconds between two runs.
    """

    def __init__(
        self,
        scheduler: Any,
        policies: Iterable[ActiveMemoryManagerPolicy] | None = None,
        *,
        measure: str | None = None,
        register: bool = True,
        start: bool | None = None,
        interval: float | str | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.policies: set[ActiveMemoryManagerPolicy] = set()
        self.measure = (
            settings.get("distributed.scheduler.active-memory-manager.measure", "optimistic")
            if measure is None
            else measure
        )
        if self.measure not in MEASURES:
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, not {self.measure!r}")
        given = (
            settings.get("distributed.scheduler.active-memory-manager.interval", "2s") if interval is None else interval
        )
        self.interval = float(parse_timedelta(given))
        if self.interval <= 0:
            raise ValueError(f"interval must be longer than nothing, not {given!r}")
        self._timer: asyncio.TimerHandle | None = None
        self._round = _Round(self)
        for policy in _configured() if policies is None else policies:
            self.add_policy(policy)
        if register:
            scheduler.extensions["amm"] = self
            scheduler.handlers["amm_handler"] = self.amm_handler
        # Nothing runs before the scheduler does: ``on_start``.
        self._starts = bool(
            settings.get("distributed.scheduler.active-memory-manager.start", True) if start is None else start
        )
        if self._starts and scheduler.status.name == "running":
            self.start()

    def on_start(self) -> None:
        """The scheduler runs from now on."""
        if self._starts:
            self.start()

    def on_stop(self) -> None:
        """The scheduler ends."""
        self.stop()

    def add_policy(self, policy: ActiveMemoryManagerPolicy) -> None:
        """Have a policy run from now on.

        Raises
        ------
        TypeError
            It is no policy.
        """
        if not isinstance(policy, ActiveMemoryManagerPolicy):
            raise TypeError(f"a policy's class must be made from ActiveMemoryManagerPolicy, unlike {policy!r}")
        policy.manager = self
        self.policies.add(policy)

    @property
    def running(self) -> bool:
        """Whether the policies run by themselves."""
        return self._timer is not None

    def start(self) -> None:
        """Run the policies every ``interval`` seconds from now on; harmless when they do."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.interval, self._run)

    def stop(self) -> None:
        """Run them no more by themselves."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        self._timer = None
        self.start()
        if not self.scheduler.shell.closed:
            self.run_once()

    def run_once(self) -> None:
        """Run all policies, and do what they have suggested. One that raises is logged; its suggestions until then
        count."""
        choices = self._round = _Round(self)
        for policy in list(self.policies):
            try:
                choices.ask(policy)
            except Exception:
                logger.exception("The policy %r of the memory manager has failed", policy)
        moves = choices.moves()
        if moves:
            self.scheduler.shell.apply(*moves)

    @property
    def pending(self) -> dict[TaskState, tuple[set[WorkerState], set[WorkerState]]]:
        """What has been chosen in this run: task -> workers that will get it, workers that will drop it."""
        return {ts: (set(to), set(drop)) for ts, (to, drop) in self._round.chosen.items()}

    def amm_handler(self, method: str) -> Any:
        """What clients may ask: ``start``, ``stop``, ``run_once``, ``running``."""
        if method == "running":
            return self.running
        if method not in ("start", "stop", "run_once"):
            raise ValueError(f"the memory manager can start, stop, run_once and say if it is running, not {method!r}")
        return getattr(self, method)()


class _Round:
    """One run of all policies: what was chosen so far, and the memory that workers will have then."""

    def __init__(self, manager: ActiveMemoryManagerExtension) -> None:
        self._manager = manager
        self.chosen: dict[TaskState, tuple[dict[WorkerState, None], dict[WorkerState, None]]] = {}
        self._nbytes: dict[WorkerState, int] = {}
        self._leaving = {policy.address for policy in manager.policies if isinstance(policy, RetireWorker)}

    def ask(self, policy: ActiveMemoryManagerPolicy) -> None:
        suggestions = policy.run()
        answer: WorkerState | None = None
        while True:
            try:
                suggestion = suggestions.send(answer)
            except StopIteration:
                return
            answer = self._choose(*suggestion)

    def _choose(self, op: str, ts: TaskState, candidates: Collection[WorkerState] | None = None) -> WorkerState | None:
        if op not in ("replicate", "drop"):
            raise ValueError(f'a suggestion begins with "replicate" or "drop", not {op!r}')
        if ts.state != "memory" or ts.actor or ts.unshippable is not None or ts in self._manager.scheduler.state.moves:
            return None
        to, drop = self.chosen.get(ts) or ({}, {})
        ws = self._taker(ts, to, candidates) if op == "replicate" else self._giver(ts, to, drop, candidates)
        if ws is not None:
            self.chosen[ts] = (to, drop)
            (to if op == "replicate" else drop)[ws] = None
            self._nbytes[ws] = self._memory(ws) + (ts.get_nbytes() if op == "replicate" else -ts.get_nbytes())
        return ws

    def _memory(self, ws: WorkerState) -> int:
        known = self._nbytes.get(ws)
        return int(getattr(ws.memory, self._manager.measure)) if known is None else known

    def _taker(
        self, ts: TaskState, to: dict[WorkerState, None], candidates: Collection[WorkerState] | None
    ) -> WorkerState | None:
        """The emptiest worker that has no copy and is to get none."""
        running = self._manager.scheduler.state.running
        pool = running if candidates is None else [ws for ws in candidates if ws in running]
        pool = [ws for ws in pool if ws not in ts.who_has and ws not in to and ws.address not in self._leaving]
        return min(pool, key=self._memory, default=None)

    def _giver(
        self,
        ts: TaskState,
        to: dict[WorkerState, None],
        drop: dict[WorkerState, None],
        candidates: Collection[WorkerState] | None,
    ) -> WorkerState | None:
        """The fullest worker that can do without its copy; one that is to be closed, if there is such."""
        if len(ts.who_has) + len(to) - len(drop) < 2:
            return None
        users = {waiter.processing_on for waiter in ts.waiters}
        pool = [
            ws for ws in ts.who_has if ws not in drop and ws not in users and (candidates is None or ws in candidates)
        ]
        return max(pool, key=lambda ws: (not ws.running or ws.address in self._leaving, self._memory(ws)), default=None)

    def moves(self) -> list[MoveReplicas]:
        return [
            MoveReplicas(ts.key, [ws.address for ws in to], [ws.address for ws in drop])
            for ts, (to, drop) in self.chosen.items()
        ]


class ReduceReplicas(ActiveMemoryManagerPolicy):
    """Drops copies that no task is about to use. As many as ``client.replicate`` or ``scatter(broadcast=)`` were asked
    for stay.

    A run looks at ``N_LOOKED_AT`` tasks at most, the next one at the others.
    """

    N_LOOKED_AT = 10_000
    N_WAITERS = 20

    def __init__(self) -> None:
        self._next = 0

    def run(self) -> SuggestionGenerator:
        """See :class:`ActiveMemoryManagerPolicy`."""
        tasks = list(self.manager.scheduler.state.replicated)
        if self._next >= len(tasks):
            self._next = 0
        part = tasks[self._next : self._next + self.N_LOOKED_AT]
        self._next += self.N_LOOKED_AT
        for ts in part:
            # What many tasks wait for will be used on many workers; counting them would cost more than it saves.
            if ts.n_waiters >= self.N_WAITERS:
                continue
            users = {waiter.processing_on for waiter in ts.waiters if waiter.processing_on is not None}
            asked_for = 1 if ts.rare is None else ts.rare.copies
            for _ in range(len(ts.who_has) - max(asked_for, len(users))):
                yield "drop", ts, None


class RetireWorker(ActiveMemoryManagerPolicy):
    """Copies what only one worker holds to others, and drops the rest there; then it leaves the manager.

    Parameters
    ----------
    address : str
        Of the worker. Call its ``done()`` to see whether it may go.

    Attributes
    ----------
    no_recipients : bool
        Whether it has given up, because no worker can take what is left.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.no_recipients = False

    def __repr__(self) -> str:
        return f"RetireWorker({self.address!r})"

    def run(self) -> SuggestionGenerator:
        """See :class:`ActiveMemoryManagerPolicy`."""
        ws = self.manager.scheduler.workers.get(self.address)
        if ws is None or self.done():
            self.manager.policies.discard(self)
            return
        stuck = False
        for ts in list(ws.has_what):
            if len(ts.who_has) > 1:
                yield "drop", ts, {ws}
            elif not ts.actor and ts.unshippable is None and ts not in self.manager.scheduler.state.moves:
                others = [other for other in self.manager.scheduler.state.running if other is not ws]
                stuck |= (yield "replicate", ts, others) is None
        if stuck:
            self.no_recipients = True
            self.manager.policies.discard(self)
            logger.warning("No worker can take what only %s holds", self.address)

    def done(self) -> bool:
        """Whether the worker holds nothing that no other one has. Actors and what cannot be pickled do not count."""
        ws = self.manager.scheduler.workers.get(self.address)
        if ws is None:
            return True
        return all(len(ts.who_has) > 1 or ts.actor or ts.unshippable is not None for ts in ws.has_what)


def _configured() -> list[ActiveMemoryManagerPolicy]:
    made = []
    for entry in settings.get("distributed.scheduler.active-memory-manager.policies", []) or []:
        options = dict(entry)
        name = options.pop("class", None)
        if name is None:
            raise ValueError(f"each of active-memory-manager.policies needs a class, which {entry!r} has not")
        made.append(defaults.load(name)(**options))
    return made
