"""Memory of a worker, or of all, as plugins and users look at it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryState:
    """Bytes: of the process, of the values that tasks left (in memory, on disk), and of what else there is."""

    process: int
    managed_total: int
    spilled: int
    unmanaged_old: int = 0

    @property
    def managed(self) -> int:
        """Values in memory."""
        return max(0, self.managed_total - self.spilled)

    @property
    def unmanaged(self) -> int:
        """What the process holds besides values."""
        return max(0, self.process - self.managed)

    @property
    def unmanaged_recent(self) -> int:
        """The part of it that is new, and may be gone soon."""
        return max(0, self.unmanaged - self.unmanaged_old)

    @property
    def optimistic(self) -> int:
        """What will be left when all that is new has gone."""
        return self.managed + self.unmanaged_old

    @staticmethod
    def sum(*infos: MemoryState) -> MemoryState:
        """Of several workers together."""
        return MemoryState(
            sum([i.process for i in infos]),
            sum([i.managed_total for i in infos]),
            sum([i.spilled for i in infos]),
            sum([i.unmanaged_old for i in infos]),
        )
