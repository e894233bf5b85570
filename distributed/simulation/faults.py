"""What breaks and what operators do, by chance, and the whole script of a seed (swarm style). Pure.

Each seed switches on a random subset of features, and draws its own extreme settings: so rare combinations come up, and
one frequent fault does not hide all others.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from distributed.simulation import chain_work
from distributed.simulation import script as acts
from distributed.simulation.scatter_work import scatters
from distributed.simulation.script import Script
from distributed.simulation.shuffle_work import shuffles
from distributed.simulation.workload import BEHAVIOURS, Workload

FEATURES = (
    *BEHAVIOURS,
    "actor", "alias", "build-on", "cancel", "fire", "long", "parts", "pin", "priority", "rebalance", "recompute",
    "release", "replicate", "resources", "restrictions", "resubmit", "retry", "scatter", "wide", "want",
    "client-cut", "come-and-go", "crash", "cut", "freeze", "half-open", "heartbeats", "lose-data", "nannies",
    "partition", "pause", "restart", "retire", "same-port", "stall",
)  # fmt: skip
SHUFFLED = 0.3
"""Share of episodes with shuffles."""
SCATTERED = 0.3
"""Share of episodes in which data is scattered under keys that were used before."""
CHAINED = 0.3
"""Share of episodes with chains of short tasks."""
PAUSES_S = (0.0, 0.0, 0.0002, 0.002, 0.02, 0.05, 0.5)


class Faults:
    """Makes the acts of fate and of operators."""

    def __init__(self, rng: Random, features: frozenset[str], clients: tuple[str, ...], workers: list[str]) -> None:
        self.rng = rng
        self.features = features
        self.clients = clients
        self.workers = workers
        self._serial = 0

    def choices(self) -> list[tuple[int, Callable[[float], list[acts.Act]]]]:
        """What may happen, with weights."""
        optional: list[tuple[str, int, Callable[[float], acts.Act]]] = [
            ("crash", 2, self._crash),
            ("freeze", 2, lambda at: acts.Freeze(at, self._worker(), self._seconds(), self.rng.random() < 0.6)),
            ("pause", 2, lambda at: acts.PauseWorker(at, self._worker(), self._seconds())),
            ("lose-data", 1, lambda at: acts.LoseData(at, self._worker(), self.rng.choice([1, 3]))),
            ("resources", 1, self._resources),
            ("come-and-go", 1, lambda at: acts.StopWorker(at, self._worker())),
            ("come-and-go", 2, self._join),
            ("retire", 2, self._retire),
            ("restart", 1, lambda at: acts.RestartCluster(at)),
            ("cut", 2, lambda at: self._cut(at, self._worker())),
            ("client-cut", 1, lambda at: self._cut(at, self.rng.choice(self.clients))),
            ("stall", 2, lambda at: self._stall(at, False)),
            ("half-open", 1, lambda at: self._stall(at, True)),
            ("partition", 2, self._partition),
        ]
        return [(weight, _one(make)) for name, weight, make in optional if name in self.features]

    def start(self, at: float, worker: str) -> acts.StartWorker:
        """A worker by chance."""
        rng = self.rng
        return acts.StartWorker(
            at, worker, rng.choice([1, 1, 2, 4]), f"10.0.0.{rng.randrange(3)}",
            {"GPU": rng.choice([1.0, 2.0])} if rng.random() < 0.6 else {},
            "nannies" in self.features and rng.random() < 0.7, "same-port" in self.features,
        )  # fmt: skip

    def _worker(self) -> str:
        return self.rng.choice(self.workers)

    def _seconds(self) -> float:
        return self.rng.choice([0.001, 0.02, 0.5, 3.0])

    def _crash(self, at: float) -> acts.Act:
        rng = self.rng
        return acts.Crash(
            at, self._worker(), rng.choice([0.0, 0.5, 1.0]), rng.random() < 0.8, rng.choice([0.0, 0.001, 0.2, 2.0])
        )

    def _join(self, at: float) -> acts.Act:
        if self.rng.random() < 0.5:
            return self.start(at, self._worker())
        self._serial += 1
        name = f"late-{self._serial}"
        self.workers.append(name)
        return self.start(at, name)

    def _resources(self, at: float) -> acts.Act:
        return acts.SetResources(at, self._worker(), {"GPU": self.rng.choice([0.0, 1.0, 2.0])})

    def _retire(self, at: float) -> acts.Act:
        rng = self.rng
        names = tuple(rng.sample(self.workers, min(len(self.workers), rng.choice([1, 1, 2]))))
        return acts.Retire(at, names, rng.random() < 0.8, rng.choice([None, None, 0.5]))

    def _cut(self, at: float, peer: str) -> acts.Act:
        shares = [0.0, 0.5, 1.0]
        return acts.CutLink(at, peer, self.rng.choice(shares), self.rng.choice(shares))

    def _stall(self, at: float, breaks: bool) -> acts.Act:
        peer = self._worker() if self.rng.random() < 0.8 else self.rng.choice(self.clients)
        return acts.StallLink(at, peer, self.rng.random() < 0.5, self._seconds(), breaks)

    def _partition(self, at: float) -> acts.Act:
        return acts.Partition(at, self._worker(), self._worker(), self._seconds())


def _one(make: Callable[[float], acts.Act]) -> Callable[[float], list[acts.Act]]:
    return lambda at: [make(at)]


def make_script(seed: int, n_acts: int = 40) -> Script:
    """The episode of a seed."""
    rng = Random(f"script {seed}")
    share = rng.choice([0.1, 0.3, 0.5, 0.7])
    chosen = [name for name in FEATURES if rng.random() < share]
    features = frozenset(chosen)
    clients = tuple([f"client-{i}" for i in range(rng.choice([1, 1, 2, 3]))])
    workers = [f"w{i}" for i in range(rng.choice([1, 2, 3, 3, 5]))]
    faults = Faults(rng, features, clients, workers)
    workload = Workload(rng, features, clients, workers)
    script: list[acts.Act] = [faults.start(0.0, name) for name in workers]
    fate = faults.choices()
    fault_share = rng.choice([0.1, 0.3, 0.5]) if fate else 0.0
    now = rng.choice([0.0, 0.1])
    for _ in range(n_acts):
        pool = fate if rng.random() < fault_share else workload.choices()
        make = rng.choices([make for _, make in pool], [weight for weight, _ in pool])[0]
        script.extend(make(round(now, 6)))
        now += rng.choice(PAUSES_S)
    # A source of its own: what else happens in the episode of a seed stays the same.
    spilling = _spilling(Random(f"spill {seed}"), workers, now, script)
    if (chance := Random(f"shuffle {seed}")).random() < SHUFFLED:
        script += shuffles(chance, clients, workers, now)
        script.sort(key=lambda act: act.at)
    if (chance := Random(f"scatter {seed}")).random() < SCATTERED:
        script += scatters(chance, clients, workers, now)
        script.sort(key=lambda act: act.at)
    scheduler, worker = _scheduler_settings(rng, features), {**_worker_settings(rng), **spilling}
    if (chance := Random(f"chain {seed}")).random() < CHAINED:
        script += chain_work.chains(chance, clients, workers, now)
        script.sort(key=lambda act: act.at)
        scheduler.update(chain_work.SCHEDULER)
        worker.update(chain_work.WORKER)
    scheduler.update(_broken_links(Random(f"links {seed}"), script))
    return Script(
        seed, clients, script, scheduler, worker,
        rng.choice([(0.0001, 0.0002, 0.001, 0.02), (0.0001,), (0.0001, 0.3)]), rng.choice([0.0, 0.0, 0.5]),
        0.25 if "heartbeats" in features else 0.0, tuple(chosen),
    )  # fmt: skip


def _broken_links(rng: Random, script: list[acts.Act]) -> dict[str, Any]:
    """For how long links stay broken, which deaths nobody sees, and how long the scheduler waits for a worker."""
    for act in script:
        if type(act) is acts.CutLink:
            act.for_s = rng.choice([0.0, 0.0, 0.1, 1.0, 5.0])
        elif type(act) is acts.Crash:
            act.silent = rng.random() < 0.2
    return {"worker_grace_s": rng.choice([0.0, 0.3, 2.0, 30.0])}


def _scheduler_settings(rng: Random, features: frozenset[str]) -> dict[str, Any]:
    return {
        **_patience(rng, "heartbeats" in features),
        "saturation": rng.choice([1.0, 1.1, 2.0, 1e12]),
        "prefetch_s": rng.choice([0.0, 0.01]),
        "unknown_duration_s": rng.choice([0.5, 0.001]),
        "stealing": rng.random() < 0.8,
        "steal_interval_s": rng.choice([0.005, 0.05]),
        "steal_backlog_s": rng.choice([0.0, 0.001]),
        "steal_batch": rng.choice([1, 200]),
        "client_grace_s": rng.choice([0.0, 0.4, 30.0, None]),
        "exit_report_s": rng.choice([0.0, 0.5]),
        "allowed_failures": rng.choice([0, 1, 3]),
        "no_workers_timeout_s": rng.choice([None, None, None, 1.0]),
        "retire_timeout_s": rng.choice([None, 2.0]),
    }


def _patience(rng: Random, heartbeats: bool) -> dict[str, float | None]:
    """With silent workers; without heartbeats nobody counts as silent."""
    if not heartbeats:
        return dict.fromkeys(("suspect_s", "lost_s", "lost_alone_s", "worker_ttl_s"))
    return {
        "suspect_s": rng.choice([0.6, 5.0]),
        "lost_s": rng.choice([1.0, 5.0]),
        "lost_alone_s": rng.choice([1.5, 60.0]),
        "worker_ttl_s": rng.choice([2.0, 300.0]),
    }


def _worker_settings(rng: Random) -> dict[str, Any]:
    return {
        "handover_s": rng.choice([0.0, 0.005]),
        "gather_nbytes": rng.choice([1, 100, 50_000_000]),
        "max_gathers": rng.choice([1, 2, 50]),
        "missing_retry_s": rng.choice([0.01, 0.5]),
        "suspect_s": rng.choice([0.001, 0.1]),
    }


def _spilling(rng: Random, workers: list[str], end: float, script: list[acts.Act]) -> dict[str, Any]:
    """Settings of workers that keep few values in memory; their disks are full now and then."""
    if rng.random() < 0.4:
        return {}
    for _ in range(rng.choice([0, 0, 2])):
        at = round(rng.uniform(0, end), 6)
        script += [acts.FillDisk(at, rng.choice(workers), rng.choice([0.01, 0.5, 8.0]))]
    script.sort(key=lambda act: act.at)
    target = rng.choice([0, 8, 40])
    return {
        "min_spill_nbytes": rng.choice([1, 8]),
        "target_nbytes": target,
        "hold_nbytes": target + rng.choice([0, 80, 10_000]),
        "most_spilled_nbytes": rng.choice([0, 0, 16]),
        "transfer_nbytes": rng.choice([8, 1 << 40]),
        "spill_retry_s": rng.choice([0.01, 5.0]),
    }
