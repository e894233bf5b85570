"""Large values between the processes of one machine: one copy in all, right by content, gone with the last user."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import platform
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from distributed import Client, LocalCluster, wait

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")
MB = 1 << 20
FILES = 2
"""Of a large value, which two threads write."""


def files(pid: int | str = "self") -> int:
    """How many files of shared values the process has mapped."""
    gc.collect()
    with open(f"/proc/{pid}/maps") as f:
        return sum("memfd:distributed-value" in line for line in f)


def until(fact: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not fact():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)


def make(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, n, "u1")


def spoil(array: np.ndarray) -> int:
    array[:] = 0
    return int(array.sum())


def total(array: np.ndarray) -> int:
    return int(array.sum(dtype="u8"))


def spoiled(array: np.ndarray) -> np.ndarray:
    array[: MB // 2] = 7
    return array


def no_large_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB // 4, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def client() -> Iterator[Client]:
    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with LocalCluster(n_workers=2, processes=True, **options) as cluster, Client(cluster) as client:
        yield client
        for pid in client.run(os.getpid).values():
            with open(f"/proc/{pid}/maps") as f:
                assert "/dev/shm/" not in f.read()


def test_200_mb_are_right_wherever_they_go(client: Client) -> None:
    a, b = client.scheduler_info()["workers"]
    value = make(200 * MB, 1)
    there = client.scatter(value, workers=[a], hash=False)
    want = total(value)
    assert client.submit(total, there, workers=[b], pure=False).result() == want
    assert client.submit(total, there, workers=[a], pure=False).result() == want
    back = there.result()
    assert (back == value).all() and back.flags.writeable
    made = client.submit(make, 200 * MB, 1, workers=[b])
    assert client.submit(total, made, workers=[a], pure=False).result() == want
    assert (made.result() == value).all()


def test_broadcast_is_one_copy(client: Client) -> None:
    pids = client.run(os.getpid).values()
    value = make(64 * MB, 2)
    before = [files(pid) for pid in pids]
    there = client.scatter(value, broadcast=True, hash=False)
    workers = list(client.scheduler_info()["workers"])
    sums = [client.submit(total, there, workers=[w], pure=False).result() for w in workers]
    assert sums == [total(value)] * 2
    assert [files(pid) for pid in pids] == [n + FILES for n in before]
    inodes = set()
    for pid in pids:
        with open(f"/proc/{pid}/maps") as f:
            inodes |= {line.split()[4] for line in f if "memfd:distributed-value" in line}
    assert len(inodes) == FILES
    del there
    until(lambda: [files(pid) for pid in pids] == before)


def test_a_worker_imports_what_it_will_need_while_the_value_is_on_its_way(client: Client) -> None:
    a, b = client.scheduler_info()["workers"]
    has_numpy = "'numpy' in __import__('sys').modules"
    client.scatter(np.arange(10), workers=[a], hash=False)
    assert client.run(eval, has_numpy) == {a: False, b: False}
    there = client.scatter(make(MB, 4), workers=[a], hash=False)
    until(lambda: client.run(eval, has_numpy)[a])
    assert there.type is np.ndarray and not client.run(eval, has_numpy)[b]


def test_what_a_task_writes_into_its_input_nobody_else_sees(client: Client) -> None:
    a, b = client.scheduler_info()["workers"]
    value = make(8 * MB, 3)
    there = client.scatter(value, broadcast=True, hash=False)
    assert client.submit(spoil, there, workers=[a], pure=False).result() == 0
    assert client.submit(total, there, workers=[b], pure=False).result() == total(value)
    mine = client.submit(make, 8 * MB, 3, workers=[a]).result()
    mine[:] = 0
    assert client.submit(total, client.submit(make, 8 * MB, 3, workers=[a]), workers=[b]).result() == total(value)


def test_a_result_that_is_a_changed_input_is_sent_as_it_is(client: Client) -> None:
    a, b = client.scheduler_info()["workers"]
    value = make(8 * MB, 4)
    there = client.scatter(value, workers=[b], hash=False)
    changed = client.submit(spoiled, there, workers=[a], pure=False)
    want = spoiled(value.copy())
    assert client.submit(total, changed, workers=[b], pure=False).result() == total(want)
    assert (changed.result() == want).all()


def test_a_client_reads_a_large_result_where_it_lies_and_maps_it_the_second_time(client: Client) -> None:
    a, _ = client.scheduler_info()["workers"]
    here = files()
    made = client.submit(make, 40 * MB, 9, workers=[a])
    want = make(40 * MB, 9)
    first = made.result()
    assert (first == want).all() and first.flags.writeable
    first[:] = 0
    assert files() == here  # it was copied, and nobody else has it
    second = made.result()
    assert (second == want).all()
    assert files() == here + FILES


@pytest.mark.parametrize("victim", ["producer", "consumer"])
def test_a_process_that_is_killed_takes_nothing_along_and_leaves_nothing(client: Client, victim: str) -> None:
    pids = client.run(os.getpid)
    a, b = pids
    here = files()
    made = client.submit(make, 16 * MB, 5, workers=[a], allow_other_workers=True)
    used = client.submit(total, made, workers=[b], allow_other_workers=True)
    value = made.result()
    assert used.result() == total(value)
    want = make(16 * MB, 5)
    dead = a if victim == "producer" else b
    os.kill(pids[dead], signal.SIGKILL)
    assert (value == want).all()
    wait([made, used])
    assert (made.result() == want).all()
    del made, used, value
    until(lambda: files() == here)
    until(lambda: dead not in client.nthreads())  # until then a call may still go to the process that was killed
    until(lambda: all(files(pid) == 0 for pid in client.run(os.getpid).values()))


def test_without_room_for_it_values_are_copied(client: Client) -> None:
    a, b = client.scheduler_info()["workers"]
    client.run(no_large_files)
    made = client.submit(make, 8 * MB, 6, workers=[a])
    assert client.submit(total, made, workers=[b]).result() == total(make(8 * MB, 6))
    pids = client.run(os.getpid).values()
    assert [files(pid) for pid in pids] == [0, 0]


def forbid_reading() -> None:
    """What a container may do: ``process_vm_readv`` is not permitted in any thread of this process."""
    number, seccomp = {"x86_64": (310, 317), "aarch64": (270, 277)}[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    steps = [
        (load, 0, 0, 0),
        (equal, 0, 1, number),
        (answer, 0, 0, 0x00050000 | errno.EPERM),
        (answer, 0, 0, 0x7FFF0000),
    ]
    program = ctypes.create_string_buffer(b"".join([struct.pack("HBBI", *step) for step in steps]))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    assert libc.syscall(seccomp, 1, 1, head) == 0, os.strerror(ctypes.get_errno())


def n_lent(dask_worker: Any) -> int:
    return len(dask_worker.data_service.loans)


def test_a_value_that_a_task_made_is_read_by_the_first_and_shared_with_all_others(client: Client) -> None:
    a, b = client.scheduler_info()["workers"]
    pids = client.run(os.getpid)
    made = client.submit(make, 40 * MB, 7, workers=[a])
    want = total(make(40 * MB, 7))
    assert client.submit(total, made, workers=[b], pure=False).result() == want
    assert [files(pid) for pid in pids.values()] == [0, 0]
    assert set(client.run(n_lent).values()) == {0}
    another = client.submit(make, 40 * MB, 8, workers=[a])
    assert total(another.result()) == total(another.result()) == total(make(40 * MB, 8))
    assert files(pids[a]) == FILES
    until(lambda: set(client.run(n_lent).values()) == {0})


def test_where_reading_is_forbidden_values_are_shared(client: Client) -> None:
    a, b = client.scheduler_info()["workers"]
    client.run(forbid_reading)
    made = client.map(make, [40 * MB] * 2, [9, 10], workers=[a])
    sums = client.map(total, made, workers=[b], pure=False)
    assert client.gather(sums) == [total(make(40 * MB, seed)) for seed in (9, 10)]
    assert sum(files(pid) for pid in client.run(os.getpid).values()) >= 2  # one of two copies may be dropped
    assert set(client.run(n_lent).values()) == {0}


@pytest.mark.parametrize("victim", ["holder", "asker"])
def test_one_of_the_two_is_killed_while_values_are_read(client: Client, victim: str) -> None:
    pids = client.run(os.getpid)
    a, b = pids
    made = client.map(make, [32 * MB] * 4, range(4), workers=[a], allow_other_workers=True)
    wait(made)
    sums = client.map(total, made, workers=[b], pure=False, allow_other_workers=True)
    os.kill(pids[a if victim == "holder" else b], signal.SIGKILL)
    assert client.gather(sums) == [total(make(32 * MB, seed)) for seed in range(4)]
    until(lambda: set(client.run(n_lent).values()) == {0})


def test_released_values_give_their_memory_back(client: Client) -> None:
    pids = client.run(os.getpid).values()
    here = files()
    for i in range(10):
        futures = client.map(make, [MB] * 10, range(10 * i, 10 * i + 10))
        values = client.gather(futures)
        assert [v[0] for v in values] == [make(MB, s)[0] for s in range(10 * i, 10 * i + 10)]
    del futures, values
    until(lambda: files() == here and all(files(pid) == 0 for pid in pids))
