"""Conversations of members gone mad: a valid handshake, then messages with changed values in changed order.

``python -m distributed.testing.fuzz_sessions --sessions 10000 --seed 1``. A live scheduler and a live worker in this
process, over real sockets. Each session is one peer that knows the secret: it registers or does not, tells of keys,
runs, workers and clients that exist or do not, asks with arguments that make no sense, sends bytes that are none, and
leaves in the middle. It must be refused, closed, or change what is its own to change; meanwhile an honest client is
served, the scheduler's tables hold together, nothing is logged as an error of the engine, and memory does not grow.

What a client may rightly do to others (end the cluster, run code in it, measure its memory by filling it) is not tried.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import operator
import random
import typing
from collections import Counter
from typing import Any

import dask
import msgspec

from distributed.base import settings
from distributed.client import Client
from distributed.comm import registry
from distributed.messages.control import (
    Applied,
    BatchHeader,
    Refused,
    RegisterClient,
    Registered,
    RegisterNanny,
    RegisterWorker,
    Reply,
    Request,
    SchedulerEnds,
)
from distributed.messages.payload import Payload
from distributed.protocol.codec import LINKS
from distributed.protocol.frames import frame_buffers
from distributed.protocol.plain import dumps_plain
from distributed.rpc.links import codec_for
from distributed.scheduler import Scheduler
from distributed.testing.fuzz import Finding, changed, resident
from distributed.worker import Worker

FAKE = "tcp://127.0.0.1:1"
HONEST_S = 20.0
MOST_GROWTH = 96 << 20
TO_SCHEDULER, TO_WORKER = ("client", "worker", "nanny"), ("client", "worker", "scheduler")
_NEVER = (Applied, Registered, Refused, BatchHeader, SchedulerEnds, RegisterClient, RegisterWorker, RegisterNanny)
_BARE = (RegisterClient, Request, Reply)
RIGHTLY = frozenset(
    """broadcast close close_gracefully drain handover plugin-add plugin-remove plugin_add plugin_remove proxy restart
    restart_workers retire_workers rotate_secret run run_coroutine run_function stop_workers terminate
    upload_file""".split()  # noqa: SIM905
)
_POLITE = (0, 1, 2, 3, 4, 5, 8, 13, 255, 2**31)
_NUMBERS = (0, 1, 2, 3, -1, 255, 2**31, 2**62, -(2**62))
_FLOATS = (0.0, 1.0, -1.0, 1e300, float("nan"), float("inf"))


class Mind:
    """What a mad peer says next: typed as it should be, with values of its own choice."""

    def __init__(self, rng: random.Random, worker: str) -> None:
        self.rng = rng
        # Who says nothing that no decoder takes gets further.
        polite = rng.random() < 0.7
        self.polite = polite
        self.numbers = _POLITE if polite else _NUMBERS
        self.floats = (0.0, 0.5, 1.0, 1e9) if polite else _FLOATS
        self.texts = ("x-1", "x-2", "y", "", "other", FAKE, worker, "memory", "running", "paused", "\0", "ü" * 300)

    def value(self, kind: Any, depth: int = 0) -> Any:
        """Some value of a type that a message has as a field."""
        rng, origin, args = self.rng, typing.get_origin(kind), typing.get_args(kind)
        if kind is Any or depth > 4:
            return rng.choice((None, 1, "x", [1], {"a": {}}, -1, 1.5))
        if kind in (str, int, float, bool, bytes):
            return {
                str: rng.choice(self.texts),
                int: rng.choice(self.numbers),
                float: rng.choice(self.floats),
                bool: rng.random() < 0.5,
                bytes: rng.randbytes(rng.randrange(40)),
            }[kind]
        if kind is Payload:
            return Payload(rng.randbytes(rng.randrange(40)))
        if origin is list:
            return [self.value(args[0], depth + 1) for _ in range(rng.randrange(4))]
        if origin is dict:
            return {self.value(args[0], depth + 1): self.value(args[1], depth + 1) for _ in range(rng.randrange(3))}
        if origin is tuple:
            kinds = [args[0]] * rng.randrange(4) if args[-1] is Ellipsis else args
            return tuple([self.value(one, depth + 1) for one in kinds])
        if origin is typing.Annotated:
            return self.value(args[0], depth)
        if args:
            return self.value(rng.choice(args), depth)
        if kind is type(None):
            return None
        return self.message(kind, depth + 1) if hasattr(kind, "__struct_fields__") else "x"

    def message(self, kind: Any, depth: int = 0) -> Any:
        """Some message of this type."""
        hints = typing.get_type_hints(kind)
        return kind(**{name: self.value(hints[name], depth) for name in kind.__struct_fields__})

    def question(self, ops: list[str], number: int) -> Request:
        """Some question, with arguments of its own invention."""
        rng = self.rng
        names = ("keys", "key", "workers", "worker", "name", "timeout", "n", "data", "topic", "client", "x")
        kwargs = {rng.choice(names): self.value(Any) for _ in range(rng.randrange(4))}
        return Request(number, rng.choice((*ops, "__class__", "no-such-op", "")), dumps_plain(kwargs))


class Listening(logging.Handler):
    """Keeps what the engine says of errors of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], ValueError):
            return  # a refusal: what was said makes no sense
        self.lines.append(
            f"{record.name}: {record.getMessage()}" + (f": {record.exc_info[1]!r}" if record.exc_info else "")
        )


def first_words(mind: Mind, role: str, number: int) -> list[Any]:
    """A registration that is good, mostly."""
    if mind.rng.random() < 0.15:
        return []
    if role == "client":
        return [RegisterClient(f"mad-{number}", {}, "mad")]
    if role == "nanny":
        return [RegisterNanny(f"tcp://127.0.0.1:{1 + number % 5}", f"mad-{number}")]
    return [RegisterWorker(f"tcp://127.0.0.1:{1 + number % 5}", f"mad-{number}", "127.0.0.1", 1, 10**9)]


async def session(address: str, peer: str, role: str, ops: list[str], mind: Mind, number: int) -> str:
    """One conversation; how it ended."""
    rng = mind.rng
    comm: Any = await registry.connect(address, 10, role=role, shortcuts=False)
    codec = codec_for(role, peer)
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    comm.start(lambda batch: None, ended.set_result, codec)
    kinds = typing.get_args(LINKS.get(f"{role}_to_{peer}", LINKS["control"]))
    if mind.polite:
        kinds = tuple([kind for kind in kinds if kind not in _NEVER]) or kinds
    said = first_words(mind, role, number) if peer == "scheduler" else []
    said += [
        mind.question(ops, i) if rng.random() < 0.3 else mind.message(rng.choice(kinds))
        for i in range(rng.randrange(1, 20))
    ]
    if rng.random() < 0.2:
        rng.shuffle(said)
    n_numbered = 0
    try:
        for message in said:
            if comm.closed:
                break
            batch = [message]
            if mind.polite and role == "client" and peer == "scheduler" and type(message) not in _BARE:
                n_numbered += 1
                batch = [BatchHeader(n_numbered, 1, 0), message]
            with contextlib.suppress(TypeError, ValueError, OverflowError, msgspec.MsgspecError):
                comm.send(batch)
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        if rng.random() < 0.2 and not comm.closed:
            frame = b"".join(bytes(b) for b in frame_buffers([rng.randbytes(50)], 0)[0])
            with contextlib.suppress(OSError):
                comm._sock.send(changed(frame, frame, rng))
        await asyncio.wait([ended], timeout=rng.choice((0.0, 0.01, 0.05)))
        return "refused" if ended.done() else "left"
    finally:
        comm.abort()


async def run(n_sessions: int, seed: int) -> Counter[str]:
    """Hold so many conversations; how they ended, by role and peer.

    Raises
    ------
    Finding
        The honest client was not served, the tables contradict themselves, the engine has logged an error of its own,
        somebody is left over, or there is much more memory in use.
    """
    settings.register()
    outcomes: Counter[str] = Counter()
    ear = Listening()
    logging.getLogger("distributed").addHandler(ear)
    graces = {"distributed.scheduler.worker-grace": "0s", "distributed.scheduler.client-grace": "0s"}
    try:
        with dask.config.set(graces):
            async with Scheduler(port=0, host="127.0.0.1", dashboard=False, validate=True) as s:
                async with Worker(s.address, host="127.0.0.1", nthreads=1, name="honest") as w:
                    async with Client(s.address, asynchronous=True, set_as_default=False) as c:
                        await _converse(n_sessions, seed, s, w, c, ear, outcomes)
    finally:
        logging.getLogger("distributed").removeHandler(ear)
    return outcomes


async def _converse(
    n_sessions: int, seed: int, s: Scheduler, w: Worker, c: Client, ear: Listening, outcomes: Counter[str]
) -> None:
    before = 0
    for number in range(n_sessions):
        rng = random.Random(seed << 40 | number)
        target, peer, roles = (s, "scheduler", TO_SCHEDULER) if rng.randrange(4) else (w, "worker", TO_WORKER)
        role = rng.choice(roles)
        ops = sorted(op for op in target.handlers if op not in RIGHTLY and not op.startswith("benchmark"))
        ended = await session(target.address, peer, role, ops, Mind(rng, w.address), number)
        outcomes[f"{role} to {peer}: {ended}"] += 1
        if number % 10 == 9 or number == n_sessions - 1:
            await _check(f"seed {seed}, up to session {number}", s, w, c, ear)
        if number == min(200, n_sessions // 2):
            before = resident()
    if resident() - before > MOST_GROWTH:
        raise Finding(f"seed {seed}: {(resident() - before) >> 20} MiB more in memory, after {n_sessions} sessions")


def _strangers(s: Scheduler) -> list[str]:
    """Who is there besides the honest ones."""
    return [*list(s.workers)[1:], *[client for client in s.clients if client.startswith("mad")]]


async def _check(where: str, s: Scheduler, w: Worker, c: Client, ear: Listening) -> None:
    try:
        async with asyncio.timeout(HONEST_S):
            served = await c.submit(operator.add, 1, 2, pure=False, workers=[w.address])
            await s.shell.conditions.wait(lambda: not _strangers(s))
    except TimeoutError:
        raise Finding(
            f"{where}: not served within {HONEST_S:g} s; {s!r}, {list(s.workers)}, {list(s.clients)}"
        ) from None
    if served != 3:
        raise Finding(f"{where}: 1 + 2 is {served}")
    s.validate_state()
    if ear.lines:
        raise Finding(f"{where}: " + "\n".join(ear.lines))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name, count in sorted(asyncio.run(run(given.sessions, given.seed)).items()):
        print(f"{count:>8}  {name}")
    print(f"{resident() >> 20} MiB")


if __name__ == "__main__":
    main()
