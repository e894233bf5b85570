"""What clients do with keys that are used again: data is scattered under keys that were scattered, computed, released
or cancelled just before, by the same client or another one. Pure."""

from __future__ import annotations

from random import Random

from distributed.simulation import script as acts
from distributed.simulation.script import TaskPlan

NBYTES = 8
"""As a computed value has: a key means one value."""
PAUSES_S = (0.0, 0.0, 0.0, 0.0002, 0.001, 0.02, 0.3)


def scatters(rng: Random, clients: tuple[str, ...], workers: list[str], until: float) -> list[acts.Act]:
    """Rounds with few keys, from some time before ``until`` on."""
    keys = [f"spot-{i}" for i in range(rng.choice([1, 1, 2, 4]))]
    computes = rng.random() < 0.5
    now = rng.random() * until
    found: list[acts.Act] = []
    for number in range(rng.choice([5, 15, 40])):
        key = rng.choice(keys)
        client = rng.choice(clients)
        if computes and rng.random() < 0.4:
            duration_s = rng.choice([0.0005, 0.02])
            found.append(acts.Submit(now, client, [TaskPlan(key, duration_s=duration_s)]))
        else:
            found.append(_scatter(rng, now, client, key, workers))
        if rng.random() < 0.3:
            user = TaskPlan(f"use-{key}-{number}", (key,), rng.choice([0.0005, 0.02]))
            found.append(acts.Submit(now, rng.choice(clients), [user]))
        if rng.random() < 0.1:
            found.append(acts.Want(now, rng.choice(clients), (key,)))
        now = round(now + rng.choice(PAUSES_S), 6)
        found += _given_up(rng, now, clients, key)
        now = round(now + rng.choice(PAUSES_S), 6)
    return found


def _scatter(rng: Random, now: float, client: str, key: str, workers: list[str]) -> acts.Scatter:
    names = tuple(rng.sample(workers, min(len(workers), rng.choice([1, 1, 2]))))
    return acts.Scatter(now, client, key, names, NBYTES)


def _given_up(rng: Random, now: float, clients: tuple[str, ...], key: str) -> list[acts.Act]:
    """By all who may want it, or some."""
    chance = rng.choice([0.0, 0.7, 1.0, 1.0])
    names = [name for name in clients if rng.random() < chance]
    if rng.random() < 0.15:
        return [acts.Cancel(now, name, (key,), rng.random() < 0.3) for name in names]
    return [acts.Release(now, name, (key,)) for name in names]
