"""The tables of transitions are complete and true: only what is in them is seen, and all that is in them is seen.

Seen are the playbooks, some random lives of each core, and some of both together.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distributed.scheduler.state_machine import tables as scheduler_tables
from distributed.scheduler.state_machine import transitions as scheduler
from distributed.simulation.episode import Episode
from distributed.simulation.faults import make_script
from distributed.worker.state_machine import tables as worker_tables
from distributed.worker.state_machine import transitions as worker
from distributed.worker.state_machine.task import ALL_STATES
from docs import states
from tests.playbooks.conftest import play
from tests.playbooks.notation import read
from tests.unit.scheduler.state_machine.test_random import World
from tests.unit.worker.state_machine.test_random import Chaos

Step = tuple[str, str]
CORES = {
    "scheduler": (scheduler.STATES, scheduler.TRANSITIONS, scheduler.IMPOSSIBLE),
    "worker": (ALL_STATES, worker.TRANSITIONS, worker.IMPOSSIBLE),
}


@contextmanager
def watching() -> Iterator[dict[str, Counter[Step]]]:
    """Count every step of every core that is made meanwhile."""
    seen: dict[str, Counter[Step]] = {"scheduler": Counter(), "worker": Counter()}

    class SchedulerLog(deque[Any]):
        def append(self, entry: Any) -> None:
            if entry[1] in scheduler.STATES:  # else a note
                seen["scheduler"][entry[1], entry[2]] += 1
            super().append(entry)

    class WorkerLog(deque[Any]):
        def append(self, entry: Any) -> None:
            seen["worker"][entry[2], entry[3]] += 1
            super().append(entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler_tables, "deque", SchedulerLog)
        patch.setattr(worker_tables, "deque", WorkerLog)
        yield seen


def play_all() -> None:
    for path in sorted(Path(__file__).parent.glob("*/*.txt")):
        play(path, read(path.read_text()))


@pytest.mark.parametrize("core", CORES)
def test_each_pair_of_states_is_possible_or_not_and_never_both(core):
    states, transitions, impossible = CORES[core]
    pairs = {(start, finish) for start in states for finish in states}
    not_possible = {(start, finish) for start, reasons in impossible.items() for finish in reasons}
    assert not transitions.keys() & not_possible
    assert transitions.keys() | not_possible == pairs
    assert all(reason for reasons in impossible.values() for reason in reasons.values())


@pytest.mark.parametrize("core", CORES)
def test_the_playbooks_show_every_transition(core):
    with watching() as seen:
        play_all()
    _, transitions, _ = CORES[core]
    unseen = sorted(transitions.keys() - seen[core].keys())
    assert not unseen, f"no playbook shows {unseen}"
    assert sorted(seen[core].keys() - transitions.keys()) == [], "these are not in the table"


def test_chance_finds_no_other_transition():
    with watching() as seen:
        for seed in range(100, 102):
            world = World(seed)
            for _ in range(500):
                world.step()
        for seed in range(1000, 1040):
            chaos = Chaos(seed)
            chaos.run(200)
            chaos.make_peace()
        for seed in range(1000, 1005):
            Episode(make_script(seed)).run()
    for core, (_, transitions, _) in CORES.items():
        assert len(seen[core]) > len(transitions) // 2
        assert sorted(seen[core].keys() - transitions.keys()) == [], f"not in the table of the {core}"


def test_the_page_of_states_is_up_to_date():
    assert states.PAGE.read_text(encoding="utf-8") == states.page(), "make docs"
