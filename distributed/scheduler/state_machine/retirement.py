"""Emptying workers before they are closed: what only they hold is copied to others first. Pure.

A retiring worker has status ``closing_gracefully``: it gets no new tasks. It may go when no key is left that only
retiring workers hold. Tasks that still run there run again elsewhere after it closed, and nobody is blamed. A
retirement that cannot succeed (nobody to take the data, time is over) ends with the reason, and the worker works on.
"""

from __future__ import annotations

from distributed.messages.scheduler_to_worker import CloseWorkerOrder, SetStatus
from distributed.scheduler.state_machine.entities import TaskState, WorkerState
from distributed.scheduler.state_machine.events import RetireWorkers
from distributed.scheduler.state_machine.fleet import set_status
from distributed.scheduler.state_machine.instructions import RetirementEnded
from distributed.scheduler.state_machine.replicas import ask_to_fetch
from distributed.scheduler.state_machine.tables import Retirement, Tables

MAX_ATTEMPTS = 8
"""Copies of one key that may fail before its holder's retirement is given up."""


def on_retire_workers(state: Tables, event: RetireWorkers, source: str) -> None:
    """Begin; ``step_retirements`` does the rest."""
    timeout = event.timeout_s if event.timeout_s is not None else state.settings.retire_timeout_s
    for address in event.addresses:
        ws = state.workers.get(address)
        if ws is None:
            state.out.instructions.append(RetirementEnded(address, False, "there is no such worker", 0))
        elif ws not in state.retirements:
            deadline = None if timeout is None else state.now + timeout
            state.retirements[ws] = Retirement(event.close, deadline, event.reason)
            set_status(state, ws, "closing_gracefully")
            state.out.to_workers[address].append(SetStatus("closing_gracefully"))
    state.retire_again = True


def step_retirements(state: Tables) -> None:
    """Order missing copies, and let workers go that hold nothing alone."""
    state.retire_again = False
    for ws, retirement in list(state.retirements.items()):
        if not ws.alive:
            del state.retirements[ws]
            continue
        left = sole_keys(state, ws)
        if not left:
            _end(state, ws, retirement, True, retirement.reason, 0)
        elif retirement.deadline is not None and state.now >= retirement.deadline:
            reason = f"{len(left)} keys could not be copied to other workers in time, {left[0].key!r} among them"
            _end(state, ws, retirement, False, reason, len(left))
        elif stuck := [ts for ts in left if retirement.failed.get(ts, 0) >= MAX_ATTEMPTS]:
            reason = f"copying {stuck[0].key!r} to another worker has failed {MAX_ATTEMPTS} times"
            _end(state, ws, retirement, False, reason, len(left))
        else:
            takers = sorted([w for w in state.running if w not in state.retirements], key=lambda w: w.nbytes)
            if not takers:
                reason = f"no other worker can take the {len(left)} keys that only it holds"
                _end(state, ws, retirement, False, reason, len(left))
            else:
                _order_copies(state, left, retirement, takers)


def sole_keys(state: Tables, ws: WorkerState) -> list[TaskState]:
    """What must be copied before the worker may go. Actors and unshippable values cannot be."""
    retirements = state.retirements
    return [
        ts
        for ts in ws.has_what
        if all(holder in retirements for holder in ts.who_has) and not ts.policy.actor and ts.unshippable is None
    ]


def _order_copies(state: Tables, keys: list[TaskState], retirement: Retirement, takers: list[WorkerState]) -> None:
    load = {taker: taker.nbytes for taker in takers}
    n = 0
    for ts in keys:
        asked = retirement.sent.get(ts)
        if asked is not None and asked.alive and asked.running:
            continue
        # The emptiest few take turns.
        taker = min(takers[n % len(takers)], takers[(n + 1) % len(takers)], key=lambda w: load[w])
        n += 1
        load[taker] += max(0, ts.nbytes)
        retirement.sent[ts] = taker
        ask_to_fetch(state, ts, taker)


def _end(state: Tables, ws: WorkerState, retirement: Retirement, retired: bool, reason: str, n_left: int) -> None:
    del state.retirements[ws]
    state.out.instructions.append(RetirementEnded(ws.address, retired, reason, n_left))
    if not retired:
        set_status(state, ws, "running")
        state.out.to_workers[ws.address].append(SetStatus("running"))
    elif retirement.close:
        state.out.to_workers[ws.address].append(CloseWorkerOrder(retirement.reason))


def retirement_deadline(state: Tables) -> float | None:
    """The first deadline of a retirement."""
    return min([r.deadline for r in state.retirements.values() if r.deadline is not None], default=None)
