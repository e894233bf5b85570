"""Task groups (tasks of one name made together) and prefixes (all of one name): counters and durations. Pure."""

from __future__ import annotations

from distributed.base.keys import Key, key_group, key_prefix

ALL_STATES = ("released", "waiting", "no-worker", "queued", "processing", "memory", "erred", "forgotten")


class TaskPrefix:
    """What is known of all tasks of one name, past ones too; durations are averaged here."""

    __slots__ = ("name", "duration_average", "expected_s", "max_exec_time", "suspicious", "groups", "gone_states",
                 "gone_nbytes", "gone_duration", "n_durations")  # fmt: skip

    def __init__(self, name: str, expected_s: float, known: bool = False) -> None:
        self.name = name
        self.duration_average = expected_s if known else -1.0
        # What placement reckons with: the average, or the default while there is none.
        self.expected_s = expected_s
        self.max_exec_time = -1.0
        self.suspicious = 0
        self.groups: dict[TaskGroup, None] = {}
        self.gone_states = 0
        self.gone_nbytes = 0
        self.gone_duration = 0.0
        self.n_durations = 0

    def add_duration(self, duration_s: float, weight: float, floor: float) -> None:
        average = self.duration_average
        average = duration_s if average < 0 else average + weight * (duration_s - average)
        self.duration_average = average
        self.expected_s = average if average > floor else floor

    @property
    def states(self) -> dict[str, int]:
        """How many tasks are in each state; forgotten ones of forgotten groups are counted too."""
        total = dict.fromkeys(ALL_STATES, 0)
        for group in self.groups:
            for name, count in group.states.items():
                total[name] += count
        total["forgotten"] += self.gone_states
        return total

    state_counts = states

    @property
    def nbytes_total(self) -> int:
        return self.gone_nbytes + sum([group.nbytes_total for group in self.groups])

    @property
    def duration(self) -> float:
        return self.gone_duration + sum([group.duration for group in self.groups])

    @property
    def all_durations(self) -> dict[str, float]:
        return {"compute": self.duration}

    @property
    def types(self) -> set[str]:
        return {name for group in self.groups for name in group.types}

    def __len__(self) -> int:
        return sum(self.states.values())

    def __repr__(self) -> str:
        return f"<{self.name}: {_counts(self.states)}>"


class TaskGroup:
    """Tasks of one name that were made together (``x`` of ``("x-<token>", 0..n)``)."""

    __slots__ = ("name", "prefix", "states", "n_tasks", "n_alive", "dependencies", "nbytes_total", "duration", "types",
                 "start", "stop")  # fmt: skip

    def __init__(self, name: str, prefix: TaskPrefix) -> None:
        self.name = name
        self.prefix = prefix
        self.states: dict[str, int] = dict.fromkeys(ALL_STATES, 0)
        self.n_tasks = 0
        self.n_alive = 0
        self.dependencies: dict[TaskGroup, None] = {}
        self.nbytes_total = 0
        self.duration = 0.0
        self.types: set[str] = set()
        self.start = 0.0
        self.stop = 0.0

    @property
    def all_durations(self) -> dict[str, float]:
        return {"compute": self.duration}

    @property
    def done(self) -> bool:
        """Whether no task of the group has still to run."""
        states = self.states
        return not (states["waiting"] or states["queued"] or states["no-worker"] or states["processing"])

    def __len__(self) -> int:
        return self.n_tasks

    def __repr__(self) -> str:
        return f"<{self.name}: {_counts(self.states)}>"


class GroupTable:
    """Finds or makes the group (and prefix) of a key."""

    __slots__ = ("groups", "prefixes", "unknown_duration_s", "default_durations_s")

    def __init__(self, unknown_duration_s: float, default_durations_s: dict[str, float]) -> None:
        self.groups: dict[str, TaskGroup] = {}
        self.prefixes: dict[str, TaskPrefix] = {}
        self.unknown_duration_s = unknown_duration_s
        self.default_durations_s = default_durations_s

    def group_of(self, key: Key) -> TaskGroup:
        name = ""
        if type(key) is str:
            # The two common forms, name-<number> and name-<32 hexadecimal digits>, at a fraction of key_group's price.
            head, _, tail = key.rpartition("-")
            if head:
                if tail.isdecimal():
                    name = head
                elif len(tail) == 32:
                    try:
                        int(tail, 16)
                        name = head
                    except ValueError:
                        pass
        if not name:
            name = key_group(key)
        group = self.groups.get(name)
        return group if group is not None else self._make(name, key)

    def _make(self, name: str, key: Key) -> TaskGroup:
        prefix_name = key_prefix(key)
        prefix = self.prefixes.get(prefix_name)
        if prefix is None:
            known = self.default_durations_s.get(prefix_name)
            expected = self.unknown_duration_s if known is None else known
            prefix = self.prefixes[prefix_name] = TaskPrefix(prefix_name, expected, known is not None)
        group = self.groups[name] = TaskGroup(name, prefix)
        prefix.groups[group] = None
        return group

    def drop(self, group: TaskGroup) -> None:
        """The last task of the group is forgotten."""
        del self.groups[group.name]
        prefix = group.prefix
        del prefix.groups[group]
        prefix.gone_states += group.n_tasks
        prefix.gone_nbytes += group.nbytes_total
        prefix.gone_duration += group.duration


def _counts(states: dict[str, int]) -> str:
    return " ".join([f"{name}: {count}" for name, count in states.items() if count]) or "empty"
