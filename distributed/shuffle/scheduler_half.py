"""The scheduler's half of shuffles: opens runs for workers that ask, pins unpacks, notices lost holders. Shell.

What is decided is decided in ``plan.py`` and ``scheduling.py``. What a shuffle *is* (columns, types, chunks) is in the
pickle of its barrier task, which goes to the workers unopened.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterable
from typing import Any, assert_never

from distributed.base import settings
from distributed.base.errors import CommClosedError
from distributed.base.keys import as_key
from distributed.scheduler.state_machine import TaskState
from distributed.shuffle.names import TOPIC, barrier_key
from distributed.shuffle.plan import EndRun, Instruction, Pin, Recompute, Run, ShufflePlan
from distributed.shuffle.scheduling import (
    DONE,
    RunWatch,
    barrier_of,
    choose_holders,
    events_of,
    lost_of_partner,
    partner_of,
)

logger = logging.getLogger("distributed.shuffle")

AGAIN_S = 0.2
"""How often it is tried to tell something to a worker whose connection is broken."""


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
        ts = barrier_of(self.scheduler.state, id)
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
        if ts is None or ts.run_spec is None or ts.state in DONE:
            raise ValueError(f"shuffle {id} is not under way: nobody needs it any more")
        return ts

    def _open(self, id: str, ts: TaskState) -> Run:
        state = self.scheduler.state
        partner = partner_of(self.plan, ts)
        self._perform(lost_of_partner(state, self.plan, partner))
        run = self.plan.open(id, choose_holders(state, ts), partner)
        self._log(id, "run-started", run_id=run.run_id, holders=list(run.holders), n_inputs=len(ts.dependencies))
        self.scheduler.shell.spawn(self._watch(RunWatch(state, run, ts)))
        return run

    async def _watch(self, watch: RunWatch) -> None:
        """Until the run is over: end it when its barrier is no longer needed, void it when a holder is gone."""
        state = self.scheduler.state
        await self.scheduler.shell.conditions.wait(lambda: watch.is_over(state, self.plan))
        self._perform(watch.conclude(state, self.plan))

    # ---------------------------------------------------------------- acting

    def _perform(self, instructions: Iterable[Instruction]) -> None:
        for it in instructions:
            match it:
                case EndRun():
                    self._end(it)
                case Recompute():
                    self._recompute(it)
                case Pin():
                    self.scheduler.shell.apply(*events_of(self.scheduler.state, it))
                case _:
                    assert_never(it)

    def _end(self, it: EndRun) -> None:
        self._log(it.shuffle_id, "run-ended", run_id=it.run_id, reason=it.reason)
        told = self._told.pop(it.shuffle_id, {})
        kwargs = {"id": it.shuffle_id, "run_id": it.run_id, "reason": it.reason}
        for address in {**dict.fromkeys(it.holders), **told}:
            if address in self.scheduler.shell.streams.workers:
                self.scheduler.shell.spawn(_tell(self.scheduler.shell.streams, address, kwargs))

    def _recompute(self, it: Recompute) -> None:
        events = events_of(self.scheduler.state, it)
        if events:
            logger.warning("Shuffle %s starts again: %s", it.shuffle_id, it.reason)
            self._log(it.shuffle_id, "restarted", reason=it.reason)
            self.scheduler.shell.apply(*events, source=f"shuffle {it.shuffle_id}")

    def _log(self, id: str, action: str, **facts: Any) -> None:
        self.scheduler.log_event([TOPIC, f"{TOPIC}-{id}"], {"action": f"p2p-{action}", "id": id, **facts})


async def _tell(streams: Any, address: str, kwargs: dict[str, Any]) -> None:
    """Until it has heard it, or is gone: its connection may break, and stand again."""
    while address in streams.workers:
        connection = streams.worker(address)
        if connection is None or not await _told(connection, kwargs):
            await asyncio.sleep(AGAIN_S)
        else:
            return


async def _told(connection: Any, kwargs: dict[str, Any]) -> bool:
    try:
        await connection.request("shuffle_end", kwargs)
    except CommClosedError:
        return False
    except ValueError as error:
        logger.debug("Could not tell %s of the end of a shuffle: %s", connection.peer_address, error)
    return True
