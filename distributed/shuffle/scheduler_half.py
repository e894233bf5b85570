"""The scheduler's half of shuffles: opens runs for workers that ask, pins unpacks, notices lost holders. Shell.

What is decided is decided in ``plan.py``. What a shuffle *is* (columns, types, chunks) is in the pickle of its barrier
task, which goes to the workers unopened.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from typing import Any, assert_never

from distributed.base import settings
from distributed.base.errors import CommClosedError
from distributed.base.keys import Key, as_key
from distributed.scheduler.state_machine import TaskState, WorkerState
from distributed.scheduler.state_machine.events import PinTasks, RecomputeTasks
from distributed.scheduler.state_machine.restrictions import allowed_workers
from distributed.shuffle.names import TOPIC, barrier_key, id_from_key
from distributed.shuffle.plan import EndRun, Instruction, Pin, Recompute, Run, ShufflePlan

logger = logging.getLogger("distributed.shuffle")

_DONE = frozenset(["released", "erred", "forgotten"])


class ShuffleSchedulerPlugin:
    """``scheduler.extensions["shuffle"]``.

    Attributes
    ----------
    plan
        Runs by shuffle id.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.plan = ShufflePlan()
        self._told: dict[str, dict[str, None]] = {}
        scheduler.handlers.update(
            {
                "shuffle_get": self.get,
                "shuffle_barrier": self.barrier,
                "shuffle_check": self.check,
            }
        )

    # ---------------------------------------------------------------- what workers ask

    async def get(self, id: str, worker: str, may_open: bool) -> dict[str, Any]:
        """The present run of a shuffle: ``run_id``, ``holders``, ``message_nbytes``, and the pickle of its barrier task
        as ``barrier``.

        Raises ``ValueError`` when no client needs the shuffle (any more), or there is no run and none may be opened.
        """
        ts = await self._barrier_task(id)
        run = self.plan.runs.get(id)
        if run is None and may_open:
            run = self._open(id, ts)
        if run is None:
            raise ValueError(f"there is no run of shuffle {id}")
        self._told.setdefault(id, {})[worker] = None
        assert ts.run_spec is not None
        return {
            "run_id": run.run_id,
            "holders": list(run.holders),
            "message_nbytes": self._message_nbytes,
            "barrier": ts.run_spec.payload,
        }

    @functools.cached_property
    def _message_nbytes(self) -> int:
        """One number for all workers: holders know a message by its place among those of its input."""
        return max(1, int(settings.get_bytes("distributed.p2p.comm.message-bytes-limit", "2 MiB")))

    def barrier(self, id: str, run_ids: list[int], stats: dict[str, Any] | None = None) -> bool:
        """All inputs are with their holders. Returns whether the unpacks may start; if not, a new run is on its way."""
        instructions = self.plan.pass_barrier(id, run_ids)
        self._perform(instructions)
        passed = any(type(instruction) is Pin for instruction in instructions)
        if passed:
            self._log(id, "barrier-passed", **(stats or {}))
        return passed

    def check(self, id: str) -> None:
        """A worker was asked for a partition of a run that is over. Unless that order is out of date: start again."""
        ts = self._task(id)
        if ts is not None and ts.state == "memory":
            self._perform(self.plan.check_passed(id))

    # ---------------------------------------------------------------- opening

    async def _barrier_task(self, id: str) -> TaskState:
        """The barrier's record. The graph may still be coming in: transfers run before its last part is here."""
        state = self.scheduler.state
        key = as_key(barrier_key(id))

        def known() -> bool:
            return key in state.tasks or not any(cs.pins for cs in state.clients.values())

        await self.scheduler.shell.conditions.wait(known)
        ts: TaskState | None = state.tasks.get(key)
        if ts is None or ts.run_spec is None or ts.state in _DONE:
            raise ValueError(f"shuffle {id} is not under way: nobody needs it any more")
        return ts

    def _open(self, id: str, ts: TaskState) -> Run:
        state = self.scheduler.state
        allowed = allowed_workers(state, ts.policy)
        chosen = [ws for ws in allowed if ws.running] or [ws for ws in state.workers.values() if ws.running]
        if not chosen:
            chosen = [ws for ws in state.workers.values() if ws.alive]
        partner = self._partner(ts)
        if partner is not None:
            # What its own watch is about to find must not become ours.
            for address in self.plan.runs[partner].holders:
                if address not in state.workers:
                    self._perform(self.plan.lose_holder(address))
        run = self.plan.open(id, [ws.address for ws in chosen], partner)
        holders = {address: state.workers.get(address) for address in run.holders}
        self._log(id, "run-started", run_id=run.run_id, holders=list(run.holders), n_inputs=len(ts.dependencies))
        self.scheduler.shell.spawn(self._watch(run, ts, holders))
        return run

    def _partner(self, ts: TaskState) -> str | None:
        """A running shuffle that some unpack of this one needs too."""
        for dependent in ts.dependents:
            if dependent.run_spec is None or dependent.run_spec.partition < 0:
                continue
            for dependency in dependent.dependencies:
                other = id_from_key(dependency.key)
                if dependency is not ts and other is not None and other in self.plan.runs:
                    return other
            return None
        return None

    async def _watch(self, run: Run, ts: TaskState, holders: dict[str, WorkerState | None]) -> None:
        """Until the run is over: end it when its barrier is no longer needed, void it when a holder is gone."""
        state = self.scheduler.state
        epoch = -1

        def over() -> bool:
            nonlocal epoch
            if self.plan.runs.get(run.shuffle_id) is not run:
                return True
            if ts.state in _DONE or state.tasks.get(ts.key) is not ts:
                return True
            if epoch != state.epoch:
                epoch = state.epoch
                return self._lost(holders) is not None
            return False

        await self.scheduler.shell.conditions.wait(over)
        if self.plan.runs.get(run.shuffle_id) is not run:
            return
        lost = self._lost(holders)
        if ts.state not in _DONE and state.tasks.get(ts.key) is ts and lost is not None:
            self._perform(self.plan.lose_holder(lost))
        else:
            self._perform(self.plan.end(run.shuffle_id, "failed" if ts.state == "erred" else "no longer needed"))

    def _lost(self, holders: dict[str, WorkerState | None]) -> str | None:
        workers = self.scheduler.state.workers
        return next((a for a, ws in holders.items() if ws is None or workers.get(a) is not ws), None)

    # ---------------------------------------------------------------- acting

    def _perform(self, instructions: Iterable[Instruction]) -> None:
        for it in instructions:
            match it:
                case EndRun():
                    self._end(it)
                case Recompute():
                    self._recompute(it)
                case Pin():
                    self._pin(it)
                case _:
                    assert_never(it)

    def _end(self, it: EndRun) -> None:
        self._log(it.shuffle_id, "run-ended", run_id=it.run_id, reason=it.reason)
        told = self._told.pop(it.shuffle_id, {})
        kwargs = {"id": it.shuffle_id, "run_id": it.run_id, "reason": it.reason}
        for address in {**dict.fromkeys(it.holders), **told}:
            connection = self.scheduler.shell.streams.workers.get(address)
            if connection is not None and not connection.closed:
                self.scheduler.shell.spawn(_tell(connection, kwargs))

    def _recompute(self, it: Recompute) -> None:
        ts = self._task(it.shuffle_id)
        if ts is None:
            return
        logger.warning("Shuffle %s starts again: %s", it.shuffle_id, it.reason)
        self._log(it.shuffle_id, "restarted", reason=it.reason)
        # The barrier first: then its inputs are still needed when they are dropped.
        keys = [ts.key, *[dependency.key for dependency in ts.dependencies]]
        pins: list[tuple[Key, str | None]] = [(d.key, None) for d in ts.dependents if d.policy.unpinned is not None]
        self.scheduler.shell.apply(PinTasks(pins), RecomputeTasks(keys, it.reason), source=f"shuffle {it.shuffle_id}")

    def _pin(self, it: Pin) -> None:
        ts = self._task(it.shuffle_id)
        if ts is None:
            return
        n = len(it.holders)
        pins: list[tuple[Key, str | None]] = [
            (dependent.key, it.holders[dependent.run_spec.partition % n])
            for dependent in ts.dependents
            if dependent.run_spec is not None and dependent.run_spec.partition >= 0
        ]
        self.scheduler.shell.apply(PinTasks(pins))

    def _task(self, id: str) -> TaskState | None:
        ts: TaskState | None = self.scheduler.state.tasks.get(as_key(barrier_key(id)))
        return ts

    def _log(self, id: str, action: str, **facts: Any) -> None:
        self.scheduler.log_event([TOPIC, f"{TOPIC}-{id}"], {"action": f"p2p-{action}", "id": id, **facts})


async def _tell(connection: Any, kwargs: dict[str, Any]) -> None:
    try:
        await connection.request("shuffle_end", kwargs)
    except (CommClosedError, ValueError) as error:
        logger.debug("Could not tell %s of the end of a shuffle: %s", connection.peer_address, error)
