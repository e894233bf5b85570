"""What a scheduler works on, as computations: task groups that hang together by their dependencies. Pure.

Made of the groups that there are when somebody asks; nothing is kept for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from distributed.scheduler.state_machine.groups import TaskGroup


class Computation:
    """Groups of tasks that need one another.

    Attributes
    ----------
    id
        The name of its oldest group.
    groups
        Its task groups.
    code
        Always empty: the code that has submitted the tasks is not kept.
    """

    def __init__(self, groups: Iterable[TaskGroup]) -> None:
        members = list(groups)
        self.id = members[0].name
        self.groups = set(members)
        self.code: tuple[str, ...] = ()

    @property
    def start(self) -> float:
        """When its first task began (wall-clock seconds); -1.0: none has."""
        return min([group.start for group in self.groups if group.start], default=-1.0)

    @property
    def stop(self) -> float:
        """When its last task ended; -1.0: none has."""
        return max([group.stop for group in self.groups if group.stop], default=-1.0)

    @property
    def states(self) -> dict[str, int]:
        """How many of its tasks are in each state."""
        total: dict[str, int] = {}
        for group in self.groups:
            for state, n in group.states.items():
                total[state] = total.get(state, 0) + n
        return total

    def __repr__(self) -> str:
        tasks = ", ".join([f"{state}: {n}" for state, n in self.states.items() if n])
        return f"<Computation {self.id}: {tasks or 'no tasks'}>"


def computations(groups: Iterable[TaskGroup]) -> list[Computation]:
    """All computations, by the age of their oldest groups."""
    leader: dict[TaskGroup, TaskGroup] = {}

    def find(group: TaskGroup) -> TaskGroup:
        while leader[group] is not group:
            leader[group] = group = leader[leader[group]]
        return group

    members = list(groups)
    leader.update({group: group for group in members})
    for group in members:
        for needed in group.dependencies:
            if needed in leader:
                leader[find(group)] = find(needed)
    found: dict[TaskGroup, list[TaskGroup]] = {}
    for group in members:
        found.setdefault(find(group), []).append(group)
    return [Computation(together) for together in found.values()]
