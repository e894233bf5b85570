"""Shuffles and what may happen to them: lost workers in each phase, cancellation, failures, two at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from distributed import Client, LocalCluster
from distributed.shuffle import ShuffleFailedError
from distributed.shuffle.plan import TRANSFER, UNPACK
from distributed.testing import async_poll_for, gen_cluster, poll_for

N_INPUTS, ROWS = 8, 500
TOTAL = N_INPUTS * ROWS


def wait_for_file(path: str) -> None:
    """Hold the calling task until the test opens the gate."""
    deadline = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody has made {path}")
        time.sleep(0.01)


def make_input(i: int, gate: str = "") -> pd.DataFrame:
    if gate and i == 3:
        wait_for_file(gate)
    rng = np.random.default_rng(i)
    return pd.DataFrame({"x": rng.integers(0, 1000, ROWS), "y": rng.random(ROWS), "source": i})


META = make_input(0).iloc[:0]


def hold_unpacks(dask_worker: Any, gate: str) -> None:
    """The unpacks of this worker wait at the gate."""
    half = dask_worker.extensions["shuffle"]
    unpack = half.unpack

    def late(*args: Any) -> Any:
        wait_for_file(gate)
        return unpack(*args)

    half.unpack = late


def a_shuffle(gate: str = "", npartitions: int = 12) -> Any:
    """A shuffle of known content; one input waits until the test makes the file ``gate``, if it is given."""
    df = dd.from_map(make_input, range(N_INPUTS), gate=gate, meta=META)
    return df.shuffle("x", npartitions=npartitions, shuffle_method="p2p")


def check(result: pd.DataFrame) -> None:
    expected = pd.concat([make_input(i) for i in range(N_INPUTS)])
    order = ["source", "x", "y"]
    pd.testing.assert_frame_equal(
        result.sort_values(order, ignore_index=True), expected.sort_values(order, ignore_index=True)
    )


def plan_of(s: Any) -> Any:
    return s.extensions["shuffle"].plan


def transfers_done(s: Any) -> int:
    return sum(ts.state == "memory" and "transfer" in str(ts.key) for ts in s.tasks.values())


def events(s: Any, action: str) -> list[dict[str, Any]]:
    """What was logged of shuffles under this name."""
    return [event for _, event in s.get_events("p2p") if event["action"] == f"p2p-{action}"]


def phase(s: Any) -> str:
    return next((run.phase for run in plan_of(s).runs.values()), "")


async def all_gone(s: Any, *workers: Any) -> None:
    """No run, no byte, no file of any shuffle is left."""
    await async_poll_for(lambda: not plan_of(s).runs, timeout=20)
    for worker in workers:
        half = worker.extensions["shuffle"]
        await async_poll_for(lambda half=half: not half.runs and not half.limiter.used_nbytes, timeout=20)
        await async_poll_for(lambda worker=worker: not list(Path(worker.local_directory).glob("shuffle-*")), timeout=20)


SMALL = {"distributed.p2p.storage.buffer": "20 kiB", "distributed.p2p.comm.message-bytes-limit": "1 kiB"}


@gen_cluster(client=True, config=SMALL)
async def test_unpacks_run_where_their_partition_lies_and_nothing_stays(c: Any, s: Any, a: Any, b: Any) -> None:
    out = c.persist(a_shuffle())
    check(await c.compute(out))
    (started,) = events(s, "run-started")
    placed = {key: holders[0] for key, holders in (await c.who_has(out)).items()}
    assert all(address == started["holders"][key[-1] % 2] for key, address in placed.items())
    (passed,) = events(s, "barrier-passed")
    assert passed["nbytes"] > TOTAL * 24 and passed["nbytes_on_disk"] > 0
    assert started["n_inputs"] == len(events(s, "input-sent")) == N_INPUTS
    assert sum(event["nbytes"] for event in events(s, "input-sent")) == passed["nbytes"]
    assert sorted(event["partition"] for event in events(s, "output-read")) == list(range(12))
    await all_gone(s, a, b)


@gen_cluster(client=True, config={**SMALL, "distributed.p2p.storage.compression": "lz4"})
async def test_compressed_files(c: Any, s: Any, a: Any, b: Any) -> None:
    check(await c.compute(a_shuffle()))
    await all_gone(s, a, b)


@gen_cluster(client=True, config={"distributed.p2p.storage.disk": False})
async def test_memory_only(c: Any, s: Any, a: Any, b: Any) -> None:
    check(await c.compute(a_shuffle()))
    (passed,) = events(s, "barrier-passed")
    assert passed["nbytes_on_disk"] == 0


@pytest.mark.parametrize("point", [TRANSFER, UNPACK])
@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)] * 3, config=SMALL, timeout=60)
async def test_a_holder_closes(c: Any, s: Any, *workers: Any, point: str, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    if point == UNPACK:
        await c.run(hold_unpacks, gate=gate)
    future = c.compute(a_shuffle(gate) if point == TRANSFER else a_shuffle())
    if point == TRANSFER:
        await async_poll_for(lambda: transfers_done(s) >= 2, timeout=30)
    else:
        await async_poll_for(lambda: phase(s) == UNPACK, timeout=30)
    (first,) = [run.run_id for run in plan_of(s).runs.values()]
    await workers[2].close()
    Path(gate).touch()
    check(await future)
    started = events(s, "run-started")
    assert started[0]["run_id"] == first and len(started) == 2
    assert workers[2].address not in started[-1]["holders"]
    await all_gone(s, *workers[:2])


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)] * 2, config=SMALL, timeout=60)
async def test_a_holder_closes_at_the_barrier(c: Any, s: Any, a: Any, b: Any) -> None:
    asked, go = asyncio.Event(), asyncio.Event()
    settle = b.handlers["shuffle_settle"]

    async def late(**kwargs: Any) -> Any:
        asked.set()
        await go.wait()
        return await settle(**kwargs)

    b.handlers["shuffle_settle"] = late
    future = c.compute(a_shuffle())
    await asyncio.wait_for(asked.wait(), 30)
    await b.close()
    check(await future)
    await all_gone(s, a)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)] * 2, config=SMALL, timeout=60)
async def test_results_that_are_lost_after_the_end_bring_the_shuffle_back(c: Any, s: Any, a: Any, b: Any) -> None:
    out = c.persist(a_shuffle())
    await c.compute(out.x.size)
    await all_gone(s, a, b)
    await b.close()
    check(await c.compute(out))
    await all_gone(s, a)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)] * 2, config=SMALL, timeout=60)
async def test_a_worker_that_comes_late_only_sends(c: Any, s: Any, a: Any, b: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    future = c.compute(a_shuffle(gate))
    await async_poll_for(lambda: transfers_done(s) >= 2, timeout=30)
    from distributed import Worker

    async with Worker(s.address, nthreads=4) as late:
        Path(gate).touch()
        check(await future)
        started = events(s, "run-started")
        assert [event["holders"] for event in started] == [[a.address, b.address]]
        await all_gone(s, a, b, late)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 3, config=SMALL, timeout=60)
async def test_a_holder_retires(c: Any, s: Any, *workers: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    await c.run(hold_unpacks, gate=gate)
    future = c.compute(a_shuffle())
    await async_poll_for(lambda: phase(s) == UNPACK, timeout=30)
    retiring = asyncio.ensure_future(s.retire_workers([workers[1].address], close_workers=True))
    Path(gate).touch()
    check(await future)
    await retiring
    await all_gone(s, workers[0], workers[2])


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)] * 3, config=SMALL, timeout=60)
async def test_a_join_loses_a_holder_of_both_sides(c: Any, s: Any, *workers: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    left = dd.from_map(make_input, range(N_INPUTS), gate=gate, meta=META)
    right = pd.DataFrame({"x": range(1000), "z": range(1000)})
    joined = left.merge(dd.from_pandas(right, npartitions=4), on="x", shuffle_method="p2p", broadcast=False)
    future = c.compute(joined)
    await async_poll_for(lambda: len(plan_of(s).runs) == 2 and transfers_done(s) >= 4, timeout=30)
    await workers[0].close()
    Path(gate).touch()
    result = await future
    assert (result["x"] == result["z"]).all()
    check(result.drop(columns="z"))
    last = {event["id"]: tuple(event["holders"]) for event in events(s, "run-started")}
    assert len(last) == 2 and len(set(last.values())) == 1, "both sides have the same holders"
    await all_gone(s, *workers[1:])


@gen_cluster(client=True, config=SMALL)
async def test_cancelled_in_the_middle(c: Any, s: Any, a: Any, b: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    future = c.compute(a_shuffle(gate))
    await async_poll_for(lambda: transfers_done(s) >= 2, timeout=30)
    assert plan_of(s).runs
    await future.cancel()
    await all_gone(s, a, b)
    Path(gate).touch()
    check(await c.compute(a_shuffle()))
    await all_gone(s, a, b)


@gen_cluster(client=True, config=SMALL, timeout=60)
async def test_two_at_once_and_one_after_the_other(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.persist(da.random.random((200, 100), chunks=(10, 100)))
    y = x.rechunk((200, 7), method="p2p")
    frames, other = c.compute([a_shuffle(), a_shuffle(npartitions=5)])
    array = c.compute(y)
    check(await frames)
    check(await other)
    np.testing.assert_array_equal(await array, await c.compute(x))
    check(await c.compute(a_shuffle()))
    await all_gone(s, a, b)


@gen_cluster(client=True, config=SMALL)
async def test_a_failing_input_is_the_error_of_the_outputs(c: Any, s: Any, a: Any, b: Any) -> None:
    df = dd.from_map(_bad_input, range(N_INPUTS), meta=META)
    out = c.persist(df.shuffle("x", shuffle_method="p2p"))
    futures = c.futures_of(out)
    for future in futures:
        with pytest.raises(ZeroDivisionError, match="input 5"):
            await future
    await all_gone(s, a, b)


def _bad_input(i: int) -> pd.DataFrame:
    if i == 5:
        raise ZeroDivisionError("input 5")
    return make_input(i)


@gen_cluster(client=True, config=SMALL)
async def test_a_holder_without_room_on_disk_fails_the_outputs_with_one_clear_error(
    c: Any, s: Any, a: Any, b: Any
) -> None:
    """The directory is not writable, as when a disk is full: a file stands where a directory is wanted."""
    real, b.local_directory = b.local_directory, os.path.join(b.local_directory, "file")
    Path(b.local_directory).write_text("in the way")
    try:
        out = c.persist(a_shuffle())
        for future in c.futures_of(out):
            with pytest.raises(ShuffleFailedError, match=f"worker {b.address}: .*cannot be written: NotADirectory"):
                await future
    finally:
        b.local_directory = real
    await all_gone(s, a)
    check(await c.compute(a_shuffle(npartitions=11)))
    await c.retry(c.futures_of(out))
    check(pd.concat(await c.gather(c.futures_of(out))))
    await all_gone(s, a, b)


@gen_cluster(client=True)
async def test_a_worker_that_closes_leaves_no_file(c: Any, s: Any, a: Any, b: Any, tmp_path: Path) -> None:
    with dask.config.set(SMALL):
        await c.run(hold_unpacks, gate=str(tmp_path / "gate"))
        future = c.compute(a_shuffle())
        await async_poll_for(lambda: phase(s) == UNPACK, timeout=30)
        directory = Path(a.local_directory)
        assert list(directory.glob("shuffle-*"))
        (tmp_path / "gate").touch()
        await a.close()
        assert not directory.exists()
        check(await future)


@gen_cluster(client=True)
async def test_a_worker_that_pauses_writes_out_what_it_holds(c: Any, s: Any, a: Any, b: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    await c.run(hold_unpacks, gate=gate)
    future = c.compute(a_shuffle())
    await async_poll_for(lambda: phase(s) == UNPACK, timeout=30)
    half = a.extensions["shuffle"]
    (run,) = half.runs.values()
    assert half.limiter.used_nbytes > 0 and not run.store.nbytes_on_disk
    a.pause()
    await async_poll_for(lambda: not half.limiter.used_nbytes, timeout=20)
    assert run.store.nbytes_on_disk > 0
    assert a.metrics()["spilled_bytes"]["shuffles"] == run.store.nbytes_on_disk
    a.unpause()
    Path(gate).touch()
    check(await future)


@gen_cluster(client=True, config=SMALL)
async def test_a_partition_can_be_taken_out_from_anywhere(c: Any, s: Any, a: Any, b: Any, tmp_path: Path) -> None:
    """A task that comes to the scheduler after the barrier is not bound; it fetches what it needs."""
    unpacks = {w.address: w.extensions["shuffle"].unpack for w in (a, b)}
    await c.run(hold_unpacks, gate=str(tmp_path / "gate"))
    future = c.compute(a_shuffle(npartitions=4))
    await async_poll_for(lambda: phase(s) == UNPACK, timeout=30)
    (run,) = plan_of(s).runs.values()

    for partition in range(4):
        one, two = [await asyncio.to_thread(u, run.shuffle_id, partition, run.run_id) for u in unpacks.values()]
        assert len(one) > 0
        pd.testing.assert_frame_equal(one, two)
    (tmp_path / "gate").touch()
    check(await future)


@gen_cluster(client=True, config=SMALL, timeout=60)
async def test_restart_of_the_cluster_forgets_runs(c: Any, s: Any, a: Any, b: Any, tmp_path: Path) -> None:
    future = c.compute(a_shuffle(str(tmp_path / "gate")))
    await async_poll_for(lambda: transfers_done(s) >= 2, timeout=30)
    with contextlib.suppress(TimeoutError):
        await c.restart(timeout=1, wait_for_workers=False)
    await async_poll_for(lambda: not plan_of(s).runs, timeout=20)
    (tmp_path / "gate").touch()
    assert future.cancelled()


# ---------------------------------------------------------------- real processes


def _pids(client: Client) -> dict[str, int]:
    return client.run(os.getpid)


def _runs(dask_scheduler: Any) -> list[tuple[int, str, list[str]]]:
    plan = dask_scheduler.extensions["shuffle"].plan
    return [(run.run_id, run.phase, list(run.holders)) for run in plan.runs.values()]


def _done(dask_scheduler: Any) -> int:
    return transfers_done(dask_scheduler)


@pytest.mark.parametrize("point", [TRANSFER, UNPACK])
def test_a_worker_process_is_killed(point: str, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with (
        dask.config.set(SMALL),
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(_make_small)
        if point == UNPACK:
            client.run(hold_unpacks, gate=gate)
        future = client.compute(a_shuffle(gate) if point == TRANSFER else a_shuffle())
        reached: Callable[[], bool]
        if point == TRANSFER:
            reached = lambda: client.run_on_scheduler(_done) >= 2
        else:
            reached = lambda: any(phase == UNPACK for _, phase, _ in client.run_on_scheduler(_runs))
        poll_for(reached, timeout=40)
        pids = _pids(client)
        victim = client.run_on_scheduler(_runs)[0][2][-1]
        os.kill(pids[victim], signal.SIGKILL)
        Path(gate).touch()
        check(future.result(timeout=60))
        poll_for(lambda: not client.run_on_scheduler(_runs), timeout=20)
        left = client.run(_files)
        assert not any(left.values()), left


def _limit_files(nbytes: int) -> None:
    """No file of this process may become larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    with (
        dask.config.set(SMALL),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(_make_small)
        victim = next(iter(_pids(client)))
        client.run(_limit_files, 3000, workers=[victim])
        with pytest.raises(ShuffleFailedError, match=f"worker {victim}: .*File too large.* to write, .* free"):
            a_shuffle().compute()
        client.run(_limit_files, resource.RLIM_INFINITY, workers=[victim])
        check(a_shuffle().compute())


def _make_small(dask_worker: Any) -> None:
    dask.config.set(SMALL)


def _files(dask_worker: Any) -> list[str]:
    deadline = time.monotonic() + 10
    while found := list(map(str, Path(dask_worker.local_directory).glob("shuffle-*"))):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return found
