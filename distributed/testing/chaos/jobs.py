"""Work whose outcome is known: each job submits something to a client and checks what comes back.

A job is given a seeded random source, so that the same seed gives the same work. Under faults few outcomes other than
the right one are legitimate: data that existed nowhere else may be lost with its worker, and a task that was running on
too many workers that died is given up. Such outcomes raise :class:`Excused`; everything else is a violation.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import dask

from distributed.base.errors import DataLostError, KilledWorker
from distributed.client import Client, Future, as_completed, wait
from distributed.coordination import Queue
from distributed.testing.chaos import tasks
from distributed.testing.chaos.tally import Tally

__all__ = ["JOBS", "Excused", "JobRun", "WrongResult", "run_job"]

EXIT_CODE = 37
"""With which processes end that a task has told to end."""
_LARGE = (70_000, 400_000, 2_000_000)


class WrongResult(AssertionError):
    """A value other than the one that was to come."""


class Excused(Exception):
    """The faults explain this outcome."""


@dataclass
class JobRun:
    """What one job works with."""

    client: Client
    rng: random.Random
    tally: Tally
    directory: str
    moment: Callable[[str], None] = lambda name: None
    """Told what the job is about to do."""
    name: str = ""

    def expect(self, found: Any, expected: Any, what: str = "") -> None:
        """Raise WrongResult unless these are equal."""
        self.tally.add("results checked")
        if found != expected:
            raise WrongResult(f"{what or self.name}: expected {_short(expected)}, got {_short(found)}")

    def submitted(self, n: int) -> None:
        """Count tasks."""
        self.tally.add("tasks", n)


def _error_of(future: Future) -> BaseException | None:
    """What the task has raised. Raises CancelledError when it will never raise anything."""
    error: BaseException | None = future.exception()
    if error is None and future.cancelled():
        raise CancelledError(future.key)
    return error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def run_job(run: JobRun, name: str | None = None) -> None:
    """Do the job of this name (default: the run's random choice), and count how it ended."""
    if name is None:
        name = run.rng.choices(list(JOBS), [job.weight for job in JOBS.values()])[0]
    run.name = name
    job = JOBS[run.name]
    try:
        job.body(run)
    except Excused as excuse:
        run.tally.add(f"excused: {excuse}")
    except KilledWorker as error:
        judge_given_up(error)
        run.tally.add("excused: given up after too many deaths")
    except CancelledError as error:
        if not (job.may_lose and isinstance(error, DataLostError)):
            raise
        run.tally.add("excused: scattered data lost")
    run.tally.add("jobs")
    run.tally.add(f"job {run.name}")


def judge_given_up(error: KilledWorker) -> None:
    """Raise it again unless there were more deaths than are forgiven, each of a kind that chaos causes."""
    if len(error.attempts) <= error.allowed_failures:
        raise error
    for death in error.attempts:
        unknown = death.signal is None and death.exit_code is None  # silent too long, or its nanny died with it
        if not (unknown or death.signal in (9, 15) or death.exit_code in (EXIT_CODE, 128 + 15)):
            raise error


# ---------------------------------------------------------------- graphs


def chain(run: JobRun) -> None:
    n = run.rng.randrange(2, 40)
    start = run.rng.randrange(1000)
    run.submitted(n)
    future = run.client.submit(tasks.inc, start, pure=False)
    for _ in range(n - 1):
        future = run.client.submit(tasks.inc, future, pure=False)
    run.expect(future.result(), start + n)


def tree(run: JobRun) -> None:
    n = 2 ** run.rng.randrange(3, 7)
    leaves = run.client.map(tasks.pause, range(n), seconds=run.rng.choice([0, 0.001, 0.01]), pure=False)
    run.submitted(2 * n - 1)
    level = leaves
    while len(level) > 1:
        level = [run.client.submit(tasks.add, *pair, pure=False) for pair in zip(level[::2], level[1::2], strict=True)]
    del leaves
    run.expect(level[0].result(), sum(range(n)))


def shuffle(run: JobRun) -> None:
    n_in, n_out = run.rng.randrange(2, 8), run.rng.randrange(2, 8)
    run.submitted(n_in + n_in * n_out + n_out)
    cuts = run.client.map(tasks.chunk, range(n_in), n_out=n_out, pure=False)
    outputs = [
        run.client.submit(
            tasks.split, *[run.client.submit(tasks.pick, cut, out, pure=False) for cut in cuts], pure=False
        )
        for out in range(n_out)
    ]
    del cuts
    expected = [[x for x in range(n_in * 100) if x % n_out == out] for out in range(n_out)]
    run.expect(run.client.gather(outputs), expected)


def wide_map(run: JobRun) -> None:
    n = run.rng.randrange(50, 500)
    run.submitted(n)
    futures = run.client.map(tasks.inc, range(n), pure=False)
    run.expect(run.client.gather(futures), list(range(1, n + 1)))


def slow_map(run: JobRun) -> None:
    n = run.rng.randrange(3, 12)
    seconds = run.rng.choice([0.05, 0.2, 0.5])
    run.submitted(n)
    futures = run.client.map(tasks.pause, range(n), seconds=seconds, pure=False)
    run.expect(run.client.gather(futures), list(range(n)))


def delayed_graph(run: JobRun) -> None:
    n = run.rng.randrange(4, 40)
    leaf, join = dask.delayed(tasks.inc, pure=False), dask.delayed(tasks.total, pure=False)
    parts = [join([leaf(i + j) for j in range(3)]) for i in range(n)]
    run.submitted(4 * n + 1)
    expected = sum(3 * i + 6 for i in range(n))
    found = join(parts)
    how = run.rng.randrange(3)
    if how == 0:
        run.expect(run.client.compute(found).result(), expected)
    elif how == 1:
        run.expect(run.client.compute(run.client.persist(found)).result(), expected)
    else:
        run.expect(found.compute(scheduler=run.client.get), expected)


def large_values(run: JobRun) -> None:
    """Too large to come with the report: workers and clients fetch them from each other."""
    nbytes = run.rng.choice(_LARGE)
    seeds = [run.rng.randrange(10**6) for _ in range(run.rng.randrange(2, 6))]
    run.submitted(2 * len(seeds) + 1)
    futures = run.client.map(tasks.blob, seeds, nbytes=nbytes, pure=False)
    sums = run.client.map(tasks.checksum, futures, pure=False)
    together = run.client.submit(tasks.checksum, *futures, pure=False)
    blobs = [tasks.blob(seed, nbytes) for seed in seeds]
    run.expect(run.client.gather(sums), [tasks.checksum(b) for b in blobs])
    run.expect(together.result(), tasks.checksum(*blobs))
    del sums, together
    run.moment("gather")
    run.expect([tasks.checksum(b) for b in run.client.gather(futures)], [tasks.checksum(b) for b in blobs], "gather")


# ---------------------------------------------------------------- data from the client


def scatter(run: JobRun) -> None:
    n = run.rng.randrange(1, 6)
    values = [tasks.blob(run.rng.randrange(10**9), run.rng.choice([100, 100_000])) for _ in range(n)]
    broadcast = run.rng.random() < 0.4
    run.submitted(n)
    run.moment("scatter")
    futures = run.client.scatter(values, broadcast=broadcast, hash=False)
    sums = run.client.map(tasks.checksum, futures, pure=False)
    run.expect(run.client.gather(sums), [tasks.checksum(value) for value in values])
    run.expect(run.client.gather(futures), values, "scattered data")


def replicate(run: JobRun) -> None:
    n = run.rng.randrange(2, 6)
    run.submitted(2 * n)
    futures = run.client.map(tasks.blob, range(n), nbytes=100_000, pure=False)
    wait(futures)
    run.moment("replicate")
    try:
        if run.rng.random() < 0.5:
            run.client.replicate(futures, n=2)
        else:
            run.client.rebalance(futures)
    except KeyError as e:  # they are being computed again at this moment
        if "could not be moved" not in str(e):
            raise
        run.tally.add("excused: lost before they could be moved")
    sums = run.client.map(tasks.checksum, futures, pure=False)
    run.expect(run.client.gather(sums), [tasks.checksum(tasks.blob(i, 100_000)) for i in range(n)])


def rechunk(run: JobRun) -> None:
    """An array over many keys that change hands between workers, all with all."""
    try:
        import dask.array as da
        import numpy as np
    except ImportError as e:
        raise Excused(f"no {e.name}") from None
    n, parts = run.rng.choice([60, 200]), run.rng.randrange(2, 6)
    array = da.arange(n * n, chunks=n * n // parts).reshape(n, n)
    how = run.rng.choice(["p2p", "tasks"])
    run.submitted(parts * parts)
    turned = array.rechunk((n, n // parts), method=how).sum(axis=0)
    found = run.client.compute(turned).result()
    run.expect(found.tolist(), np.arange(n * n).reshape(n, n).sum(axis=0).tolist(), f"rechunk by {how}")


# ---------------------------------------------------------------- what tasks and clients share


def actor(run: JobRun) -> None:
    """Counts on, as long as its worker lives."""
    run.submitted(1)
    n = run.rng.randrange(1, 20)
    try:
        counter = run.client.submit(tasks.Counter, actor=True, pure=False).result()
        found = [counter.increment().result() for _ in range(n)]
    except Exception as e:
        if isinstance(e, CancelledError) or not ("actor is gone" in str(e) or "was lost" in str(e)):
            raise
        raise Excused("the actor's worker died") from None
    run.expect(found, list(range(1, n + 1)))


def lock(run: JobRun) -> None:
    n = run.rng.randrange(2, 10)
    run.submitted(n)
    name = f"lock-{run.rng.randrange(10**12)}"
    futures = run.client.map(tasks.in_turn, range(n), lock=name, pure=False)
    run.expect(run.client.gather(futures), list(range(n)))


def queue(run: JobRun) -> None:
    """A task that runs twice may put twice; nothing may be missing."""
    n = run.rng.randrange(2, 10)
    run.submitted(n)
    shared = Queue(f"queue-{run.rng.randrange(10**12)}", client=run.client)
    try:
        run.client.gather(run.client.map(tasks.put, range(n), queue=shared.name, pure=False))
        run.expect(set(shared.get(batch=True)), set(range(n)))
    finally:
        shared.close()


# ---------------------------------------------------------------- futures, in all their uses


def completed(run: JobRun) -> None:
    """Results as they come, and more work for each."""
    n = run.rng.randrange(5, 40)
    found, more = [], n
    queue = as_completed(run.client.map(tasks.inc, range(n), pure=False), with_results=True)
    for _, value in queue:
        found.append(value)
        if more:
            more -= 1
            queue.add(run.client.submit(tasks.pause, -1, 0.002, pure=False))
    run.submitted(2 * n)
    run.expect(sorted(found), [-1] * n + list(range(1, n + 1)))


def cancel(run: JobRun) -> None:
    n = run.rng.randrange(4, 20)
    run.submitted(2 * n)
    slow = run.client.map(tasks.pause, range(n), seconds=0.05, pure=False)
    more = run.client.map(tasks.inc, slow, pure=False)
    chosen = run.rng.sample(range(n), n // 2)
    if run.rng.random() < 0.5:
        time.sleep(run.rng.random() * 0.1)
    run.client.cancel([slow[i] for i in chosen])
    kept = [i for i in range(n) if i not in set(chosen)]
    run.expect(run.client.gather([more[i] for i in kept]), [i + 1 for i in kept])
    run.expect([slow[i].status for i in chosen], ["cancelled"] * len(chosen), "cancelled futures")


def release(run: JobRun) -> None:
    """Submit, let go, submit the same again: keys that are on their way out come back."""
    n = run.rng.randrange(3, 15)
    prefix = f"release-{run.rng.randrange(10**12)}"
    for _ in range(run.rng.randrange(2, 5)):
        futures = [run.client.submit(tasks.pause, i, 0.01, key=f"{prefix}-{i}") for i in range(n)]
        run.submitted(n)
        if run.rng.random() < 0.5:
            run.expect(futures[0].result(), 0)
        for future in run.rng.sample(futures, n // 2):
            future.release()
        del future, futures
    again = [run.client.submit(tasks.pause, i, 0.01, key=f"{prefix}-{i}") for i in range(n)]
    run.submitted(n)
    run.expect(run.client.gather(again), list(range(n)))


def retries(run: JobRun) -> None:
    n_failures = run.rng.randrange(1, 4)
    value = run.rng.randrange(10**9)
    path = os.path.join(run.directory, f"flaky-{value}-{run.rng.randrange(10**9)}")
    run.submitted(1)
    try:
        future = run.client.submit(tasks.flaky, path, n_failures, value, retries=n_failures, pure=False)
        run.expect(future.result(), value)
    finally:
        if os.path.exists(path):
            os.unlink(path)


def failing(run: JobRun) -> None:
    """The error reaches those who need the value, and nobody else."""
    x = run.rng.randrange(1000)
    run.submitted(4)
    bad = run.client.submit(tasks.fail, x, pure=False)
    after = run.client.submit(tasks.inc, bad, pure=False)
    good = run.client.map(tasks.inc, [x, x + 1], pure=False)
    for future in run.rng.sample([bad, after], 2):
        error = _error_of(future)
        run.expect((type(error), str(error)), (tasks.ExpectedFailure, f"told to fail: {x}"))
    run.expect(run.client.gather(good), [x + 1, x + 2])


def exiting(run: JobRun) -> None:
    """A task that ends every process that runs it is given up, and says how they ended."""
    run.submitted(1)
    error = _error_of(run.client.submit(tasks.exit_process, EXIT_CODE, pure=False))
    if not isinstance(error, KilledWorker):
        raise WrongResult(f"a task that ends its process gave {error!r}")
    run.expect(any(death.exit_code == EXIT_CODE for death in error.attempts), True, "an exit code in KilledWorker")


def gil(run: JobRun) -> None:
    n = run.rng.randrange(1, 4)
    run.submitted(n)
    futures = run.client.map(tasks.hold_gil, range(n), seconds=run.rng.choice([0.1, 0.5, 1.5]), pure=False)
    run.expect(run.client.gather(futures), list(range(n)))


def nested(run: JobRun) -> None:
    n = run.rng.randrange(1, 10)
    run.submitted(n + 1)
    run.expect(run.client.submit(tasks.nested_sum, n, pure=False).result(), sum(range(1, n + 1)))


def priorities(run: JobRun) -> None:
    """Some with wishes: where to run (others may too), how urgent."""
    n = run.rng.randrange(3, 20)
    run.submitted(n)
    workers = list(run.client.scheduler_info()["workers"])[:1]
    futures = [
        run.client.submit(
            tasks.inc,
            i,
            pure=False,
            priority=run.rng.randrange(-5, 5),
            workers=workers or None,
            allow_other_workers=bool(workers),
        )
        for i in range(n)
    ]
    run.expect(run.client.gather(futures), list(range(1, n + 1)))


@dataclass(frozen=True)
class _Job:
    weight: float
    body: Callable[[JobRun], None]
    may_lose: bool = False


JOBS: dict[str, _Job] = {
    "chain": _Job(4, chain),
    "tree": _Job(4, tree),
    "shuffle": _Job(4, shuffle),
    "wide map": _Job(3, wide_map),
    "slow map": _Job(3, slow_map),
    "delayed graph": _Job(4, delayed_graph),
    "large values": _Job(5, large_values),
    "scatter": _Job(4, scatter, may_lose=True),
    "replicate": _Job(2, replicate),
    "rechunk": _Job(2, rechunk),
    "actor": _Job(2, actor),
    "lock": _Job(2, lock),
    "queue": _Job(2, queue),
    "as_completed": _Job(3, completed),
    "cancel": _Job(4, cancel),
    "release": _Job(4, release),
    "retries": _Job(3, retries),
    "failing": _Job(3, failing),
    "exiting": _Job(0.3, exiting),
    "gil": _Job(1.5, gil),
    "nested": _Job(2, nested),
    "priorities": _Job(2, priorities),
}
"""By name: how often it is chosen, and what it does."""


def describe(names: Iterable[str] = JOBS) -> str:
    """The jobs and what they do, a line each."""
    return "\n".join(f"{name}: {(JOBS[name].body.__doc__ or '').strip()}" for name in names)
