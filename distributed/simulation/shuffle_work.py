"""Shuffles and joins that clients submit, and what happens to them on the way, by chance. Pure."""

from __future__ import annotations

from random import Random

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.shuffle.names import barrier_key
from distributed.simulation import script as acts
from distributed.simulation.script import TaskPlan

DURATIONS_S = (0.0005, 0.0005, 0.02, 0.2)


def shuffles(rng: Random, clients: tuple[str, ...], workers: list[str], end: float) -> list[acts.Act]:
    """One to three of them, between now and ``end``; some are given up and submitted again, some lose a holder."""
    made: list[acts.Act] = []
    for number in range(rng.choice([1, 1, 2, 3])):
        client = rng.choice(clients)
        ids = tuple([f"{side}{number}" for side in rng.choice(["a", "a", "lr"])])
        tasks = graph(rng, ids)
        outputs = tuple([task.key for task in tasks if task.behaviour == "unpack"])
        wanted = tuple(rng.sample(outputs, rng.randrange(1, len(outputs) + 1)))
        at = round(rng.uniform(0, end), 6)
        options = TaskOptions(priority=0.0, retries=rng.choice([0, 3]))
        submit = acts.Submit(at, client, tasks, options, wanted, rng.choice([1, 1, 2, 3]))
        made += [submit, *_on_the_way(rng, submit, wanted, workers)]
    return made


def graph(rng: Random, ids: tuple[str, ...]) -> list[TaskPlan]:
    """The tasks of one shuffle, or of a join of two."""
    tasks: list[TaskPlan] = []
    for shuffle in ids:
        transfers = []
        for i in range(rng.choice([1, 2, 3, 5])):
            load = TaskPlan(f"load-{shuffle}|{i}", duration_s=rng.choice(DURATIONS_S), nbytes=100)
            name, length = f"shuffle-transfer-{shuffle}|{i}", rng.choice(DURATIONS_S)
            transfers.append(TaskPlan(name, (load.key,), length, behaviour="transfer", shuffles=(shuffle,), part=i))
            tasks += [load, transfers[-1]]
        needs = tuple([task.key for task in transfers])
        tasks.append(TaskPlan(barrier_key(shuffle), needs, behaviour="barrier", shuffles=(shuffle,)))
    barriers = tuple([barrier_key(shuffle) for shuffle in ids])
    for part in range(rng.choice([1, 2, 4])):
        tasks.append(
            TaskPlan(
                f"out-{'-'.join(ids)}|{part}", barriers, rng.choice(DURATIONS_S), 100, "unpack", shuffles=ids, part=part
            )
        )
    return tasks


def _on_the_way(rng: Random, submit: acts.Submit, wanted: tuple[str, ...], workers: list[str]) -> list[acts.Act]:
    made: list[acts.Act] = []
    soon = [0.001, 0.01, 0.05, 0.3, 1.0]
    if rng.random() < 0.5:
        at = submit.at + rng.choice(soon)
        made.append(acts.Crash(at, rng.choice(workers), rng.choice([0.0, 1.0]), rng.random() < 0.8))
        made.append(acts.StartWorker(at + rng.choice(soon), rng.choice(workers), rng.choice([1, 2])))
    if rng.random() < 0.4:
        at = submit.at + rng.choice(soon)
        cancels = rng.random() < 0.5
        made.append((acts.Cancel if cancels else acts.Release)(at, submit.client, wanted))
        if rng.random() < 0.6:
            again = at + rng.choice([0.0, 0.0, 0.01])
            made.append(acts.Submit(again, submit.client, submit.tasks, submit.options, submit.wanted, submit.parts))
    return made
