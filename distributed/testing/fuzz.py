"""Changed bytes against all that reads bytes of peers: the frame reader, the codec of each link, the handshake.

``python -m distributed.testing.fuzz --mutations 10000000 --seed 1`` (``make fuzz``). Whatever comes must end in a
frame, in patience, or in an error that closes the connection: no other end, nothing slow, no memory. Deterministic by
its seed; a finding names the seed and number, by which ``--only`` repeats it.
"""

from __future__ import annotations

import argparse
import random
import time
import typing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from distributed.base.errors import CommClosedError
from distributed.comm.handshake import InitiatorHandshake, ListenerHandshake
from distributed.comm.keys import Secret
from distributed.messages.payload import Attached, Payload
from distributed.protocol.codec import LINKS, Codec
from distributed.protocol.frames import FrameReader, frame_buffers

MOST_BYTES = 1 << 20
MOST_SECONDS = 1.0
_SECRET = Secret(bytes(32))
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_REFUSALS = (CommClosedError, msgspec.MsgspecError, ValueError, TypeError, OverflowError)
Target = Callable[[bytes, random.Random], None]


class Finding(AssertionError):
    """Bytes that were answered in a way that they should not be."""


def sample(kind: Any, depth: int = 0) -> Any:
    """A value of a type that a message has as a field."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    simple = {Any: {"a": [1, None]}, bytes: b"bytes", str: "text", int: 12345, float: 1.5, bool: True}
    if kind in simple:
        return simple[kind]
    if kind is Payload:
        return Payload(b"data", Attached([bytearray(b"beside")]))
    if origin is list:
        return [sample(args[0], depth)]
    if origin is dict:
        return {"k": sample(args[1], depth)}
    if origin is tuple:
        return (sample(args[0], depth),) if args[-1] is Ellipsis else tuple([sample(arg, depth) for arg in args])
    if type(None) in args:
        return sample(next(arg for arg in args if arg is not type(None)), depth)
    if args:  # the union of a key
        return ("x", 0)
    hints = typing.get_type_hints(kind)
    return kind(**{name: sample(hints[name], depth + 1) for name in kind.__struct_fields__})


def recorded() -> list[tuple[str, bool, bytes]]:
    """``(link, checked, stream)`` of good frames: each message of each link alone, and all together."""
    found = []
    for link, union in LINKS.items():
        codec = Codec(union)
        kinds = typing.get_args(union) or (union,)
        messages = [sample(kind) for kind in kinds]
        for batch in [*[[message] for message in messages], messages]:
            segments = codec.encode(batch)
            for checked in (False, True):
                buffers = frame_buffers(segments, 0, checked=checked)[0]
                found.append((link, checked, b"".join(bytes(buffer) for buffer in buffers)))
    return found


def changed(stream: bytes, other: bytes, rng: random.Random) -> bytes:
    """The stream with one to four changes, each of one of six kinds."""
    data = bytearray(stream)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(6)
        if what == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice(_EXTREMES) & ((1 << 8 * size) - 1)
            data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))
        elif what == 2:
            del data[at : at + rng.randint(1, 16)]
        elif what == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 16))
        elif what == 4:
            start = rng.randrange(len(other))
            data[at:at] = other[start : start + rng.randint(1, 64)]
        else:
            data[at : at + 32] = data[at : at + 32] * rng.randint(2, 8)
    return bytes(data)


def read_frames(link: str, checked: bool) -> Target:
    """What a comm does with bytes."""
    codec = Codec(LINKS[link])

    def target(data: bytes, rng: random.Random) -> None:
        reader = FrameReader(MOST_BYTES, checked=checked)
        view = memoryview(bytearray(data))
        while view:
            size = min(len(view), rng.randint(1, len(data)))
            room = reader.target()
            if room is None:
                frames = reader.feed(view[:size])
            else:
                size = min(size, len(room))
                room[:size] = view[:size]
                frames = reader.filled(size)
            view = view[size:]
            for frame in frames:
                codec.decode(frame.segments)

    return target


def shake_hands(machine: Callable[[], Any]) -> Target:
    """What an acceptor, or who connects, does with bytes."""

    def target(data: bytes, rng: random.Random) -> None:
        one = machine()
        while data and one.wanted and one.error is None and not one.done:
            size = min(one.wanted, rng.randint(1, 64))
            one.feed(data[:size])
            data = data[size:]
        if one.done:
            raise Finding("changed bytes have passed the handshake")

    return target


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(n_mutations: int, seed: int, only: int | None = None) -> Counter[str]:
    """Try so many; how each ended, by name.

    Raises
    ------
    Finding
        An error of a kind that there should not be, more than a second, or more than 64 MiB of growth.
    """
    all_streams = recorded()
    streams = [[one for one in all_streams if one[1] is checked] for checked in (False, True)]
    targets = {(link, checked): read_frames(link, checked) for link in LINKS for checked in (False, True)}
    listener = shake_hands(lambda: ListenerHandshake("scheduler", _SECRET))
    initiator = shake_hands(lambda: InitiatorHandshake("client", lambda _: _SECRET))
    hello = bytes(InitiatorHandshake("client", lambda _: _SECRET).outgoing)
    outcomes: Counter[str] = Counter()
    before = 0
    for number in range(n_mutations) if only is None else [only]:
        rng = random.Random(seed << 40 | number)
        # Checksums refuse nearly all: what is behind them is tried where there are none.
        link, checked, stream = rng.choice(streams[not rng.randrange(8)])
        if rng.randrange(16):
            target, data = targets[link, checked], changed(stream, rng.choice(streams[0])[2], rng)
        else:
            target, data = rng.choice((listener, initiator)), changed(hello, stream, rng)
        begin = time.thread_time()
        try:
            target(data, rng)
            outcomes["taken, or waited for more"] += 1
        except _REFUSALS as error:
            outcomes[type(error).__name__] += 1
        except BaseException as error:
            raise Finding(f"seed {seed}, number {number}: {type(error).__name__}: {error}") from error
        if time.thread_time() - begin > MOST_SECONDS:
            raise Finding(f"seed {seed}, number {number}: {time.thread_time() - begin:.1f} s")
        if number == 1000:
            before = resident()
        if before and not number % 10_000 and resident() - before > 64 << 20:
            raise Finding(f"seed {seed}, up to number {number}: {resident() - before} bytes more in memory")
    return outcomes


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    begin = time.process_time()
    outcomes = run(given.mutations, given.seed, given.only)
    print(f"{sum(outcomes.values())} in {time.process_time() - begin:.1f} s of processor time, {resident() >> 20} MiB")
    for name, count in outcomes.most_common():
        print(f"{count:>12}  {name}")


if __name__ == "__main__":
    main()
