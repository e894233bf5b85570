"""Chains of short tasks, which run behind one another without the core, and what interferes with them. Pure."""

from __future__ import annotations

from random import Random

from distributed.messages.client_to_scheduler import TaskOptions
from distributed.simulation import script as acts
from distributed.simulation.script import TaskPlan

DURATIONS_S = (0.0001, 0.0005, 0.0005, 0.002)
NBYTES = 8
BEHAVIOURS = ("raise", "secede", "secede", "reschedule", "unshippable", "die")
SOON_S = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02)
# What the cores of such an episode are set to: tasks are sent ahead, and handed over ahead.
SCHEDULER = {"prefetch_s": 0.01}
WORKER = {"handover_s": 0.005}


def chains(rng: Random, clients: tuple[str, ...], workers: list[str], until: float) -> list[acts.Act]:
    """Some chains, one after the other, from some time before ``until`` on; the first teaches how long links take."""
    odd = rng.choice([0.0, 0.0, 0.05, 0.2])
    now = round(rng.random() * until, 6)
    found: list[acts.Act] = [acts.Submit(now, clients[0], _chain(rng, -1, 0.0))]
    for number in range(rng.choice([3, 8, 15])):
        now = round(now + rng.choice([0.02, 0.05, 0.3]), 6)
        client = rng.choice(clients)
        tasks = _chain(rng, number, odd)
        wanted = (tasks[-1].key,) if rng.random() < 0.6 else None
        options = TaskOptions(priority=rng.choice([0.0, 0.0, 5.0]), retries=rng.choice([0, 1]))
        submit = acts.Submit(now, client, tasks, options, wanted, rng.choice([1, 1, 2]))
        found += [submit, *_meanwhile(rng, submit, workers)]
    return found


def _chain(rng: Random, number: int, odd: float) -> list[TaskPlan]:
    """Links, some of which have leaves beside the next one."""
    tasks: list[TaskPlan] = []
    before: tuple[str, ...] = ()
    for i in range(rng.choice([2, 3, 6, 12, 30])):
        behaviour, times = "succeed", -1
        if rng.random() < odd:
            behaviour, times = rng.choice(BEHAVIOURS), rng.choice([1, 1, -1])
            if behaviour in ("reschedule", "die"):
                times = 1
        link = TaskPlan(f"link-{number}|{i}", before, rng.choice(DURATIONS_S), NBYTES, behaviour, times)
        tasks.append(link)
        if before and rng.random() < 0.1:
            names = [f"leaf-{number}-{leaf}|{i}" for leaf in range(rng.choice([1, 2, 5]))]
            tasks += [TaskPlan(name, before, rng.choice(DURATIONS_S), NBYTES) for name in names]
        before = (link.key,)
    tasks.append(TaskPlan(f"end-{number}", before, rng.choice(DURATIONS_S), NBYTES))
    return tasks


def _meanwhile(rng: Random, submit: acts.Submit, workers: list[str]) -> list[acts.Act]:
    """A few milliseconds later."""
    found: list[acts.Act] = []
    for _ in range(rng.choice([0, 1, 1, 3])):
        at = round(submit.at + rng.choice(SOON_S), 6)
        keys = tuple(rng.sample([task.key for task in submit.tasks], rng.choice([1, 1, 2])))
        what = rng.choice(["recompute", "recompute", "scatter", "scatter", "again", "cancel", "pin", "lose", "pause"])
        if what == "recompute":
            found.append(acts.Recompute(at, keys))
        elif what == "scatter":
            found.append(acts.Scatter(at, submit.client, keys[0], (rng.choice(workers),), NBYTES))
        elif what == "pin":
            found.append(acts.Pin(at, keys, rng.choice([*workers, None])))
        elif what == "lose":
            found.append(acts.LoseData(at, rng.choice(workers), 2))
        elif what == "pause":
            found.append(acts.PauseWorker(at, rng.choice(workers), 0.002))
        else:
            wanted = submit.wanted or tuple([task.key for task in submit.tasks])
            found.append(acts.Cancel(at, submit.client, wanted))
            if what == "again":
                found.append(acts.Submit(at, submit.client, submit.tasks, submit.options, submit.wanted))
    return found
