"""What happened to a key, or because of a stimulus. Pure."""

from __future__ import annotations

from typing import NamedTuple

from distributed.base.keys import Key
from distributed.scheduler.state_machine.tables import Tables


class StoryEntry(NamedTuple):
    """One step: a transition (``start`` and ``finish`` are states), or a note (``start`` says of what kind)."""

    key: Key
    start: str
    finish: str
    stimulus_id: str
    time: float


def story(state: Tables, *keys_or_stimuli: Key) -> list[StoryEntry]:
    """Entries of the log about any of these keys or stimulus ids, oldest first; of all without arguments."""
    entries = [
        StoryEntry(key, start, finish, f"{context[1]}-{context[0]}", context[2])
        for key, start, finish, context in state.log or ()
    ]
    if not keys_or_stimuli:
        return entries
    wanted = frozenset(keys_or_stimuli)
    return [entry for entry in entries if entry.key in wanted or entry.stimulus_id in wanted]
