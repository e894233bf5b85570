"""``validate`` finds tables that contradict each other, and says what is wrong."""

from __future__ import annotations

import pytest

from distributed.worker.state_machine import InvalidState, WorkerState
from tests.unit.worker.state_machine.env import A, Env, a_task


def lose_a_slot(state: WorkerState) -> None:
    state.slots_used += 1


def forget_a_run(state: WorkerState) -> None:
    state.handed.clear()


def forget_an_input(state: WorkerState) -> None:
    del state.tasks["x"]


def miscount(state: WorkerState) -> None:
    state.tasks["y"].waiting_count = 0


def leave_behind(state: WorkerState) -> None:
    state.tasks["x"].state = "fetch"


def lose_a_deadline(state: WorkerState) -> None:
    state.wake_at = None


def lose_a_queue_entry(state: WorkerState) -> None:
    state.ready._line.clear()


def leak_a_resource(state: WorkerState) -> None:
    state.resources.available["GPU"] -= 0.5


BUGS = [
    (lose_a_slot, "slots in use"),
    (forget_a_run, "with the executor"),
    (forget_an_input, "is in the table"),
    (miscount, "waiting_count"),
    (leave_behind, "has a holder"),
    (lose_a_deadline, "a deadline asks"),
    (lose_a_queue_entry, "ready queue"),
    (leak_a_resource, "GPU"),
]


@pytest.mark.parametrize(("bug", "rule"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_planted_bugs_are_found(bug, rule):
    env = Env(resources={"GPU": 1})
    env.send(a_task("run", 1), a_task("ready", 2), a_task("y", 3, ("x", A)), a_task("z", 4, "w"))
    bug(env.state)
    with pytest.raises(InvalidState, match=rule):
        env.state.validate()
