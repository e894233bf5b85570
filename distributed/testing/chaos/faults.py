"""What is done to the cluster of a chaos run: signals to its processes, changes of its size. Each kind is one method of
:class:`Faults`; a seeded random source chooses which comes next, to whom and for how long.
"""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from distributed.nanny import Nanny
from distributed.testing.chaos.members import ChaosCluster, NannyProgram
from distributed.testing.chaos.tally import Tally

__all__ = ["Faults"]

logger = logging.getLogger("distributed.testing.chaos")

_FATAL = (signal.SIGKILL, signal.SIGTERM)


class Faults:
    """Does harm to one cluster, and undoes what can be undone (``heal``).

    Parameters
    ----------
    cluster : ChaosCluster
    rng : random.Random
    tally : Tally
    patience_s : float
        After how long a silent worker is taken for lost: stops are chosen shorter and longer than this.
    n_workers : int
        About how many workers there should be.
    """

    def __init__(
        self, cluster: ChaosCluster, rng: random.Random, tally: Tally, patience_s: float, n_workers: int
    ) -> None:
        self.cluster = cluster
        self.rng = rng
        self.tally = tally
        self.patience_s = patience_s
        self.n_workers = n_workers
        self.history: list[str] = []
        self.n_restarts = 0
        """Grows by one when a restart of all begins, and by one when it ends: it is odd while one is under way."""
        self._began = time.monotonic()
        self._stopped: list[tuple[float, psutil.Process]] = []
        self._at_moment: dict[str, float] = {}
        self._timers: list[threading.Timer] = []
        self._lock = threading.Lock()
        self._kinds: dict[Callable[[], None], float] = {
            self.kill_one: 4,
            self.kill_two: 2,
            self.kill_all: 0.5,
            self.stop_shortly: 3,
            self.stop_long: 2,
            self.stop_all: 0.4,
            self.kill_one_that_starts: 2,
            self.kill_the_only_holder: 2,
            self.stop_the_only_holder: 1,
            self.terminate_one: 1,
            self.kill_a_nanny: 1.5,
            self.stop_a_nanny: 0.7,
            self.rescale: 3,
            self.rescale_and_kill: 1.5,
            self.retire_one: 1,
            self.restart_one: 0.7,
            self.restart_all: 0.4,
            self.adapt: 0.7,
            self.kill_at_a_moment: 3,
        }

    # ---------------------------------------------------------------- choice

    def one_more(self) -> None:
        """A fault of a random kind."""
        kind = self.rng.choices(list(self._kinds), list(self._kinds.values()))[0]
        self.tally.add("faults")
        try:
            kind()
        except (psutil.NoSuchProcess, ProcessLookupError):
            self._note("the process was gone already")

    def _note(self, text: str) -> None:
        with self._lock:
            self.history.append(f"{time.monotonic() - self._began:7.2f} s  {text}")

    def tick(self) -> None:
        """Continue the stopped processes whose time is over."""
        now = time.monotonic()
        for item in [item for item in self._stopped if item[0] <= now]:
            self._stopped.remove(item)
            self._continue(item[1])

    def heal(self) -> None:
        """No more harm: everything goes on, and there are enough workers."""
        with self._lock:
            self._at_moment.clear()
            timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()
            timer.join()
        for _, process in self._stopped:
            self._continue(process)
        self._stopped.clear()
        self._end_adapting()
        self.cluster.scale(self.n_workers)
        self._note("healed")

    # ---------------------------------------------------------------- victims

    def _members(self) -> list[Any]:
        return list(self.cluster.workers.values())

    @staticmethod
    def _worker_of(member: Any) -> psutil.Process | None:
        pid = member.worker_pid() if isinstance(member, NannyProgram) else getattr(member, "pid", None)
        try:
            return None if pid is None else psutil.Process(pid)
        except psutil.NoSuchProcess:
            return None

    def workers(self) -> list[psutil.Process]:
        """The processes of all workers that there are."""
        found = [self._worker_of(member) for member in self._members()]
        return [process for process in found if process is not None]

    def _choose(self, n: int) -> list[psutil.Process]:
        there = self.workers()
        return self.rng.sample(there, min(n, len(there)))

    def _send(self, process: psutil.Process, number: signal.Signals, why: str = "") -> None:
        self._note(f"{number.name} to {process.pid} {why}")
        process.send_signal(number)
        self.tally.add(f"signals {number.name}")

    def _stop(self, process: psutil.Process, seconds: float, why: str = "") -> None:
        self._send(process, signal.SIGSTOP, f"for {seconds:.2f} s {why}")
        self._stopped.append((time.monotonic() + seconds, process))

    def _continue(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._send(process, signal.SIGCONT)

    # ---------------------------------------------------------------- signals

    def kill_one(self) -> None:
        for process in self._choose(1):
            self._send(process, signal.SIGKILL)

    def kill_two(self) -> None:
        for process in self._choose(2):
            self._send(process, signal.SIGKILL, "two at once")

    def kill_all(self) -> None:
        for process in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                self._send(process, signal.SIGKILL, "all at once")

    def terminate_one(self) -> None:
        for process in self._choose(1):
            self._send(process, signal.SIGTERM)

    def stop_shortly(self) -> None:
        for process in self._choose(1):
            self._stop(process, self.patience_s * self.rng.uniform(0.02, 0.6))

    def stop_long(self) -> None:
        for process in self._choose(1):
            self._stop(process, self.patience_s * self.rng.uniform(1.2, 2.5), "longer than the scheduler waits")

    def stop_all(self) -> None:
        seconds = self.patience_s * self.rng.uniform(0.5, 2)
        for process in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                self._stop(process, seconds, "all at once")

    def kill_one_that_starts(self) -> None:
        """Kill a worker, and then the one that is started in its place, somewhere between its start and its first
        task."""
        candidates = [member for member in self._members() if isinstance(member, Nanny) and member.pid]
        if not candidates:
            return
        nanny = self.rng.choice(candidates)
        first = psutil.Process(nanny.pid)
        self._send(first, signal.SIGKILL)
        wait_for_directory, delay = self.rng.random() < 0.5, self.rng.random()
        deadline = time.monotonic() + 10
        directory = nanny.worker_dir
        while time.monotonic() < deadline:
            pid = nanny.pid
            if pid is not None and pid != first.pid and not (wait_for_directory and nanny.worker_dir == directory):
                # The directory is made just before the worker registers.
                self._after(delay * (0.05 if wait_for_directory else 0.8), psutil.Process(pid), "while it starts")
                return
            time.sleep(0.002)

    def kill_a_nanny(self) -> None:
        """The nanny, not its worker."""
        nanny = self._a_nanny()
        if nanny is not None:
            self._send(nanny, signal.SIGKILL, "a nanny")
            self.tally.add("nannies killed")

    def stop_a_nanny(self) -> None:
        nanny = self._a_nanny()
        if nanny is not None:
            self._stop(nanny, self.patience_s * self.rng.uniform(0.5, 2.5), "a nanny")

    def _a_nanny(self) -> psutil.Process | None:
        nannies = [m for m in self._members() if isinstance(m, NannyProgram) and m.pid and m.worker_pid()]
        return psutil.Process(self.rng.choice(nannies).pid) if nannies else None

    def _after(self, delay: float, process: psutil.Process, why: str) -> None:
        def kill() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._send(process, signal.SIGKILL, why)

        with self._lock:
            timer = threading.Timer(delay, kill)
            timer.daemon = True
            self._timers = [t for t in self._timers if t.is_alive()] + [timer]
            timer.start()

    def kill_at_a_moment(self) -> None:
        """When some job does this next."""
        moment = self.rng.choice(["scatter", "gather", "replicate", "close"])
        with self._lock:
            self._at_moment[moment] = self.rng.random() * 0.03

    def moment(self, name: str) -> None:
        """A job (on its own thread) is about to do something."""
        with self._lock:
            delay = self._at_moment.pop(name, None)
        if delay is not None:
            there = self.workers()
            if there:
                self._after(delay, there[int(delay * 1e6) % len(there)], f"during {name}")

    # ---------------------------------------------------------------- the only holder

    def _only_holder(self) -> psutil.Process | None:
        """The process of a worker that holds a value of which there is no other copy."""
        scheduler = self.cluster.scheduler

        async def look() -> int | None:
            found: dict[int, None] = {}
            for ts in scheduler.tasks.values():
                if len(ts.who_has) == 1:
                    (ws,) = ts.who_has
                    found[ws.pid] = None
            return self.rng.choice(list(found)) if found else None

        pid = self.cluster.sync(look)
        try:
            return None if not pid else psutil.Process(pid)
        except psutil.NoSuchProcess:
            return None

    def kill_the_only_holder(self) -> None:
        process = self._only_holder()
        if process is not None:
            self._send(process, signal.SIGKILL, "it holds an only copy")

    def stop_the_only_holder(self) -> None:
        process = self._only_holder()
        if process is not None:
            self._stop(process, self.patience_s * self.rng.uniform(0.3, 2), "it holds an only copy")

    # ---------------------------------------------------------------- size

    def rescale(self) -> None:
        self._end_adapting()
        n = max(1, self.n_workers + self.rng.randrange(-2, 2))
        self._note(f"scale({n})")
        self.tally.add("scalings")
        self.cluster.scale(n)

    def rescale_and_kill(self) -> None:
        """A worker dies while others are being emptied, or are starting."""
        self.rescale()
        for process in self._choose(1):
            self._after(self.rng.random() * 0.3, process, "while the cluster changes its size")

    def adapt(self) -> None:
        self.tally.add("adaptive phases")
        minimum = self.rng.randrange(2)
        self._note(f"adapt({minimum}, {self.n_workers})")
        self.cluster.adapt(
            minimum=minimum, maximum=self.n_workers, interval="200ms", wait_count=2, target_duration="500ms"
        )

    def _end_adapting(self) -> None:
        adaptive = self.cluster._adaptive
        if adaptive is not None:
            adaptive.stop("chaos")

    def retire_one(self) -> None:
        """As a client may ask for; the cluster is scaled back later."""
        self._ask("retire_workers", close_workers=True, remove=True)

    def restart_one(self) -> None:
        self._ask("restart_workers", timeout=20, on_error="return")

    def restart_all(self) -> None:
        """All tasks are forgotten, all workers start anew; something dies meanwhile."""
        cluster = self.cluster
        self._note("restart")
        self.tally.add("restart all")
        self.n_restarts += 1

        async def ask() -> None:
            try:
                await cluster.scheduler_comm.restart(timeout=30, wait_for_workers=False)
            except (OSError, TimeoutError, RuntimeError) as e:
                self._note(f"restart: {e}")
            finally:
                self.n_restarts += 1

        cluster.loop.add_callback(ask)
        if self.rng.random() < 0.5:
            for process in self._choose(1):
                self._after(self.rng.random(), process, "during a restart")

    def _ask(self, op: str, **kwargs: Any) -> None:
        """Ask the scheduler to do something to one worker, in the background."""
        cluster = self.cluster
        addresses = sorted(cluster.scheduler_info["workers"])
        if not addresses:
            return
        address = self.rng.choice(addresses)
        self._note(f"{op} {address}")
        self.tally.add(op.replace("_", " "))

        async def ask() -> None:
            try:
                await getattr(cluster.scheduler_comm, op)(workers=[address], **kwargs)
            except (OSError, TimeoutError, RuntimeError) as e:
                self._note(f"{op} {address}: {e}")

        cluster.loop.add_callback(ask)
