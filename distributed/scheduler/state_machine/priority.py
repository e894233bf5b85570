"""The order of ready tasks: (-user priority, generation, rank in the submission), the smaller first. Pure."""

from __future__ import annotations

from distributed.messages.client_to_scheduler import UpdateGraph
from distributed.scheduler.state_machine.entities import ClientState
from distributed.scheduler.state_machine.tables import Tables

# A task submitted from a task runs just before what was submitted with its parent, so that nested work comes to an end.
NESTED_STEP = 2.0**-10


def choose_generation(state: Tables, cs: ClientState, event: UpdateGraph) -> float:
    """The generation of a submission; all parts of one have the same.

    Submissions closer than ``fifo_timeout_s`` share a generation: their tasks mix by rank.
    """
    if cs.submission == event.submission and cs.submission >= 0:
        return cs.generation
    parent = state.tasks.get(event.submitting_task) if event.submitting_task is not None else None
    if parent is not None:
        generation = parent.priority[1] - NESTED_STEP
    else:
        if state.now - state.generation_started > event.fifo_timeout_s:
            state.generation += 1.0
            state.generation_started = state.now
        generation = state.generation
    cs.submission = event.submission if not event.last else -1
    cs.generation = generation
    return generation
