"""What happens because time passes: exit reports, absent clients, silent workers, tasks without worker, retirements,
stealing. Pure."""

from __future__ import annotations

from distributed.scheduler.state_machine.delays import delay_deadline, make_due_ready
from distributed.scheduler.state_machine.fleet import remove
from distributed.scheduler.state_machine.handlers.from_clients import remove_client
from distributed.scheduler.state_machine.liveness import give_up_away, liveness_deadline, look
from distributed.scheduler.state_machine.no_worker import look_at_unrunnable, no_worker_deadline
from distributed.scheduler.state_machine.retirement import retirement_deadline
from distributed.scheduler.state_machine.stealing import steal_deadline
from distributed.scheduler.state_machine.tables import Tables


def next_deadline(state: Tables) -> float | None:
    """The earliest of all. Asked for in every beat, so what is seldom is only asked for when there is some."""
    look_at = liveness_deadline(state) if state.next_look is None or not state.workers else state.next_look
    if not (
        (state.idle and state.saturated)
        or state.next_steal is not None
        or state.unrunnable
        or state.no_workers_since is not None
        or state.vanished
        or state.away
        or state.absent
        or state.retirements
        or state.delayed
    ):
        return look_at
    candidates: list[float | None] = [look_at, steal_deadline(state), no_worker_deadline(state)]
    candidates.extend([vanished.deadline for vanished in state.vanished.values()])
    candidates.extend([absence.deadline for absence in (*state.absent.values(), *state.away.values())])
    if state.delayed:
        candidates.append(delay_deadline(state))
    if state.retirements:
        candidates.append(retirement_deadline(state))
    return min([deadline for deadline in candidates if deadline is not None], default=None)


def handle_deadlines(state: Tables) -> None:
    """Do what is due. Stealing is part of the placing beat that follows."""
    now = state.now
    for ws, vanished in list(state.vanished.items()):
        if vanished.deadline <= now:
            remove(state, ws, vanished.cause, blame=True)
    for cs, absence in list(state.absent.items()):
        if absence.deadline is not None and absence.deadline <= now:
            cause = f"{absence.cause}; it has not come back within {now - absence.since:.3g} s"
            remove_client(state, cs, cause, expected=False)
    make_due_ready(state)
    look_at_unrunnable(state)
    look(state)
    if state.away:
        give_up_away(state)
    if state.retirements:
        state.retire_again = True
