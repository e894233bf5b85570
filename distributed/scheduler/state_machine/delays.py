"""Tasks that have raised and wait for their next run (``Retry(backoff=...)``). Pure.

Such a task is ``waiting`` with nothing to wait for but a time. It is not ready before that; when it loses an input
meanwhile, it waits for that instead.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from distributed.scheduler.state_machine.entities import TaskState
from distributed.scheduler.state_machine.tables import Tables, note
from distributed.scheduler.state_machine.transitions.assign import back_to_waiting, recall
from distributed.scheduler.state_machine.transitions.release import unassign


def run_later(state: Tables, ts: TaskState, delay_s: float) -> None:
    """processing -> released -> waiting, and ready when the delay is over."""
    unassign(state, ts, False)
    back_to_waiting(state, ts, ready=False)
    recall(state, ts)
    note(state, ts.key, "retry-later", f"in {delay_s:g} s")
    due = state.now + delay_s
    state.delayed[ts] = due
    heappush(state.delays, (due, ts.run_id, ts))


def make_due_ready(state: Tables) -> None:
    """Those whose time has come."""
    while state.delays and state.delays[0][0] <= state.now:
        due, _, ts = heappop(state.delays)
        if state.delayed.get(ts) == due:
            del state.delayed[ts]
            state.ready.append(ts)


def delay_deadline(state: Tables) -> float | None:
    """When the first of them is due."""
    delays = state.delays
    if len(delays) > 2 * len(state.delayed) + 10:
        delays[:] = [entry for entry in delays if state.delayed.get(entry[2]) == entry[0]]
        heapify(delays)
    while delays and state.delayed.get(delays[0][2]) != delays[0][0]:
        heappop(delays)
    return delays[0][0] if delays else None
