"""Work stealing: idle workers get tasks that were assigned to busy ones and have not started. Pure.

Transactional: the victim is asked (``StealRequest``) and gives the task back or says that it has started. Nothing moves
before the answer. Most of the balance is already kept by holding tasks in the queue; stealing mends what turned out
differently than expected: tasks that run longer than their prefix did, workers that join late, tasks bound to their
inputs.
"""

from __future__ import annotations

from itertools import islice

from distributed.messages.scheduler_to_worker import StealRequest
from distributed.messages.worker_to_scheduler import StealResponse
from distributed.scheduler.state_machine.entities import TaskState, WorkerState
from distributed.scheduler.state_machine.restrictions import allowed_workers
from distributed.scheduler.state_machine.tables import Steal, Tables, note
from distributed.scheduler.state_machine.transitions.assign import assign, requeue

MAX_THIEVES = 20
MAX_SCANNED = 200


def steal_deadline(state: Tables) -> float | None:
    """When to look next: only while somebody is idle and somebody is behind."""
    if not state.settings.stealing or not state.idle or not state.saturated:
        state.next_steal = None
        return None
    if state.next_steal is None:
        state.next_steal = state.now + state.settings.steal_interval_s
    return state.next_steal


def balance(state: Tables) -> None:
    """Ask victims for tasks on behalf of idle workers."""
    deadline = steal_deadline(state)
    if deadline is None or deadline > state.now:
        return
    state.next_steal = state.now + state.settings.steal_interval_s
    promised: dict[WorkerState, float] = {}
    for steal in state.steals.values():
        promised[steal.thief] = promised.get(steal.thief, 0.0) + state.settings.min_duration_s
    left = state.settings.steal_batch
    thieves = [ws for ws in islice(state.idle.values(), MAX_THIEVES) if ws not in promised]
    victims = sorted(state.saturated, key=lambda ws: -ws.occupancy / ws.nthreads)
    for victim in victims:
        if left <= 0 or not thieves:
            return
        left -= _rob(state, victim, thieves, promised, left)


def _rob(
    state: Tables, victim: WorkerState, thieves: list[WorkerState], promised: dict[WorkerState, float], limit: int
) -> int:
    """Ask one victim for its latest tasks, as long as it stays further behind than the thieves. What stands behind a
    run that nobody wants any more, which may go on for ever, is asked for in any case."""
    n = 0
    backlog = victim.occupancy
    loads = {ws: ws.occupancy + promised.get(ws, 0.0) for ws in thieves}
    started = min(max(0, victim.nthreads - victim.held_slots), len(victim.processing))
    candidates = islice(reversed(victim.processing), min(MAX_SCANNED, max(0, len(victim.processing) - started)))
    for ts in list(candidates):
        if n >= limit:
            break
        charge = victim.processing[ts]
        if not may_move(state, ts, victim):
            continue
        thief = _choose_thief(state, ts, victim, loads)
        if thief is None:
            continue
        cost = charge + transfer_s(state, ts, thief)
        # Both sides in expected seconds a thread, the task counted where it would be.
        if not victim.held_slots and (loads[thief] + cost) / thief.nthreads > (backlog - charge) / victim.nthreads:
            continue
        state.steals[ts] = Steal(victim, thief, ts.run_id, state.now)
        state.n_steal_requests += 1
        state.steal_requests_s += cost
        state.out.to_workers[victim.address].append(StealRequest(ts.key, ts.run_id, state.stimulus_id))
        note(state, ts.key, "steal", f"{victim.address} -> {thief.address}")
        loads[thief] += cost
        promised[thief] = promised.get(thief, 0.0) + cost
        backlog -= charge
        n += 1
    return n


def may_move(state: Tables, ts: TaskState, victim: WorkerState) -> bool:
    """Whether the task may be taken away from where it is assigned."""
    if ts.n_waiting or ts in state.steals or ts in victim.executing or ts in victim.long_running or ts.policy.actor:
        return False
    return not any(dep.rare is not None and dep.rare.unshippable is not None for dep in ts.dependencies)


def _choose_thief(
    state: Tables, ts: TaskState, victim: WorkerState, loads: dict[WorkerState, float]
) -> WorkerState | None:
    allowed = None if ts.policy.free else allowed_workers(state, ts.policy)
    best: WorkerState | None = None
    least = 1e300
    for ws, load in loads.items():
        if ws is victim or not ws.running or (allowed is not None and ws not in allowed):
            continue
        seconds = load / ws.nthreads + transfer_s(state, ts, ws)
        if seconds < least:
            least = seconds
            best = ws
    return best


def transfer_s(state: Tables, ts: TaskState, ws: WorkerState) -> float:
    """Expected seconds to bring the task's missing inputs to a worker."""
    missing = 0
    n = 0
    for dep in ts.dependencies:
        if ws not in dep.who_has:
            missing += dep.nbytes if dep.nbytes >= 0 else state.settings.unknown_nbytes
            n += 1
    return missing / state.settings.bandwidth + state.settings.transfer_latency_s if n else 0.0


def on_steal_response(state: Tables, event: StealResponse, source: str) -> None:
    """The victim has answered. A task that it gave up is moved even when the thief is busy or gone by now."""
    ts = state.tasks.get(event.key)
    ws = state.workers.get(source)
    if ts is None or ws is None or ts.run_id != event.run_id or ts.processing_on is not ws:
        state.n_ignored += 1
        return
    steal = state.steals.pop(ts, None)
    if not event.given:
        ws.executing.setdefault(ts, 0.0)  # it has begun: not to be asked for again
        return
    state.stolen_count += 1
    requeue(state, ts, free=False)
    if steal is None or ts.n_waiting:
        return
    thief = steal.thief
    allowed = ts.policy.free or thief in allowed_workers(state, ts.policy)
    if thief.running and thief.alive and allowed:
        # Still in ``ready``; the placing beat will see that it is placed already.
        assign(state, ts, thief, state.stimulus_id)
        state.touched[thief] = None
