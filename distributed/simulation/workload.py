"""What clients do, by chance: graphs of many shapes, and changes of mind. Pure.

The generator keeps a rough idea of which keys each client wants; whether a key has ended when its record comes is not
its business.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.simulation import script as acts
from distributed.simulation.script import TaskPlan

SHORT_S, MIDDLE_S, LONG_S = 0.0005, 0.02, 0.4
BEHAVIOURS = ("raise", "die", "hang", "unshippable", "secede", "reschedule")


class Workload:
    """Makes the acts of clients.

    Parameters
    ----------
    features
        Those of ``faults.FEATURES`` that this episode has.
    """

    def __init__(self, rng: Random, features: frozenset[str], clients: tuple[str, ...], workers: list[str]) -> None:
        self.rng = rng
        self.features = features
        self.clients = clients
        self.workers = workers
        self.wanted: dict[str, dict[str, None]] = {client: {} for client in clients}
        self.submitted: dict[str, acts.Submit] = {}
        self.plans: dict[str, TaskPlan] = {}
        self._serial = 0
        self._behaviours = [name for name in BEHAVIOURS if name in features]

    def choices(self) -> list[tuple[int, Callable[[float], list[acts.Act]]]]:
        """What may happen, with weights; each makes the acts of one moment."""
        optional: list[tuple[str, int, Callable[[float], list[acts.Act]]]] = [
            ("release", 3, self._release),
            ("cancel", 2, self._cancel),
            ("resubmit", 2, self._resubmit),
            ("want", 2, self._want),
            ("retry", 2, self._retry),
            ("fire", 1, self._fire),
            ("scatter", 2, self._scatter),
            ("replicate", 2, self._replicate),
            ("pin", 1, self._pin),
            ("recompute", 1, self._recompute),
            ("rebalance", 1, lambda at: [acts.Rebalance(at)]),
        ]
        chosen = [(weight, make) for name, weight, make in optional if name in self.features]
        return [(8, self._submit), *chosen]

    # graphs

    def _submit(self, at: float) -> list[acts.Act]:
        rng = self.rng
        client = rng.choice(self.clients)
        shape = rng.choice([self._chain, self._tree, self._shuffle, self._map, self._dag, self._dag])
        tasks = shape(rng.choice([1, 2, 3, 5, 8, 12]))
        if "wide" in self.features and rng.random() < 0.2:
            tasks = self._map(40)
        if rng.random() < 0.4:
            wanted = None
        else:
            wanted = tuple([task.key for task in tasks if rng.random() < 0.4]) or (tasks[-1].key,)
        parts = rng.choice([2, 3]) if "parts" in self.features and len(tasks) > 2 else 1
        act = acts.Submit(at, client, tasks, self._options(), wanted, parts)
        for task in tasks:
            self.plans[task.key] = task
            self.submitted[task.key] = act
        self.wanted[client].update(dict.fromkeys(wanted if wanted is not None else [task.key for task in tasks]))
        return [act]

    def _task(self, name: str, needs: tuple[str, ...] = ()) -> TaskPlan:
        rng = self.rng
        behaviour, times = "succeed", -1
        if self._behaviours and rng.random() < 0.15:
            behaviour = rng.choice(self._behaviours)
            times = rng.choice([1, 2, 3] if behaviour == "reschedule" else [1, 1, 2, -1])
        durations = [SHORT_S, SHORT_S, MIDDLE_S, LONG_S] if "long" in self.features else [SHORT_S, SHORT_S, MIDDLE_S]
        alias = len(needs) == 1 and "alias" in self.features and rng.random() < 0.3
        if alias:
            behaviour, times = "succeed", -1
        return TaskPlan(name, needs, rng.choice(durations), rng.choice([0, 8, 1000]), behaviour, times, alias)

    def _name(self) -> str:
        self._serial += 1
        return f"{self.rng.choice(['inc', 'sum', 'load'])}-{self._serial}"

    def _known(self) -> list[str]:
        """Keys that a new graph may build on."""
        return [key for wanted in self.wanted.values() for key in wanted] if "build-on" in self.features else []

    def _inputs(self, most: int) -> tuple[str, ...]:
        known = self._known()
        n = min(len(known), self.rng.randrange(most + 1))
        return tuple(dict.fromkeys(self.rng.sample(known, n)))

    def _chain(self, n: int) -> list[TaskPlan]:
        tasks = [self._task(self._name(), self._inputs(1))]
        for _ in range(n - 1):
            tasks.append(self._task(self._name(), (tasks[-1].key,)))
        return tasks

    def _tree(self, n: int) -> list[TaskPlan]:
        level = [self._task(self._name(), self._inputs(1)) for _ in range(n)]
        tasks = list(level)
        while len(level) > 1:
            level = [
                self._task(self._name(), tuple([task.key for task in level[i : i + 2]]))
                for i in range(0, len(level), 2)
            ]
            tasks.extend(level)
        return tasks

    def _shuffle(self, n: int) -> list[TaskPlan]:
        """All-to-all: each output needs a piece of each input."""
        n = min(n, 5)
        name = self._name()
        inputs = [self._task(f"{name}|{i}", self._inputs(1)) for i in range(n)]
        outputs = [self._task(f"out-{name}|{i}", tuple([task.key for task in inputs])) for i in range(n)]
        return inputs + outputs

    def _map(self, n: int) -> list[TaskPlan]:
        name = self._name()
        shared = self._inputs(1)
        return [self._task(f"{name}|{i}", shared) for i in range(3 * n)]

    def _dag(self, n: int) -> list[TaskPlan]:
        tasks: list[TaskPlan] = []
        for _ in range(2 * n):
            pool = [task.key for task in tasks] + self._known()[-10:]
            width = min(len(pool), self.rng.choice([0, 0, 1, 1, 2, 4]))
            tasks.append(self._task(self._name(), tuple(dict.fromkeys(self.rng.sample(pool, width)))))
        return tasks

    def _options(self) -> TaskOptions:
        rng = self.rng
        features = self.features
        resources = workers = None
        loose = False
        if "resources" in features and rng.random() < 0.3:
            resources = {"GPU": rng.choice([1.0, 1.0, 2.0])}
        if "restrictions" in features and rng.random() < 0.3:
            named = [*self.workers, "late-1", "10.0.0.1"]
            workers = tuple(rng.sample(named, rng.choice([1, 2])))
            loose = rng.random() < 0.4
        return TaskOptions(
            priority=rng.choice([0.0, 0.0, 5.0, -1.0]) if "priority" in features else 0.0,
            retries=rng.choice([0, 1, 3]),
            workers=workers,
            allow_other_workers=loose,
            resources=resources,
            actor="actor" in features and rng.random() < 0.15,
        )

    # changes of mind

    def _some(self, client: str) -> tuple[str, ...]:
        keys = list(self.wanted[client])
        return tuple(self.rng.sample(keys, min(len(keys), self.rng.choice([1, 3, 8]))))

    def _release(self, at: float) -> list[acts.Act]:
        client = self.rng.choice(self.clients)
        keys = self._some(client)
        for key in keys:
            del self.wanted[client][key]
        return [acts.Release(at, client, keys)] if keys else []

    def _cancel(self, at: float) -> list[acts.Act]:
        client = self.rng.choice(self.clients)
        keys = self._some(client)
        for key in keys:
            del self.wanted[client][key]
        return [acts.Cancel(at, client, keys, self.rng.random() < 0.5)] if keys else []

    def _resubmit(self, at: float) -> list[acts.Act]:
        """The same keys again, with all that they need, at once after they were given up (or without that)."""
        client = self.rng.choice(self.clients)
        keys = [key for key in self._some(client) if key in self.submitted]
        if not keys:
            return []
        before = self.submitted[keys[0]]
        again = acts.Submit(at, client, before.tasks, before.options, before.wanted)
        given_up: list[acts.Act] = self.rng.choice(
            [
                [acts.Cancel(at, client, tuple(keys))],
                [acts.Release(at, client, tuple(keys))],
                [],
            ]
        )
        wanted = before.wanted if before.wanted is not None else tuple([task.key for task in before.tasks])
        for key in keys:
            del self.wanted[client][key]
        self.wanted[client].update(dict.fromkeys(wanted))
        return [*given_up, again]

    def _want(self, at: float) -> list[acts.Act]:
        client = self.rng.choice(self.clients)
        keys = tuple(self.rng.sample(list(self.plans), min(2, len(self.plans))))
        self.wanted[client].update(dict.fromkeys(keys))
        return [acts.Want(at, client, keys)] if keys else []

    def _retry(self, at: float) -> list[acts.Act]:
        client = self.rng.choice(self.clients)
        keys = tuple(self.wanted[client])
        return [acts.Retry(at, client, keys)] if keys else []

    def _fire(self, at: float) -> list[acts.Act]:
        client = self.rng.choice(self.clients)
        keys = self._some(client)
        for key in keys:
            del self.wanted[client][key]
        return [acts.Fire(at, client, keys)] if keys else []

    def _scatter(self, at: float) -> list[acts.Act]:
        rng = self.rng
        client = rng.choice(self.clients)
        self._serial += 1
        key = f"data-{self._serial}"
        workers = tuple(rng.sample(self.workers, min(len(self.workers), rng.choice([1, 1, 2]))))
        self.wanted[client][key] = None
        return [acts.Scatter(at, client, key, workers, rng.choice([8, 1000]))]

    def _replicate(self, at: float) -> list[acts.Act]:
        keys = self._some(self.rng.choice(self.clients))
        return [acts.Replicate(at, keys, self.rng.choice([1, 2, 3]))] if keys else []

    def _pin(self, at: float) -> list[acts.Act]:
        keys = self._some(self.rng.choice(self.clients))
        return [acts.Pin(at, keys, self.rng.choice([*self.workers, None]))] if keys else []

    def _recompute(self, at: float) -> list[acts.Act]:
        keys = self._some(self.rng.choice(self.clients))
        return [acts.Recompute(at, keys)] if keys else []
