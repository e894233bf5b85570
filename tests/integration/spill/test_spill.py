"""Values that go to disk and come back: real files, real processes, disks that are full."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from collections import UserDict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

from distributed import Client, Nanny, Worker, wait
from distributed.testing import async_poll_for, gen_cluster
from distributed.worker.memory import own_nbytes
from tests.integration.faults.small_cluster import events, pids, poll, small_cluster

MIB = 1 << 20
PART = 4 * MIB


def make(i: int, nbytes: int = PART) -> np.ndarray:
    return np.full(nbytes // 8, i, dtype="f8")


def files_of(worker: Any) -> list[Path]:
    storage = Path(worker.local_directory) / "storage"
    return sorted(storage.iterdir()) if storage.exists() else []


def at_rest(*workers: Any) -> bool:
    return not any(worker.state.spilling.leaving for worker in workers)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2)], worker_kwargs={"memory_limit": 64 * MIB})
async def test_what_is_over_the_target_is_on_disk_and_all_of_it_is_used(c: Client, s: Any, a: Worker) -> None:
    """Values are read back by tasks, gathered from disk without coming back, and their files go with them."""
    futures = c.map(make, range(24), pure=False)
    await wait(futures)
    await async_poll_for(lambda: at_rest(a), 10)
    assert sum(v.nbytes for v in a.data.fast.values()) <= 0.6 * 64 * MIB
    assert len(a.data) == 24 and len(a.data.slow) >= 14
    assert len(files_of(a)) == len(a.data.slow)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files_of(a)} == {0o600}
    assert stat.S_IMODE((Path(a.local_directory) / "storage").stat().st_mode) == 0o700
    assert sum(file.nbytes for file in a.data.slow.values()) == a.metrics()["spilled_bytes"]["disk"]
    on_disk = list(a.data.slow)
    values = await c.gather(futures)
    assert [int(value[-1]) for value in values] == list(range(24))
    assert list(a.data.slow) == on_disk
    assert await c.gather(c.map(np.sum, futures, pure=False)) == [i * PART / 8 for i in range(24)]
    await async_poll_for(lambda: at_rest(a), 10)
    assert sum(v.nbytes for v in a.data.fast.values()) <= 0.6 * 64 * MIB
    a.validate_state()
    assert a.state.resident_nbytes <= 0.6 * 64 * MIB
    told = s.workers[a.address]

    def is_told() -> bool:
        a.heart.beat()
        return bool(told.memory.spilled == a.state.spilling.absent_nbytes > 10 * PART)

    await async_poll_for(is_told, 30)
    assert told.memory.managed <= 0.6 * 64 * MIB
    del futures
    await async_poll_for(lambda: not files_of(a), 10)


@gen_cluster(client=True, worker_kwargs={"memory_limit": 64 * MIB})
async def test_a_peer_gets_a_value_from_disk(c: Client, s: Any, a: Worker, b: Worker) -> None:
    futures = c.map(make, range(16), workers=[a.address], pure=False)
    await wait(futures)
    await async_poll_for(lambda: at_rest(a) and len(a.data.slow) > 4, 10)
    key = next(iter(a.data.slow))
    (future,) = [f for f in futures if f.key == key]
    total = await c.submit(np.sum, future, workers=[b.address])
    assert total == futures.index(future) * PART / 8
    assert key in a.data.slow and key in b.data


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], worker_kwargs={"memory_limit": 64 * MIB})
async def test_what_cannot_be_pickled_stays_in_memory(c: Client, s: Any, a: Worker) -> None:
    locks = c.map(lambda i: [threading.Lock(), make(i)], range(6), pure=False)
    others = c.map(make, range(16), pure=False)
    await wait([*locks, *others])
    await async_poll_for(lambda: at_rest(a), 10)
    assert {future.key for future in locks} <= a.data.fast.keys()
    assert len(a.data.slow) >= 10


class Pickled:
    """Can be pickled, but not opened again."""

    def __init__(self) -> None:
        self.data = make(1)

    def __reduce__(self) -> Any:
        return int, ("no number", b"x" * 10_000)

    def __sizeof__(self) -> int:
        return PART


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], worker_kwargs={"memory_limit": 16 * MIB})
async def test_what_cannot_be_opened_again_is_the_error_of_who_needs_it(c: Client, s: Any, a: Worker) -> None:
    bad = c.submit(Pickled)
    await wait(bad)
    rest = c.map(make, range(6), pure=False)
    await wait(rest)
    await async_poll_for(lambda: bad.key in a.data.slow, 10)
    error = await c.submit(type, bad).exception()
    assert type(error).__name__ == "DeserializeError" and "read from disk" in str(error) and bad.key in str(error)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], worker_kwargs={"memory_limit": 32 * MIB})
async def test_a_file_that_is_gone_is_computed_again(c: Client, s: Any, a: Worker) -> None:
    futures = c.map(make, range(12), pure=False)
    await wait(futures)
    await async_poll_for(lambda: at_rest(a) and len(a.data.slow) > 4, 10)
    lost, damaged = list(a.data.slow)[:2]
    os.unlink(a.data.slow[lost].path)
    os.truncate(a.data.slow[damaged].path, 10)
    assert await c.gather(c.map(np.sum, futures, pure=False)) == [i * PART / 8 for i in range(12)]
    values = await c.gather(futures)
    assert [int(value[0]) for value in values] == list(range(12))
    a.validate_state()


@gen_cluster(
    client=True,
    nthreads=[("127.0.0.1", 1)],
    worker_kwargs={"memory_limit": 32 * MIB},
    config={"distributed.worker.memory.max-spill": "13MiB", "distributed.worker.memory.spill-compression": False},
)
async def test_max_spill_is_kept(c: Client, s: Any, a: Worker) -> None:
    futures = c.map(make, range(12), pure=False)
    await wait(futures)
    await async_poll_for(lambda: at_rest(a), 10)
    assert len(a.data.slow) == 3
    assert sum(path.stat().st_size for path in files_of(a)) <= 13 * MIB
    assert await c.gather(c.map(np.sum, futures, pure=False)) == [i * PART / 8 for i in range(12)]


@gen_cluster(
    client=True,
    nthreads=[("127.0.0.1", 1)],
    worker_kwargs={"memory_limit": 32 * MIB},
    config={"distributed.worker.memory.target": False, "distributed.worker.memory.spill": False},
)
async def test_switched_off(c: Client, s: Any, a: Worker) -> None:
    futures = c.map(make, range(12), pure=False)
    await wait(futures)
    assert len(a.data.fast) == 12 and not files_of(a)
    assert a.data.evict() == -1


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], worker_kwargs={"memory_limit": 1024 * MIB})
async def test_evict_by_hand(c: Client, s: Any, a: Worker) -> None:
    first, second = c.submit(make, 1), c.submit(make, 2)
    await wait([first, second])
    assert a.data.evict() >= PART
    await async_poll_for(lambda: list(a.data.slow) == [first.key], 10)
    assert a.data.evict() >= PART
    assert a.data.evict() == -1
    await async_poll_for(lambda: set(a.data.slow) == {first.key, second.key}, 10)
    assert int(a.data[first.key][0]) == 1


@pytest.mark.parametrize("compressed", [False, "auto"])
def test_compression(compressed: Any, private_places: None) -> None:
    @gen_cluster(
        client=True,
        nthreads=[("127.0.0.1", 1)],
        worker_kwargs={"memory_limit": 32 * MIB},
        config={"distributed.worker.memory.spill-compression": compressed},
    )
    async def run(c: Client, s: Any, a: Worker) -> None:
        futures = c.map(make, range(12), pure=False)
        await wait(futures)
        await async_poll_for(lambda: at_rest(a) and len(a.data.slow) > 4, 10)
        size = sum(path.stat().st_size for path in files_of(a)) / len(files_of(a))
        assert size < PART / 10 if compressed else size >= PART
        assert [int(v[0]) for v in await c.gather(futures)] == list(range(12))

    run()


# data=


class OwnMapping(UserDict[Any, Any]):
    """Lets values go when told to."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name
        self.slow: dict[Any, Any] = {}

    def evict(self) -> int:
        if not self.data:
            return -1
        key = next(iter(self.data))
        self.slow[key] = self.data.pop(key)
        return 1

    def __getitem__(self, key: Any) -> Any:
        return self.data[key] if key in self.data else self.slow[key]

    def __contains__(self, key: object) -> bool:
        return key in self.data or key in self.slow


@pytest.mark.parametrize(
    "data",
    [OwnMapping, OwnMapping("ready"), (OwnMapping, {"name": "tuple"}), lambda: OwnMapping("called"), dict, {}],
    ids=["class", "mapping", "tuple", "callable", "dict-class", "dict"],
)
def test_data_argument(data: Any, private_places: None) -> None:
    @gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], worker_kwargs={"data": data, "memory_limit": 8 * MIB})
    async def run(c: Client, s: Any, a: Worker) -> None:
        futures = c.map(make, range(4), pure=False)
        assert await c.gather(c.map(np.sum, futures)) == [i * PART / 8 for i in range(4)]
        assert all(future.key in a.data for future in futures)
        assert isinstance(a.data, OwnMapping) or type(a.data) is dict
        if isinstance(a.data, OwnMapping) and not isinstance(data, OwnMapping):
            assert a.data.name == ("" if data is OwnMapping else "tuple" if isinstance(data, tuple) else "called")
        assert not files_of(a)

    run()


def test_data_that_is_no_mapping() -> None:
    with pytest.raises(TypeError, match="data must be a mapping"):
        Worker("tcp://127.0.0.1:1", data=3)


# processes


def test_three_times_the_limit(tmp_path: Path, cleanup: None, private_places: None) -> None:
    """A worker process holds three times what it may have in memory, and survives; nothing is left on disk."""
    limit = 256 * MIB  # what two tasks allocate is less than there is between pausing and the end
    with small_cluster(1, 2, memory_limit=limit, local_directory=str(tmp_path)) as client:
        before = pids(client)
        futures = client.map(make, range(96), nbytes=8 * MIB, pure=False)
        wait(futures)
        sums = client.map(np.sum, futures, pure=False)
        assert client.gather(sums) == [i * 8 * MIB / 8 for i in range(96)]
        assert pids(client) == before
        assert not events(client, "worker-lost")
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_killed_worker_are_removed(tmp_path: Path, cleanup: None, private_places: None) -> None:
    with small_cluster(1, 1, memory_limit=256 * MIB, local_directory=str(tmp_path)) as client:
        futures = client.map(make, range(24), nbytes=16 * MIB, pure=False)
        wait(futures)
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        assert before
        (pid,) = pids(client).values()
        del futures
        os.kill(pid, signal.SIGKILL)
        poll(lambda: client.submit(os.getpid, pure=False).result() != pid)
        poll(lambda: not any(path.exists() for path in before))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, check=False)
    assert made.returncode == 0, f"this test needs to mount a file system: {made.stderr!r}"
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_loses_nothing_and_is_used_again(tiny_disk: Path, private_places: None) -> None:
    @gen_cluster(
        client=True,
        nthreads=[("127.0.0.1", 1)],
        worker_kwargs={"memory_limit": 32 * MIB, "local_directory": str(tiny_disk)},
        config={"distributed.worker.memory.spill-compression": False},
    )
    async def run(c: Client, s: Any, a: Worker) -> None:
        futures = c.map(make, range(16), pure=False)
        await wait(futures)
        await async_poll_for(lambda: at_rest(a) and a.state.spilling.blocked, 10)
        assert "No space left on device" in a.state.spilling.blocked and "free" in a.state.spilling.blocked
        assert len(a.data.slow) == 5 and len(a.data) == 16
        told = [event for _, event in await c.get_events("memory")]
        assert told[0]["action"] == "disk-takes-no-more" and "No space left" in told[0]["reason"]
        assert [int(v[0]) for v in await c.gather(futures)] == list(range(16))
        await c.cancel([future for future in futures if future.key in a.data.slow])
        await async_poll_for(lambda: len(a.data.slow) >= 3 and at_rest(a), 10)
        a.validate_state()

    run()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], Worker=Nanny, worker_kwargs={"memory_limit": 400 * MIB})
async def test_memory_that_is_no_value_sends_values_to_disk(c: Client, s: Any, a: Any) -> None:
    """The process is what counts: a task that takes much drives values out that alone would be within the target."""
    futures = c.map(make, range(5), nbytes=32 * MIB, pure=False)
    await wait(futures)

    def take(dask_worker: Any) -> int:
        dask_worker.ballast = np.ones(16 * MIB)
        return len(dask_worker.data.slow)

    assert set((await c.run(take)).values()) == {0}

    async def spilled() -> bool:
        return all(n >= 3 for n in (await c.run(lambda dask_worker: len(dask_worker.data.slow))).values())

    while not await spilled():
        pass
    assert [int(v[0]) for v in await c.gather(futures)] == list(range(5))


def test_freed_memory_is_used_again_and_goes_back_at_rest(cleanup: None, private_places: None) -> None:
    def taken() -> int:
        return own_nbytes(os.getpid())

    def work() -> list[int]:
        """Page faults of taking 200 MiB in arrays of 4 MiB, again and again."""
        import resource

        faults = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
        for _ in range(5):
            held = [np.ones(PART // 8) for _ in range(50)]
            assert len(held) == 50
            del held
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        return [after - before for before, after in pairwise(faults)]

    with small_cluster(1, 1, memory_limit=0) as client:
        before = client.run(taken)
        faults = client.submit(work, pure=False).result()
        assert min(faults) * os.sysconf("SC_PAGE_SIZE") < 100 * MIB
        poll(lambda: all(nbytes < before[a] + 50 * MIB for a, nbytes in client.run(taken).items()))


def test_settings_that_make_no_sense() -> None:
    with dask.config.set({"distributed.worker.memory.target": 60}):
        with pytest.raises(ValueError, match=r"memory\.target must be from 0 to 1"):
            Worker("tcp://127.0.0.1:1", memory_limit="1GB")


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], worker_kwargs={"memory_limit": 64 * MIB})
async def test_a_file_that_was_given_up_takes_no_later_value_along(c: Client, s: Any, a: Worker) -> None:
    """A run that was taken back may find the file of an input gone, while another value is there under its key."""
    first = await c.scatter({f"x-{i}": make(i) for i in range(16)})
    await async_poll_for(lambda: at_rest(a) and len(a.data.slow) > 4, 10)
    key, file = next(iter(a.data.slow.items()))
    del first
    await async_poll_for(lambda: not a.data, 10)
    await async_poll_for(lambda: not os.path.exists(file.path), 10)  # the thread that writes removes it
    with pytest.raises(OSError):
        file.open()
    again = await c.scatter({key: make(7)})
    a.executor.on_lost(file, "gone")
    assert key in a.data and a.state.tasks[key].state == "memory"
    assert await c.submit(np.sum, again[key]) == 7 * PART / 8
    a.validate_state()
