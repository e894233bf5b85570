"""What programs and tasks do with all primitives in the modelled world, and what must be true of it. Pure.

A worker that dies in the middle (holding, waiting, with a value on its way to it) is replaced, and its tasks run again
on another one. Checked: the tables after every message; no more holders than there may be; no item of a queue lost or
got twice; nobody reads a value that was overwritten before it asked; in the end every program has ended, no request,
lease or subscription is left, and futures are kept alive for the items that lie in tables and for nothing else.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from distributed.coordination.event import EventHome
from distributed.coordination.lease_home import LeaseHome
from distributed.coordination.queues import QueueHome
from distributed.coordination.variable import VariableHome
from distributed.messages.payload import Payload
from distributed.simulation.coordination import Coordinator, SimUser

NAMES = ("a", "b")
MANY = ("m", "n", "o")
PAIR = "pair"
"""The semaphore with two leases."""
LIMITED, LIMIT = "b", 3
"""One of the queues has a limit."""
FAULTS_S, END_S = 20.0, 200.0
WHATS = (*("lock", "event", "queue", "variable") * 2, "semaphore", "multi_lock", "topic")
TIMEOUTS_S = (0.0, 0.5, 3.0)
# Longer than the patience with a keeper, shorter than a lease.
FREEZES_S = (0.1, 0.4, 4.0)


class Held:
    """What stands for a lock, a semaphore or a multi-lock in a program: where it is kept, and what it has."""

    def __init__(self, program: Program, table: str, names: list[str], max_leases: int = 1) -> None:
        self.table, self.names, self.max_leases = table, names, max_leases
        self.place: Any = tuple(names) if table == "multi_lock" else names[0]
        self._program = program
        self._transient = max_leases == 1
        self._leases: deque[int] = deque()

    def _lost(self, lease: int) -> None:
        raise AssertionError(
            f"{self._program.user.name} was told that it lost a lease, and nothing was as long as a lease"
        )

    def asked(self) -> dict[str, Any]:
        """What the scheduler is asked for."""
        if self.table == "multi_lock":
            return {"name": "", "names": self.names, "n": len(self.names)}
        return {"transient": True} if self._transient else {"max_leases": self.max_leases}

    def granted(self, lease: int) -> None:
        """By the scheduler."""
        user = self._program.user
        self._leases.append(lease)
        if not user.homes.is_here(lease, self._lost):
            user.hold(lease, self._lost)

    def given_back(self) -> dict[str, Any]:
        """To the scheduler."""
        lease = self._leases.popleft()
        self._program.user.drop(lease)
        return {"name": "" if self.table == "multi_lock" else self.place, "lease": lease}


class Program:
    """One thread of a client: one operation after the other."""

    def __init__(self, episode: CoordinationEpisode, user: SimUser, n: int) -> None:
        self.episode, self.user, self.left = episode, user, n
        self.rng = episode.world.sim.stream(f"program {user.name} {len(episode.programs)}")
        self.name, self.burst = "a", 0
        self.what = "lock"
        self._subscription = ""
        self._many: tuple[str, ...] = MANY
        self._later(0.0)

    def _later(self, pause_s: float) -> None:
        self.user.call_later(pause_s, self._step)

    def _step(self) -> None:
        if self.left == 0:
            return
        self.left -= 1
        rng = self.rng
        if not self.burst:
            self.burst = rng.choice((1, 3, 30))
            self.name, self.what = rng.choice(NAMES), rng.choice(WHATS)
            self._many = tuple(rng.sample(MANY, rng.choice((1, 2, 3))))
        self.burst -= 1
        getattr(self, f"_{self.what}")()

    def _go_on(self, *ignored: Any) -> None:
        self._later(self.rng.choice((0.0, 0.0001, 0.001, 0.2)))

    def _lock(self) -> None:
        self._acquire(Held(self, "semaphore", [self.name]))

    def _semaphore(self) -> None:
        if self.rng.random() < 0.1:
            self._look_at_semaphore()
        else:
            self._acquire(Held(self, "semaphore", [PAIR], 2))

    def _multi_lock(self) -> None:
        self._acquire(Held(self, "multi_lock", list(self._many)))

    def _acquire(self, held: Held) -> None:
        timeout = {"timeout": self.rng.choice(TIMEOUTS_S)} if self.rng.random() < 0.5 else {}
        stint = self.episode.begin_stint(held.names)

        def acquired(lease: Any, here: bool) -> None:
            if lease is None:
                stint.end(self.episode.world.sim.now)
                self._go_on()
                return
            if not here:
                held.granted(lease)
            stint.entered = self.episode.world.sim.now
            self.episode.enter(held.names, held.max_leases, self)
            if not self.episode.may_die(self.user):
                self.user.call_later(self.rng.choice((0.0, 0.001, 0.3)), lambda: self._release(held, stint))

        def arguments() -> dict[str, Any]:
            return {**held.asked(), **timeout}

        op = f"{held.table}_acquire"
        self.user.do(held.table, held.place, lambda home: home.acquire(held), op, arguments, acquired)

    def _release(self, held: Held, stint: Stint) -> None:
        def released(was_held: Any, here: bool) -> None:
            assert was_held, "the lease was over before it was released"
            stint.end(self.episode.world.sim.now)
            self._go_on()

        self.episode.leave(held.names, self)
        stint.left = self.episode.world.sim.now
        release: Any = LeaseHome.release
        op = f"{held.table}_release"
        self.user.do(held.table, held.place, lambda home: release(home, held), op, held.given_back, released)

    def _look_at_semaphore(self) -> None:
        begun = self.episode.world.sim.now

        def told(n: int, here: bool) -> None:
            self.episode.check_value(n, begun)
            self._go_on()

        self.user.do("semaphore", PAIR, LeaseHome.n_held, "semaphore_value", dict, told)

    def _event(self) -> None:
        verb = self.rng.choice(("set", "clear", "is_set", "wait"))
        kwargs = {"timeout": self.rng.choice(TIMEOUTS_S)} if verb == "wait" else {}
        self.user.do("event", self.name, getattr(EventHome, verb), f"event_{verb}", lambda: kwargs, self._go_on)

    def _queue(self) -> None:
        limit = {"maxsize": LIMIT} if self.name == LIMITED else {}
        if self.rng.random() < 0.5:
            value, packed = self._new_value()
            self.episode.put.add(value)

            def was_put(answer: Any, here: bool) -> None:
                if isinstance(answer, TimeoutError):
                    self.episode.put.discard(value)
                self._go_on()

            arguments = {**packed, **limit, **({"timeout": self.rng.choice(TIMEOUTS_S)} if limit else {})}
            self.user.do(
                "queue", self.name, lambda home: home.put(packed, **limit), "queue_put", lambda: arguments, was_put
            )
            return

        def got(answer: Any, here: bool) -> None:
            if not isinstance(answer, TimeoutError):
                self.episode.take(int((answer if here else answer[0][0][0]).data))
                self._arrived(0 if here else answer[1])
            self._go_on()

        timeout = {"timeout": self.rng.choice(TIMEOUTS_S), **limit}
        self.user.do(
            "queue", self.name, lambda home: QueueHome.get(home, 0, **limit), "queue_get", lambda: timeout, got
        )

    def _variable(self) -> None:
        begun, name = self.episode.world.sim.now, self.name
        if self.rng.random() < 0.5:
            value, packed = self._new_value()
            write = self.episode.begin_write(name, value, begun)

            def written(*ignored: Any) -> None:
                write[2] = self.episode.world.sim.now
                self._go_on()

            self.user.do("variable", name, lambda home: home.set(packed), "variable_set", lambda: packed, written)
            return

        def got(answer: Any, here: bool) -> None:
            if not isinstance(answer, TimeoutError):
                self.episode.read(name, int((answer if here else answer[0]).data), begun)
                self._arrived(0 if here else answer[2])
            self._go_on()

        timeout = {"timeout": self.rng.choice(TIMEOUTS_S)}
        self.user.do("variable", name, VariableHome.get, "variable_get", lambda: timeout, got)

    def _new_value(self) -> tuple[int, dict[str, Any]]:
        """A value of its own, now and then with a future in it."""
        value = self.episode.new_value()
        packed: dict[str, Any] = {"value": Payload(str(value).encode())}
        if self.rng.random() < 0.3:
            packed["keys"] = [f"key-{value % 7}"]
        return value, packed

    def _arrived(self, transit: int) -> None:
        if transit and not self.episode.may_die(self.user):
            self.user.ask("coordination_arrived", {"transit": transit})

    def _topic(self) -> None:
        about = {"name": "news", "id": self._subscription}
        if not self._subscription:
            self._subscription = about["id"] = f"subscription-{self.episode.new_value()}"
            self.user.ask("pubsub_subscribe", about, self._go_on)
        elif self.rng.random() < 0.5:
            self.user.ask("pubsub_put", {"name": "news", **self._new_value()[1]}, self._go_on)
        else:

            def got(answer: Any) -> None:
                if not isinstance(answer, TimeoutError):
                    self._arrived(answer[1])
                self._go_on()

            self.user.ask("pubsub_get", {"timeout": self.rng.choice(TIMEOUTS_S), **about}, got)


class Stint:
    """When a program asked for a lease, had it, gave it back, and knew that it was given back."""

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.entered = self.left = self.ended = float("inf")

    def end(self, now: float) -> None:
        """It has none, and nobody can think so."""
        self.ended = now


class CoordinationEpisode:
    """One seed: clients and their programs, faults, and the end."""

    def __init__(self, seed: int) -> None:
        self.world = world = Coordinator(seed)
        self.programs: list[Program] = []
        self.put: set[int] = set()
        self.taken: set[int] = set()
        self.exact = True
        """No client was killed or hung for longer than the patience with keepers: nothing may be lost or doubled."""
        self._holders: dict[str, list[Program]] = {}
        self._writes: dict[str, list[list[Any]]] = {name: [] for name in NAMES}
        self._stints: list[Stint] = []
        self._n_values = self._n_workers = 0
        self._rng = rng = world.sim.stream("faults")
        for i in range(rng.choice((1, 2, 4))):
            user = world.users[f"user-{i}"] = SimUser(world, f"user-{i}")
            for _ in range(rng.choice((1, 2))):
                self.programs.append(Program(self, user, 120))
        for _ in range(rng.choice((0, 0, 1, 3))):
            self._new_worker([60] * rng.choice((1, 2)))
        self._deadly = rng.random() < 0.5
        if rng.random() < 0.7:
            for _ in range(rng.choice((1, 5))):
                world.sim.at(rng.uniform(0, rng.choice((1.0, FAULTS_S))), self._fault)

    def _fault(self) -> None:
        rng, users = self._rng, [user for user in self.world.users.values() if user.alive]
        workers = [user for user in users if user.is_worker]
        user, what = rng.choice(workers if workers and rng.random() < 0.5 else users), rng.random()
        if what < 0.3:
            for link in (user.up, user.down):
                link.stall()
                self.world.sim.after(0.3, link.go_on)
        elif what < 0.6 and not user.frozen:
            seconds = rng.choice(FREEZES_S)
            self.exact &= seconds < 0.5
            user.freeze(seconds)
        elif self._deadly and (user.is_worker or len(users) > 1):
            self._kill(user)

    def may_die(self, user: SimUser) -> bool:
        """Whether a worker dies at this very moment, with what it has just been given."""
        dies = self._deadly and user.is_worker and user.alive and self._rng.random() < 0.02
        if dies:
            self._kill(user)
        return dies

    def _kill(self, user: SimUser) -> None:
        self.exact = False
        self.world.kill(user)
        for name, holders in self._holders.items():
            self._holders[name] = [holder for holder in holders if holder.user is not user]
        if user.is_worker:
            self._run_again(user)

    def _new_worker(self, tasks: list[int]) -> None:
        """One more worker, with tasks that do so many operations each."""
        self._n_workers += 1
        name = f"worker-{self._n_workers}"
        user = self.world.users[name] = SimUser(self.world, name, is_worker=True)
        self.programs += [Program(self, user, n) for n in tasks]

    def _run_again(self, lost: SimUser) -> None:
        """The tasks of a lost worker, from their beginning, on one that is there or on a new one."""
        n = len([program for program in self.programs if program.user is lost and program.left])
        others = [user for user in self.world.users.values() if user.is_worker and user.alive]
        if others:
            self.programs += [Program(self, others[i % len(others)], 60) for i in range(n)]
        else:
            self._new_worker([60] * n)

    def run(self) -> CoordinationEpisode:
        """All of it. Raises AssertionError."""
        sim = self.world.sim
        sim.run_until(END_S)
        for program in self.programs:
            assert program.left == 0 or not program.user.alive, f"a program of {program.user.name} hangs"
        tables = self.world.tables
        assert not tables.kept.by_place, "a name that nobody uses is kept"
        assert not len(tables.waiters) and not len(tables.leases), "somebody waits or holds"
        assert not tables.held.n_in_transit, "a value is on its way to nobody"
        items = [item for queue in tables.queues.by_name.values() for item in queue.items]
        inside = {int(item.value.data) for item in items}
        if self.exact:
            assert not inside & self.taken and inside | self.taken == self.put, "an item is lost, or there twice"
        for name in list(self.world.users):
            assert not self.world.users[name].open, "an answer never came"
            self.world.over(name)
        assert not tables.semaphores.by_name and not tables.events.lines and not tables.variables.lines
        assert not tables.multi_locks.by_name, "a lock of several is not forgotten"
        assert not tables.pubsub.topics, "a subscription is left"
        stored = [*items, *tables.variables.values.values()]
        assert self.world.wanted == {key for item in stored for key in item.keys}, "futures are kept alive for nothing"
        return self

    def new_value(self) -> int:
        """A number that nobody else has."""
        self._n_values += 1
        return self._n_values

    def enter(self, names: list[str], limit: int, program: Program) -> None:
        """A program has what ``limit`` may have at a time."""
        for name in names:
            holders = self._holders.setdefault(name, [])
            assert len(holders) < limit, f"{limit + 1} hold {name!r}"
            holders.append(program)

    def leave(self, names: list[str], program: Program) -> None:
        """A program gives it back."""
        for name in names:
            self._holders[name].remove(program)

    def begin_stint(self, names: list[str]) -> Stint:
        """A program asks for a lease; those of the semaphore are remembered."""
        stint = Stint(self.world.sim.now)
        if names == [PAIR]:
            self._stints.append(stint)
        return stint

    def check_value(self, n: int, begun: float) -> None:
        """A program was told that ``n`` leases are taken: those who held one all the time count, who never did not."""
        now = self.world.sim.now
        surely = [stint for stint in self._stints if stint.entered < begun and stint.left == float("inf")]
        perhaps = [stint for stint in self._stints if stint.asked <= now and stint.ended >= begun]
        if self.exact:
            assert len(surely) <= n <= len(perhaps), f"{n} leases are taken, not {len(surely)} to {len(perhaps)}"

    def take(self, value: int) -> None:
        """A program has got an item."""
        assert value in self.put, "an item that was never put in"
        assert value not in self.taken or not self.exact, "an item was got twice"
        self.taken.add(value)

    def begin_write(self, name: str, value: int, begun: float) -> list[Any]:
        """A program sets a variable: value, begin, end."""
        write = [value, begun, float("inf")]
        self._writes[name].append(write)
        return write

    def read(self, name: str, value: int, begun: float) -> None:
        """A program has read what it asked for at ``begun``."""
        written = next(write for write in self._writes[name] if write[0] == value)
        if self.exact:
            later = [w for w in self._writes[name] if w[1] > written[2] and w[2] < begun]
            assert not later, f"{name!r} was {value}, which had been overwritten by {later[0][0]}"
