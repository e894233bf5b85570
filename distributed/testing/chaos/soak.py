"""A chaos run: rounds of work under faults, each on a fresh cluster, each with a reckoning at its end.

A round starts a cluster, lets clients do jobs whose outcome is known while faults befall the cluster, and heals it.
From then on every job must end: a round is stuck only when nothing at all has moved for a long time, so that a slow
machine is not taken for a broken engine. At last all tasks must be forgotten, the tables be sound, and when the cluster
is closed nothing of it may be left.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dask.config

from distributed.client import Client
from distributed.testing.chaos.diagnosis import diagnose, stacks
from distributed.testing.chaos.faults import Faults
from distributed.testing.chaos.jobs import JobRun, run_job
from distributed.testing.chaos.members import ChaosCluster
from distributed.testing.chaos.tally import Tally
from distributed.testing.chaos.traces import OwnDirectories, Traces, open_descriptors

__all__ = ["Options", "run"]

logger = logging.getLogger("distributed.testing.chaos")

_THREADS = "chaos-job"
_RESPITE_S = 6.0


@dataclass(frozen=True)
class Options:
    """How a run goes.

    Parameters
    ----------
    seed : int
        Chooses jobs and faults. How they fall together differs from run to run all the same.
    seconds : float
        How long faults and work go on, all rounds together.
    round_s : float
        About how long on one cluster.
    n_workers, n_clients, n_jobs : int
        Workers of the cluster, clients, and jobs that each client does at a time.
    pause_s : float
        Mean time between faults.
    patience_s : float
        After how long a silent worker is taken for lost.
    stuck_s : float
        A round in which nothing has moved for so long is stuck.
    """

    seed: int = 1
    seconds: float = 60.0
    round_s: float = 30.0
    n_workers: int = 3
    n_clients: int = 2
    n_jobs: int = 2
    pause_s: float = 2.0
    patience_s: float = 3.0
    stuck_s: float = 60.0


def run(options: Options, report: Callable[[str], None] = lambda text: None) -> Tally:
    """Do all rounds; the tally says what was found. Stops after a round that got stuck."""
    tally = Tally()
    end = time.monotonic() + options.seconds
    number = 0
    while (left := end - time.monotonic()) > 0 or number == 0:
        number += 1
        before = len(tally.violations)
        _Round(options, number, tally).run(min(options.round_s, max(left, 5.0)))
        tally.add("rounds")
        report(f"round {number}: {tally.counts['jobs']} jobs, {tally.counts['tasks']} tasks, "
               f"{tally.counts['faults']} faults so far, {len(tally.violations)} violations")  # fmt: skip
        if any(v.kind == "stuck" for v in tally.violations[before:]):
            break
    return tally


class _Errors(logging.Handler):
    """What the engine in this process logs as an error is one."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(logging.ERROR)
        self.tally = tally

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name}: {record.getMessage()}"
        if "failed to start" in text and "SIGKILL" in text:
            self.tally.add("members given up: killed at every start")
            return
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        self.tally.violation("engine errors", text)


@contextlib.contextmanager
def _errors_counted(tally: Tally) -> Iterator[None]:
    handler = _Errors(tally)
    root = logging.getLogger("distributed")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Round:
    def __init__(self, options: Options, number: int, tally: Tally) -> None:
        self.options = options
        self.number = number
        self.tally = tally
        self.rng = self._source("round")
        self.over = threading.Event()
        self.faults: Faults
        self.cluster: ChaosCluster
        self.n_done = 0

    def _source(self, *names: Any) -> random.Random:
        return random.Random(":".join(map(str, (self.options.seed, self.number, *names))))

    def _settings(self) -> dict[str, Any]:
        check = self.rng.random() < 0.5
        return {
            "distributed.scheduler.suspect-after": self.options.patience_s / 3,
            "distributed.scheduler.lost-after": self.options.patience_s,
            "distributed.scheduler.lost-after-alone": self.options.patience_s,
            "distributed.scheduler.validate": check,
            "distributed.worker.validate": check,
            "distributed.comm.timeouts.connect": "10s",
            "distributed.scheduler.active-memory-manager.start": False,
        }

    def run(self, seconds: float) -> None:
        with OwnDirectories() as own, dask.config.set(self._settings()), _errors_counted(self.tally):
            self.directory = str(own.path / "tmp")
            traces = Traces(own)
            n_descriptors = open_descriptors()
            self._on_cluster(seconds)
            gc.collect()
            traces.check(self.tally, history=self._history())
            self.tally.most("descriptors more than before, at most", open_descriptors() - n_descriptors)

    def _on_cluster(self, seconds: float) -> None:
        options = self.options
        threads_each = self.rng.choice([1, 1, 2])
        self.cluster = cluster = ChaosCluster(
            n_workers=0,
            threads_per_worker=threads_each,
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.ERROR,
            local_directory=f"{self.directory}/scratch",
        )
        try:
            cluster.scale(options.n_workers)
            self.faults = Faults(cluster, self._source("faults"), self.tally, options.patience_s, options.n_workers)
            if self.rng.random() < 0.7:  # else faults begin while the first workers start
                cluster.wait_for_workers(options.n_workers, timeout=120)
            clients = [
                threading.Thread(target=self._client, args=(i,), name=f"{_THREADS}-client-{i}", daemon=True)
                for i in range(options.n_clients)
            ]
            for thread in clients:
                thread.start()
            self._harm(seconds)
            self.over.set()
            if self._wait_for(clients):
                self._check_quiet()
            self._count_events()
            self._last_harm()
        finally:
            self._close()

    # ---------------------------------------------------------------- work

    def _client(self, number: int) -> None:
        """One client after the other, until the round is over."""
        rng = self._source("client", number)
        try:
            life = 0
            while not self.over.is_set():
                life += 1
                self._one_client(f"{number}.{life}", rng)
        except Exception as e:
            self.tally.violation("unexpected errors", f"client {number}: {''.join(traceback.format_exception(e))}")

    def _one_client(self, name: str, rng: random.Random) -> None:
        client = Client(self.cluster, set_as_default=False)
        self.tally.add("clients")
        leave, abrupt = threading.Event(), threading.Event()
        jobs = [
            threading.Thread(
                target=self._jobs, args=(client, f"{name}.{i}", leave, abrupt), name=f"{_THREADS}-{name}.{i}",
                daemon=True,
            )
            for i in range(self.options.n_jobs)
        ]  # fmt: skip
        for thread in jobs:
            thread.start()
        self.over.wait(rng.uniform(3, 40))
        if not self.over.is_set() and rng.random() < 0.5:
            abrupt.set()  # the client leaves in the middle of its work
            self.tally.add("clients that left in the middle")
            self.faults.moment("close")
            client.close()
        leave.set()
        for thread in jobs:
            thread.join()
        self.faults.moment("close")
        client.close()

    def _jobs(self, client: Client, name: str, leave: threading.Event, abrupt: threading.Event) -> None:
        number = 0
        while not (leave.is_set() or self.over.is_set()):
            number += 1
            n_restarts = self.faults.n_restarts

            def excused(before: int = n_restarts) -> bool:
                restarted = before % 2 == 1 or self.faults.n_restarts != before
                if restarted:
                    self.tally.add("excused: the cluster was restarted")
                return restarted or abrupt.is_set()

            job = JobRun(client, self._source(name, number), self.tally, self.directory, self.faults.moment)
            try:
                run_job(job)
            except AssertionError as e:  # nothing excuses a wrong value
                self.tally.violation("wrong results", f"{name}: {e}\n{self._history()}")
            except Exception as e:
                if not excused():
                    self._unexpected(job, e)
            self.n_done += 1

    def _unexpected(self, job: JobRun, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        self.tally.violation("unexpected errors", f"{job.name}: {text}\n{self._history()}")

    def _history(self) -> str:
        return "faults before:\n  " + "\n  ".join(self.faults.history[-25:])

    # ---------------------------------------------------------------- harm

    def _harm(self, seconds: float) -> None:
        faults, rng = self.faults, self._source("times")
        end = time.monotonic() + seconds
        next_fault = time.monotonic() + rng.expovariate(1 / self.options.pause_s)
        n_done = -1
        while (now := time.monotonic()) < end:
            faults.tick()
            # Faults without any work between them prove little: a loaded machine gets more time for it.
            if now >= next_fault and (self.n_done != n_done or now >= next_fault + _RESPITE_S):
                n_done = self.n_done
                faults.one_more()
                next_fault = time.monotonic() + rng.expovariate(1 / self.options.pause_s)
            time.sleep(0.02)
        faults.heal()

    def _last_harm(self) -> None:
        """Something dies as the cluster closes."""
        choice = self.rng.randrange(4)
        if choice == 1:
            self.faults.kill_one()
        elif choice == 2:
            self.faults.kill_all()
        elif choice == 3:
            self.cluster.scale(self.options.n_workers + 1)

    # ---------------------------------------------------------------- reckoning

    def _mark(self) -> tuple[int, int, int]:
        """Changes as long as anything moves."""
        scheduler = self.cluster.scheduler
        seen = scheduler.state.n_workers_seen
        return self.n_done, scheduler.transition_counter, seen

    def _until(self, reached: Callable[[], bool]) -> bool:
        mark, since = self._mark(), time.monotonic()
        while not reached():
            now = self._mark()
            if now != mark:
                mark, since = now, time.monotonic()
            elif time.monotonic() - since > self.options.stuck_s:
                return False
            time.sleep(0.02)
        return True

    def _wait_for(self, threads: list[threading.Thread]) -> bool:
        if self._until(lambda: not any(thread.is_alive() for thread in threads)):
            return True
        text = f"nothing has moved for {self.options.stuck_s:g} s after the faults had ended\n"
        self.tally.violation("stuck", text + diagnose(self.cluster) + "\n" + stacks(_THREADS) + self._history())
        return False

    def _check_quiet(self) -> None:
        """All futures are gone: all tasks too, and nothing contradicts itself."""
        gc.collect()
        scheduler = self.cluster.scheduler
        if not self._until(lambda: not scheduler.tasks):
            text = f"{len(scheduler.tasks)} tasks are left without any client\n"
            self.tally.violation("tasks not forgotten", text + diagnose(self.cluster) + self._history())

        async def validate() -> None:
            scheduler.validate_state()

        try:
            self.cluster.sync(validate)
        except AssertionError as e:
            self.tally.violation("contradictions", f"{e}\n{self._history()}")
        if not self._until(lambda: len(self.cluster.observed) == self.options.n_workers):
            text = f"{sorted(map(str, self.cluster.observed))} instead of {self.options.n_workers} workers are left\n"
            self.tally.violation("stuck", text + diagnose(self.cluster) + self._history())

    def _count_events(self) -> None:
        for _, event in list(self.cluster.scheduler.events.get("all", ())):
            if isinstance(event, dict) and event.get("action") == "remove-worker":
                self.tally.add("workers gone")
                self.tally.add("workers gone unexpectedly", not event["expected"])
                self.tally.add("tasks run again", event["n-rerun"])
                self.tally.add("results computed again", event["n-recomputed"])
        self.tally.add("workers joined", self.cluster.scheduler.state.n_workers_seen)

    def _close(self) -> None:
        closing = threading.Thread(target=self.cluster.close, name=f"{_THREADS}-close", daemon=True)
        begin = time.monotonic()
        closing.start()
        closing.join(self.options.stuck_s)
        self.tally.most("slowest close of a cluster, ms", int(1000 * (time.monotonic() - begin)))
        if closing.is_alive():
            self.tally.violation("stuck", f"the cluster does not close\n{stacks('')}\n{self._history()}")
