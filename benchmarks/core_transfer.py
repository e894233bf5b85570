"""Cost of moving values between two processes of one machine, without a cluster: where the time of each stage goes.

Run ``python -m benchmarks.core_transfer``. One value of 64 MiB (through a socket, and through shared memory), and ten
thousand arrays of 10 kB in one answer. The best of five rounds is printed, in CPU time of this process.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from distributed.messages.control import Control, Reply
from distributed.messages.payload import Payload
from distributed.protocol import shared_memory
from distributed.protocol.codec import Codec
from distributed.protocol.frames import FrameReader, frame_buffers
from distributed.protocol.plain import dumps_plain, loads_plain
from distributed.protocol.serialize import dumps, loads
from distributed.protocol.sizeof import sizeof

ROUNDS = 5
MIB = 1 << 20


def best(call: Callable[[], Any]) -> tuple[float, Any]:
    """The least CPU seconds of a round, and what ``call`` gave."""
    seconds = []
    result: Any = None
    for _ in range(ROUNDS):
        result = None
        start = time.thread_time()
        result = call()
        seconds.append(time.thread_time() - start)
    return min(seconds), result


def through_socket(buffers: list[memoryview], reader: FrameReader) -> list[Any]:
    """The frame, read by ``reader`` from a unix socket into which another thread writes."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)

    def write() -> None:
        for i in range(0, len(buffers), 512):
            left = [view for view in buffers[i : i + 512] if view.nbytes]
            while left:
                n = theirs.sendmsg(left)
                while left and n >= left[0].nbytes:
                    n -= left.pop(0).nbytes
                if left:
                    left[0] = left[0][n:]

    writer = threading.Thread(target=write)
    writer.start()
    scratch = memoryview(bytearray(256 * 1024))
    frames: list[Any] = []
    while not frames:
        target = reader.target()
        n = ours.recv_into(scratch if target is None else target)
        frames = reader.feed(scratch[:n]) if target is None else reader.filled(n)
    writer.join()
    ours.close()
    theirs.close()
    return list(frames[0].segments)


def report(name: str, seconds: float, nbytes: int, n: int = 1) -> None:
    """One line."""
    print(f"{name:44} {seconds / n * 1e6:10.2f} us/value {nbytes / MIB / seconds:9.0f} MiB/s")


def one_large(nbytes: int) -> None:
    """A value of ``nbytes``, made by a task, on its way to another process."""
    value = np.full(nbytes, 1, "u1")
    payload = dumps(value)
    seconds, _ = best(lambda: through_socket(frame_buffers([b"x", *payload.attached.buffers])[0], FrameReader()))
    report("large: read from a socket into fresh memory", seconds, nbytes)
    seconds, shared = best(lambda: shared_memory.share(dumps(value)))
    report("large: written to shared memory", seconds, nbytes)
    seconds, opened = best(lambda: loads(shared))
    report("large: opened", seconds, nbytes)
    seconds, _ = best(lambda: int(opened[::4096].sum()))
    report("large: every page read", seconds, nbytes)
    seconds, _ = best(lambda: shared_memory.locate(shared.attached.buffers[0]))
    report("large: found unchanged, to be sent on", seconds, nbytes)


def many_small(n: int, nbytes: int) -> None:
    """``n`` arrays of ``nbytes`` in one answer, stage by stage."""
    values = {f"make-{i}": np.full(nbytes, i % 200, "u1") for i in range(n)}
    total = n * nbytes
    codec = Codec(Control)

    def step(name: str, call: Callable[[], Any]) -> Any:
        seconds, result = best(call)
        report(f"small: {name}", seconds, total, n)
        return result

    payloads: dict[str, Payload] = step("pickled", lambda: {key: dumps(value) for key, value in values.items()})
    step("sizes of the payloads", lambda: sum(p.nbytes for p in payloads.values()))
    step("sizeof the values", lambda: [sizeof(v) for v in values.values()])
    body = step("put into an answer", lambda: dumps_plain(payloads))
    segments = step("encoded", lambda: codec.encode([Reply(1, body)]))
    buffers, _ = step("framed", lambda: frame_buffers(segments))
    received = step("read from a socket", lambda: through_socket(buffers, FrameReader()))
    (reply,) = step("decoded", lambda: codec.decode(received))
    answer = step("taken out of the answer", lambda: loads_plain(reply.body))
    step("opened", lambda: [loads(payload) for payload in answer.values()])


def main() -> None:
    """Print a line for each stage."""
    one_large(64 * MIB)
    many_small(10_000, 10_000)


if __name__ == "__main__":
    main()
