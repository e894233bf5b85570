"""The only way out of the state machine: instructions, in the order in which they must be performed. Pure.

Messages to the scheduler are collected apart and come last, so that the scheduler hears of nothing that has not been
done; they leave in one batch. A test that leaves an entry unclaimed fails.
"""

from __future__ import annotations

from collections.abc import Callable

from distributed.base.keys import Key
from distributed.messages.worker_to_scheduler import ReplicasAdded, ReplicasDropped, WorkerToScheduler
from distributed.worker.state_machine.instructions import Evict, Instruction, SendToScheduler

# How long reports may wait for company: when everybody who needs the results is here; when there is enough to do here.
QUIET_S = 0.003
BUSY_S = 0.01


class Outbox:
    """Instructions that wait to be performed. ``before_take`` does what is decided once per batch of events."""

    __slots__ = ("_added", "before_take", "busy", "instructions", "messages", "n_patient", "n_quiet")

    def __init__(self, before_take: Callable[[], None]) -> None:
        self.instructions: list[Instruction] = []
        self.messages: list[WorkerToScheduler] = []
        # How many of the messages nobody waits for, and how many more can wait while there is work here.
        self.n_quiet = 0
        self.n_patient = 0
        # There is enough to do here for the next few milliseconds.
        self.busy = False
        self.before_take = before_take
        self._added: list[tuple[Key, int]] | None = None

    def take(self) -> list[Instruction]:
        """Everything decided since the last call; ends with at most one ``SendToScheduler``."""
        self.before_take()
        instructions = self.instructions
        self.instructions = []
        if self.messages:
            instructions.append(SendToScheduler(self.messages, self._patience_s()))
            self.messages = []
            self.n_quiet = self.n_patient = 0
            self._added = None
        return instructions

    def _patience_s(self) -> float:
        n = len(self.messages)
        if self.busy:
            return BUSY_S if self.n_quiet + self.n_patient == n else 0.0
        return QUIET_S if self.n_quiet == n else 0.0

    def __len__(self) -> int:
        return len(self.instructions) + len(self.messages)

    def evict(self, key: Key) -> None:
        """Drop a value; neighbours are joined in one instruction."""
        if self.instructions:
            last = self.instructions[-1]
            if type(last) is Evict:
                last.keys.append(key)
                return
        self.instructions.append(Evict([key]))

    def replica_added(self, key: Key, nbytes: int) -> None:
        """Announce a copy; all of one batch share a message."""
        if self._added is None:
            self._added = []
            self.n_patient += 1
            self.messages.append(ReplicasAdded(self._added))
        self._added.append((key, nbytes))

    def replica_dropped(self, key: Key, as_ordered: bool = False) -> None:
        """Announce that there is no copy here; never overtaken by an older announcement."""
        self._added = None
        if self.messages:
            last = self.messages[-1]
            if type(last) is ReplicasDropped and last.as_ordered is as_ordered:
                last.keys.append(key)
                return
        self.messages.append(ReplicasDropped([key], as_ordered))
