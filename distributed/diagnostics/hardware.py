"""``client.benchmark_hardware()``: bytes a second of the workers' memory, disks and network. Shell."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from typing import Any

from distributed.base.formatting import parse_bytes

MEMORY_SIZES = ("2 kiB", "10 kiB", "100 kiB", "1 MiB", "10 MiB", "100 MiB")
DISK_SIZES = ("1 kiB", "100 kiB", "1 MiB", "10 MiB", "100 MiB")
NETWORK_SIZES = ("1 kiB", "10 kiB", "100 kiB", "1 MiB", "10 MiB", "50 MiB")
_FOR_S = 0.1


async def benchmark(scheduler: Any) -> dict[str, dict[str, float]]:
    """``{"memory" | "disk" | "network": {size: bytes a second}}``, the mean of all workers (network: of pairs)."""
    memory = await scheduler.broadcast(msg={"op": "benchmark_memory"}, on_error="ignore")
    disk = await scheduler.broadcast(msg={"op": "benchmark_disk"}, on_error="ignore")
    workers = list(scheduler.workers)
    pairs = list(zip(workers[::2], workers[1::2], strict=False))
    network = [
        await scheduler.broadcast(msg={"op": "benchmark_network", "address": other}, workers=[one], on_error="ignore")
        for one, other in pairs
    ]
    return {
        "memory": _means(list(memory.values())),
        "disk": _means(list(disk.values())),
        "network": _means([rates for answer in network for rates in answer.values()]),
    }


def _means(answers: list[dict[str, float]]) -> dict[str, float]:
    return {size: statistics.fmean(answer[size] for answer in answers) for size in answers[0]} if answers else {}


async def memory_of_worker(worker: Any) -> dict[str, float]:
    """Copies of blocks of each size."""
    return await asyncio.to_thread(_memory)


def _memory() -> dict[str, float]:
    rates = {}
    for size in MEMORY_SIZES:
        block = os.urandom(min(parse_bytes(size), 1 << 20)) * max(1, parse_bytes(size) >> 20)
        rates[size] = _rate(len(block), lambda block=block: bytearray(block))
    return rates


async def disk_of_worker(worker: Any) -> dict[str, float]:
    """Files of each size written, flushed and read in the worker's local directory."""
    return await asyncio.to_thread(_disk, worker.local_directory)


def _disk(directory: str) -> dict[str, float]:
    rates = {}
    with tempfile.TemporaryDirectory(dir=directory) as place:
        for size in DISK_SIZES:
            block = os.urandom(parse_bytes(size))
            path = os.path.join(place, str(random.randrange(10**9)))

            def write_and_read(block: bytes = block, path: str = path) -> None:
                with open(path, "wb") as file:
                    file.write(block)
                    file.flush()
                    os.fsync(file.fileno())
                with open(path, "rb") as file:
                    file.read()

            rates[size] = _rate(2 * len(block), write_and_read)
    return rates


async def network_of_worker(worker: Any, address: str) -> dict[str, float]:
    """Blocks of each size sent to the worker at ``address`` and back."""
    peer = worker.rpc(address)
    rates = {}
    for size in NETWORK_SIZES:
        block = os.urandom(parse_bytes(size))
        n, begun = 0, time.perf_counter()
        while n < 1 or time.perf_counter() - begun < _FOR_S:
            await peer.echo(data=block)
            n += 1
        rates[size] = 2 * n * len(block) / (time.perf_counter() - begun)
    return rates


def _rate(nbytes: int, call: Any) -> float:
    n, begun = 0, time.perf_counter()
    while n < 1 or time.perf_counter() - begun < _FOR_S:
        call()
        n += 1
    return n * nbytes / (time.perf_counter() - begun)
