"""What the jobs of a chaos run have workers do. Plain functions with results that can be reckoned beforehand."""

from __future__ import annotations

import ctypes
import os
import time
import zlib
from collections.abc import Sequence
from typing import Any

from distributed.client import worker_client
from distributed.coordination import Lock, Queue

__all__ = [
    "Counter",
    "add",
    "blob",
    "checksum",
    "chunk",
    "exit_process",
    "fail",
    "flaky",
    "hold_gil",
    "in_turn",
    "inc",
    "nested_sum",
    "pause",
    "pick",
    "put",
    "split",
    "total",
]


class ExpectedFailure(Exception):
    """What a task raises that is to fail."""


def inc(x: int) -> int:
    return x + 1


def add(x: int, y: int) -> int:
    return x + y


def total(parts: Sequence[int]) -> int:
    return sum(parts)


def pause(x: int, seconds: float) -> int:
    time.sleep(seconds)
    return x


def hold_gil(x: int, seconds: float) -> int:
    """Keep every other thread of the process from running, as badly written extension modules do."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return x


def blob(seed: int, nbytes: int) -> bytes:
    """Bytes that do not compress to nothing, the same for the same seed."""
    pattern = b"".join(zlib.crc32(b"%d:%d" % (seed, i)).to_bytes(4, "big") for i in range(256))
    return (pattern * (nbytes // len(pattern) + 1))[:nbytes]


def checksum(*parts: bytes) -> int:
    """One number for any number of blobs."""
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found


def chunk(index: int, n_out: int) -> list[list[int]]:
    """Input ``index`` of a shuffle, cut by the remainder of its numbers."""
    numbers = range(index * 100, index * 100 + 100)
    return [[x for x in numbers if x % n_out == out] for out in range(n_out)]


def pick(cut: list[list[int]], out: int) -> list[int]:
    return cut[out]


def split(*parts: list[int]) -> list[int]:
    """One output of a shuffle."""
    return sorted(x for part in parts for x in part)


def fail(x: int) -> int:
    raise ExpectedFailure(f"told to fail: {x}")


def exit_process(code: int) -> None:
    """End the worker's process without a word."""
    os._exit(code)


def flaky(path: str, n_failures: int, value: int) -> int:
    """Fail in the first ``n_failures`` runs; a file that all workers see counts them."""
    with open(path, "ab") as file:
        file.write(b".")
    if os.path.getsize(path) <= n_failures:
        raise ExpectedFailure("not yet")
    return value


def nested_sum(n: int) -> Any:
    """A task that submits tasks and waits for them."""
    with worker_client() as client:
        return sum(client.gather(client.map(inc, range(n), pure=False)))


class Counter:
    """An actor."""

    def __init__(self) -> None:
        self.n = 0

    def increment(self) -> int:
        self.n += 1
        return self.n


def in_turn(x: int, lock: str) -> int:
    """One task at a time; when its worker dies inside, the next one must get its turn all the same."""
    with Lock(lock):
        time.sleep(0.01)
    return x


def put(x: int, queue: str) -> None:
    """Into a queue that all share."""
    Queue(queue).put(x)
