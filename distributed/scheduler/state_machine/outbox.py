"""The only way out of the core: messages in one list per peer, and instructions to the shell. Pure.

The order of messages to one peer is kept. Orders to forget keys are merged while nothing else comes between.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from msgspec import Struct

from distributed.base.keys import Key
from distributed.messages.scheduler_to_worker import FreeKeys
from distributed.scheduler.state_machine.instructions import Instruction, Transitioned, WorkerRemoved


class OutboxBatch(Struct):
    """What is to be done now. Transitions only if the settings ask for them."""

    to_workers: dict[str, list[Any]]
    to_clients: dict[str, list[Any]]
    instructions: list[Instruction]
    transitions: list[Transitioned]

    @property
    def closed_workers(self) -> list[str]:
        """Addresses of workers that left the tables."""
        return [i.address for i in self.instructions if type(i) is WorkerRemoved]

    def __bool__(self) -> bool:
        return bool(self.to_workers or self.to_clients or self.instructions or self.transitions)


class Outbox:
    """Filled by the rules, emptied by the shell."""

    __slots__ = ("to_workers", "to_clients", "instructions", "transitions")

    def __init__(self) -> None:
        self.to_workers: defaultdict[str, list[Any]] = defaultdict(list)
        self.to_clients: defaultdict[str, list[Any]] = defaultdict(list)
        self.instructions: list[Instruction] = []
        self.transitions: list[Transitioned] = []

    def take(self) -> OutboxBatch:
        """Everything since the last call."""
        batch = OutboxBatch(self.to_workers, self.to_clients, self.instructions, self.transitions)
        self.to_workers = defaultdict(list)
        self.to_clients = defaultdict(list)
        self.instructions = []
        self.transitions = []
        return batch

    def __bool__(self) -> bool:
        return bool(self.to_workers or self.to_clients or self.instructions or self.transitions)

    def free(self, address: str, key: Key, context: tuple[int, str, float]) -> None:
        """Tell a worker to forget a key; ``context`` is that of the tables."""
        box = self.to_workers[address]
        if box:
            last = box[-1]
            if type(last) is FreeKeys:
                last.keys.append(key)
                return
        box.append(FreeKeys([key], f"{context[1]}-{context[0]}"))

    def drop_worker(self, address: str) -> None:
        """The worker is gone: nothing that waits for it will be sent."""
        self.to_workers.pop(address, None)
