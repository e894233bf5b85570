"""Cost of the wire alone: microseconds to encode and decode one message, in batches of one and of a hundred.

Run ``python -m benchmarks.core_codec``. The median of five rounds is printed.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from distributed.messages.client_to_scheduler import TaskSpec, UpdateGraph
from distributed.messages.payload import Payload
from distributed.messages.scheduler_to_client import KeyInMemory
from distributed.messages.scheduler_to_worker import ComputeTask, TaskNeed
from distributed.messages.worker_to_scheduler import TaskFinished
from distributed.protocol.codec import LINKS, Codec
from distributed.protocol.serialize import dumps, loads

ROUNDS = 5
ARGUMENTS = b"\x80\x05K\x01\x85\x94."
RESULT = Payload(b"\x80\x05K\x01.")
NEED = (TaskNeed("inc-0", ("tcp://10.0.0.1:1",), 28),)
Make = Callable[[int], Any]
MESSAGES: dict[str, tuple[str, Make]] = {
    "ComputeTask": (
        "scheduler_to_worker",
        lambda i: ComputeTask(f"inc-{i}", i, (0.0, 0.0, i), b"d" * 16, ARGUMENTS, (), 1e-5, True),
    ),
    "ComputeTask, one need": (
        "scheduler_to_worker",
        lambda i: ComputeTask(f"inc-{i}", i, (0.0, 0.0, i), b"d" * 16, ARGUMENTS, NEED, 1e-5),
    ),
    "TaskFinished": ("worker_to_scheduler", lambda i: TaskFinished(f"inc-{i}", i, 28, 1e-5, "int", RESULT, 1e9, 1)),
    "KeyInMemory": ("scheduler_to_client", lambda i: KeyInMemory(f"inc-{i}", "int", RESULT)),
}


def microseconds(call: Callable[[], Any], n: int) -> float:
    """Median over the rounds of the time of one of ``n`` messages."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        rounds.append((time.perf_counter() - start) / n * 1e6)
    return statistics.median(rounds)


def measure(codec: Codec, make: Make, n: int, batch: int) -> tuple[float, float, float]:
    """Microseconds to encode and to decode a message, and its bytes, when ``batch`` of them travel together."""
    batches = [[make(i) for i in range(start, start + batch)] for start in range(0, n, batch)]
    frames = [codec.encode(messages) for messages in batches]
    size = sum([len(segment) for frame in frames for segment in frame]) / n
    encoding = microseconds(lambda: [codec.encode(messages) for messages in batches], n)
    decoding = microseconds(lambda: [codec.decode(frame) for frame in frames], n)
    return encoding, decoding, size


def main() -> None:
    """Print a line for each message and size of batch."""
    n = int(next((a for a in sys.argv[1:] if a.isdigit()), "20000"))
    for name, (link, make) in MESSAGES.items():
        for batch in (1, 100):
            encoding, decoding, size = measure(Codec(LINKS[link]), make, n, batch)
            print(f"{name:24} x{batch:<4} encode {encoding:6.3f}  decode {decoding:6.3f} us/message  {size:5.0f} bytes")
    call = ((1, "a"), {"k": 2.0})
    pickling = microseconds(lambda: [dumps(call) for _ in range(n)], n)
    payload = dumps(call)
    opening = microseconds(lambda: [loads(payload) for _ in range(n)], n)
    print(f"{'arguments of a call':24} x1    pickle {pickling:6.3f}  open   {opening:6.3f} us/call")
    specs = [TaskSpec(f"inc-{i}", b"d" * 16, ARGUMENTS) for i in range(n)]
    codec = Codec(LINKS["client_to_scheduler"])
    graph = [UpdateGraph(1, specs)]
    frames = codec.encode(graph)
    encoding, decoding = microseconds(lambda: codec.encode(graph), n), microseconds(lambda: codec.decode(frames), n)
    print(f"{'UpdateGraph':24} x{n} encode {encoding:6.3f}  decode {decoding:6.3f} us/task")


if __name__ == "__main__":
    main()
