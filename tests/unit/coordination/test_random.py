"""Random clients against the tables: requests, time, withdrawals, silence and losses, each seed the same every time.

Every step is followed by ``validate`` (in ``World.settle``). Checked besides: mutual exclusion, first come first
served, that nobody waits for what is free, that no item is lost or doubled, and that all is gone when all have gone.
"""

from __future__ import annotations

import inspect
import random
from typing import Any

import pytest

from tests.unit.coordination.world import World

SEEDS = range(40)
CLIENTS = [f"client-{i}" for i in range(6)]
NAMES = ["u", "v", "w"]


class Semaphores:
    """A model of what clients know, and the order in which they came."""

    def __init__(self, rng: random.Random, world: World) -> None:
        self.rng, self.world = rng, world
        self.size = {"u": 1, "v": 1, "w": 3}
        self.waiting: dict[tuple[str, int], str] = {}  # request -> name, in order of arrival
        self.held: dict[tuple[str, int], str] = {}  # (client, lease) -> name

    def step(self) -> None:
        client, name = self.rng.choice(CLIENTS), self.rng.choice(NAMES)
        what = self.rng.random()
        if what < 0.45:
            timeout = self.rng.choice([None, None, 0, 3, 20])
            request = self.world.ask(
                client, "semaphore_acquire", timeout, name=name, max_leases=self.size[name], transient=name == "u"
            )
            self.waiting[request] = name
        elif what < 0.8 and self.held:
            client, lease = self.rng.choice(list(self.held))
            name = self.held.pop((client, lease))
            self.world.ask(client, "semaphore_release", name=name, lease=lease)
        elif what < 0.85 and self.waiting:
            request = self.rng.choice(list(self.waiting))
            self.world.withdraw(request)
        elif what < 0.88:
            self.world.leave(client)
            self.forget(client)
        elif what < 0.94:
            self.world.pass_time(self.rng.choice([0.5, 2, 5]))
        else:
            for client in CLIENTS:
                if self.rng.random() < 0.9:
                    leases = [lease for holder, lease in self.held if holder == client]
                    self.drop(client, self.world.get(client, "lease_renew", leases=leases))
        self.look()

    def forget(self, client: str) -> None:
        self.waiting = {request: name for request, name in self.waiting.items() if request[0] != client}
        self.held = {holder: name for holder, name in self.held.items() if holder[0] != client}

    def drop(self, client: str, leases: list[int]) -> None:
        for lease in leases:
            self.held.pop((client, lease), None)

    def look(self) -> None:
        for lease in self.world.tables.stale:
            self.drop(lease.client, [lease.id])
        self.world.tables.stale.clear()
        granted: list[tuple[int, str]] = []
        for request, name in list(self.waiting.items()):
            if request in self.world.answers:
                lease = self.world.answers.pop(request)
                del self.waiting[request]
                if lease is not None:
                    assert (request[0], lease) not in self.held
                    self.held[request[0], lease] = name
                    granted.append((lease, name))
        for name in NAMES:
            leases = [lease for lease, granted_name in granted if granted_name == name]
            assert leases == sorted(leases), "who came first was served later"
            n_held = sum(held == name for held in self.held.values())
            assert n_held <= self.size[name], "more holders than leases"
            if n_held < self.size[name]:
                assert name not in self.waiting.values(), "free, and somebody waits"


@pytest.mark.parametrize("seed", SEEDS)
def test_semaphores(seed):
    world = World(lease_timeout_s=10, check_interval_s=3)
    model = Semaphores(random.Random(seed), world)
    for _ in range(400):
        model.step()
    for client in CLIENTS:
        world.leave(client)
        model.forget(client)
        model.look()
    world.assert_empty()


@pytest.mark.parametrize("seed", SEEDS)
def test_multi_locks(seed):
    rng, world = random.Random(seed), World(lease_timeout_s=10, check_interval_s=3)
    names = list("abcdef")
    waiting: dict[tuple[str, int], tuple[list[str], int]] = {}
    for _ in range(400):
        client, what = rng.choice(CLIENTS), rng.random()
        leases = world.tables.leases.all()
        if what < 0.4:
            wanted = rng.sample(names, rng.randint(1, 4))
            n = rng.choice([len(wanted), rng.randint(1, len(wanted))])
            timeout = rng.choice([None, None, 0, 4])
            waiting[world.ask(client, "multi_lock_acquire", timeout, name="", names=wanted, n=n)] = (wanted, n)
        elif what < 0.8 and leases:
            lease = rng.choice(leases)
            assert world.get(lease.client, "multi_lock_release", name="", lease=lease.id) is True
        elif what < 0.85 and waiting:
            world.withdraw(rng.choice(list(waiting)))
        elif what < 0.9:
            world.leave(client)
            waiting = {request: wish for request, wish in waiting.items() if request[0] != client}
        else:
            world.pass_time(rng.choice([0.5, 2, 5]))
        taken = [name for lease in world.tables.leases.all() for name in lease.thing]
        assert len(taken) == len(set(taken)), "two hold one lock"
        for request, (wanted, n) in list(waiting.items()):
            if request in world.answers:
                lease_id = world.answers.pop(request)
                del waiting[request]
                if lease_id is not None and (found := world.tables.leases.find(request[0], lease_id)) is not None:
                    assert len(found.thing) == n and set(found.thing) <= set(wanted)
        if waiting:
            wanted, n = next(iter(waiting.values()))
            assert len(set(wanted) - set(taken)) < n, "the oldest request could be granted"
    # Progress: when holders release and nobody comes, everybody who waits without a limit is served.
    for _ in range(len(waiting) + len(world.tables.leases) + 1):
        for lease in world.tables.leases.all():
            world.get(lease.client, "multi_lock_release", name="", lease=lease.id)
    assert not len(world.tables.waiters)
    world.assert_empty()


@pytest.mark.parametrize("seed", SEEDS)
def test_queues(seed):
    rng, world = random.Random(seed), World()
    inside: list[int] = []  # what was put in and neither got nor lost, in order
    putting: dict[tuple[str, int], int] = {}
    getting: dict[tuple[str, int], int] = {}
    n_put = 0

    def look() -> None:
        nonlocal inside
        for request, value in list(putting.items()):
            if request in world.answers:
                del putting[request]
                if not isinstance(world.answers.pop(request), Exception):
                    inside.append(value)
        for request, n in list(getting.items()):
            if request not in world.answers:
                continue
            del getting[request]
            answer = world.answers.pop(request)
            if isinstance(answer, TimeoutError):
                continue
            items, transit = answer
            values = [value for value, _ in items]
            if rng.random() < 0.1:
                world.get(request[0], "queue_give_back", name="q", items=items, transit=transit)
                look()
                continue
            assert len(values) == n or n == -1
            assert set(values) <= set(inside), "an item that was never put in, or twice got"
            inside = [value for value in inside if value not in values]
            if transit and rng.random() < 0.9:
                world.get(request[0], "coordination_arrived", transit=transit)

    for _ in range(300):
        client, what = rng.choice(CLIENTS), rng.random()
        timeout = rng.choice([None, 0, 2, 8])
        if what < 0.4:
            n_put += 1
            keys = [f"k{rng.randint(0, 5)}" for _ in range(rng.randint(0, 2))]
            request = world.ask(
                client, "queue_put", timeout, name="q", value=n_put, keys=keys, maxsize=rng.choice([0, 4])
            )
            putting[request] = n_put
        elif what < 0.75:
            n = rng.choice([0, 0, 0, 3, -1])
            getting[world.ask(client, "queue_get", timeout, name="q", n=n)] = max(1, n) if n >= 0 else -1
        elif what < 0.82 and (putting or getting):
            world.withdraw(rng.choice([*putting, *getting]))
        elif what < 0.87:
            world.leave(client)
            putting = {request: value for request, value in putting.items() if request[0] != client}
            getting = {request: n for request, n in getting.items() if request[0] != client}
        else:
            world.pass_time(rng.choice([0.5, 3]))
        look()
    for client in CLIENTS:
        world.leave(client)
    left = world.get("last", "queue_get", name="q", n=-1)
    assert sorted(value for value, _ in left[0]) == sorted(inside)
    world.leave("last")
    world.assert_empty()


@pytest.mark.parametrize("seed", SEEDS)
def test_keys_of_values(seed):
    """Variables, topics and events: a key is wanted exactly as long as it is stored, or on its way to a client."""
    rng, world = random.Random(seed), World()
    world.tables.pubsub.max_unread = 4
    stored: dict[str, list[str]] = {}
    on_the_way: dict[tuple[str, int], list[str]] = {}
    waiting: dict[tuple[str, int], str] = {}
    subscribed: dict[str, str] = {}
    n_subscriptions = 0

    def look() -> None:
        for request, kind in list(waiting.items()):
            if request not in world.answers:
                continue
            del waiting[request]
            answer = world.answers.pop(request)
            if isinstance(answer, Exception) or kind == "event":
                continue
            keys, transit = answer[1:] if kind == "variable" else ([k for _, ks in answer[0] for k in ks], answer[1])
            if transit:
                on_the_way[request[0], transit] = keys
        unread = [key for boxes in world.tables.pubsub.topics.values() for box in boxes.values()
                  for item in box.items for key in item.keys]  # fmt: skip
        needed = [*[key for keys in stored.values() for key in keys], *unread]
        needed += [key for keys in on_the_way.values() for key in keys]
        assert world.wanted == set(needed)

    for _ in range(300):
        client, name, what = rng.choice(CLIENTS), rng.choice(NAMES), rng.random()
        timeout = rng.choice([None, 0, 3])
        keys = [f"k{rng.randint(0, 5)}" for _ in range(rng.randint(0, 2))]
        if what < 0.2:
            stored[name] = keys
            world.get(client, "variable_set", name=name, value=1, keys=keys)
        elif what < 0.4:
            waiting[world.ask(client, "variable_get", timeout, name=name)] = "variable"
        elif what < 0.45:
            stored.pop(name, None)
            world.get(client, "variable_delete", name=name)
        elif what < 0.5 and client not in subscribed:
            n_subscriptions += 1
            subscribed[client] = f"s{n_subscriptions}"
            world.get(client, "pubsub_subscribe", name="t", id=subscribed[client])
        elif what < 0.6:
            world.get(client, "pubsub_put", name="t", value=1, keys=keys)
        elif what < 0.65 and client in subscribed:
            waiting[world.ask(client, "pubsub_get", timeout, name="t", id=subscribed[client])] = "topic"
        elif what < 0.7:
            waiting[world.ask(client, "event_wait", timeout, name=name)] = "event"
        elif what < 0.75:
            world.get(client, rng.choice(["event_set", "event_clear"]), name=name)
        elif what < 0.85 and on_the_way:
            client, transit = rng.choice(list(on_the_way))
            del on_the_way[client, transit]
            world.get(client, "coordination_arrived", transit=transit)
        elif what < 0.9:
            world.leave(client)
            subscribed.pop(client, None)
            waiting = {request: kind for request, kind in waiting.items() if request[0] != client}
            on_the_way = {way: keys for way, keys in on_the_way.items() if way[0] != client}
        else:
            world.pass_time(1)
        look()
    for name in NAMES:
        world.get("last", "variable_delete", name=name)
    for client in CLIENTS:
        world.leave(client)
    world.assert_empty()


GARBAGE: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    2.5,
    "x",
    b"x",
    ["x"],
    [["x"]],
    {"x": 1},
    ("x", 1),
    [("v", ["k"])],
    float("nan"),
]
NAMES_OF_ARGUMENTS = [
    *["batch", "id", "items", "keys", "lease", "leases", "max_leases", "maxsize", "n", "name", "names", "register"],
    *["request", "transient", "transit", "value"],
]


@pytest.mark.parametrize("seed", SEEDS)
def test_garbage(seed):
    """Whatever a peer sends is answered or refused, and leaves nothing behind when it has gone."""
    rng, world = random.Random(seed), World()
    operations = sorted(world.tables.operations)
    n_refused = 0
    for _ in range(600):
        op = rng.choice(operations)
        accepted = inspect.signature(world.tables.operations[op]).parameters
        names = [name for name in NAMES_OF_ARGUMENTS if name in accepted or rng.random() < 0.02]
        kwargs = {name: rng.choice(GARBAGE) for name in names if rng.random() < 0.95}
        try:
            world.ask(rng.choice(CLIENTS), op, rng.choice([None, 0, 1, "1", float("nan")]), **kwargs)
        except Exception:
            n_refused += 1
        world.settle()
    assert 50 < n_refused < 590
    for client in CLIENTS:
        world.leave(client)
    tables = world.tables
    for name in list(tables.queues.by_name):
        world.get("last", "queue_close", name=name)
    for name in list(tables.variables.values):
        world.get("last", "variable_delete", name=name)
    world.assert_empty()
