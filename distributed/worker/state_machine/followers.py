"""Runs that are with the executor behind the run of their only missing input, each begun by the end of that. Pure.

A chain of short tasks so runs from end to end in one thread, without a round trip through the event loop per link. What
lies behind another run holds no slot: it takes over that of the run before, once that has ended.
"""

from __future__ import annotations

from distributed.worker.state_machine.task import TaskState


class Followers:
    """Who is behind whom, by run id. All empty while nothing is.

    ``leads`` are tasks with a run that counts, behind which there may be something to hand over. ``behind`` holds the
    runs behind a run that has not ended, ``follows`` is the other direction. ``void`` are runs whose input must not
    come from the run before, as that is not wanted any more: however they end, they do not count.
    """

    __slots__ = ("behind", "follows", "leads", "void")

    def __init__(self) -> None:
        self.leads: dict[TaskState, None] = {}
        self.behind: dict[int, list[int]] = {}
        self.follows: dict[int, int] = {}
        self.void: set[int] = set()

    def add(self, run_id: int, after: int) -> None:
        """A run has been handed over behind another."""
        self.follows[run_id] = after
        self.behind.setdefault(after, []).append(run_id)

    def end(self, run_id: int) -> int:
        """A run has ended: how many of those behind it take a slot now, and one more if it held none itself."""
        taken = 0
        for follower in self.behind.pop(run_id, ()):
            del self.follows[follower]
            taken += 1
        before = self.follows.pop(run_id, None)
        if before is not None:
            taken += 1
            others = self.behind[before]
            others.remove(run_id)
            if not others:
                del self.behind[before]
        return taken

    def all_behind(self, run_id: int) -> list[int]:
        """The runs behind this one, and behind those, as far as they are not void yet; nearest first."""
        found: list[int] = []
        last = [run_id]
        while last:
            last = [follower for run in last for follower in self.behind.get(run, ()) if follower not in self.void]
            found += last
        return found
