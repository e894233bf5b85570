"""What a bad network does to the bytes of one direction of a connection: flips, repeats, stalls and cuts. Pure: no
socket, no clock.

What happens depends on the seed and the offset in the stream, never on how the bytes come in pieces.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

_KEPT_FOR_REPLAY = 64 * 1024


@dataclass(frozen=True)
class Faults:
    """What happens to the bytes of one direction of a link. Offsets count from the first byte of the connection.

    Parameters
    ----------
    delay_s
        Every byte arrives so much later; order is kept.
    bytes_per_s
        At most so many; None: no limit.
    flip_one_in
        About one byte in so many has one of its bits flipped, from ``flip_from`` on; 0: none.
    flip_from
        Offset of the first byte that may be flipped so: what comes before (a handshake) stays as it was.
    flip_at
        Offsets at which a bit is flipped.
    replay
        ``(start, stop)``: those bytes come a second time, right behind ``stop``.
    truncate_at
        The connection ends in order, in both directions, before the byte at this offset.
    reset_at
        The connection is reset there.
    stall_at
        Nothing goes on from there until ``resume``; the connection stays open.
    """

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    flip_one_in: int = 0
    flip_from: int = 0
    flip_at: tuple[int, ...] = ()
    replay: tuple[tuple[int, int], ...] = ()
    truncate_at: int | None = None
    reset_at: int | None = None
    stall_at: int | None = None


@dataclass(frozen=True)
class Script:
    """What happens to the connections through a proxy.

    Parameters
    ----------
    up, down
        Faults towards the target, and back.
    connections
        Numbers of the connections concerned, in order of arrival from 0; None: all. Others pass unharmed.
    """

    up: Faults = field(default_factory=Faults)
    down: Faults = field(default_factory=Faults)
    connections: tuple[int, ...] | None = None

    def for_connection(self, number: int) -> Script:
        """This script, or the empty one."""
        return self if self.connections is None or number in self.connections else Script()


class Cut(Exception):
    """The script ends the connection here."""

    def __init__(self, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Stream:
    """One direction of one link, as far as bytes are concerned: no socket, no clock.

    Parameters
    ----------
    faults
        The part of the script for it.
    seed
        Where the flipped bits come from.
    """

    def __init__(self, faults: Faults, seed: str) -> None:
        self.faults = faults
        self.offset = 0
        self.n_flipped = 0
        self.n_replayed = 0
        self._seed = seed
        self._random = random.Random(seed)
        self._stall_told = False
        self._next_flip = self._draw(faults.flip_from)
        self._last = bytearray()
        self._recording: list[tuple[int, int, bytearray]] = [(a, b, bytearray()) for a, b in faults.replay]

    def _draw(self, begin: int) -> int | None:
        one_in = self.faults.flip_one_in
        return begin + int(self._random.expovariate(1 / one_in)) if one_in else None

    def put(self, data: bytes) -> Iterator[bytes | None]:
        """What leaves for ``data``, piece by piece; None: it stalls here. Raises Cut where the connection ends."""
        while data:
            stop = self._next_stop(len(data))
            piece, data = data[:stop], data[stop:]
            if piece:
                yield self._take(piece)
            again = self._replays()
            if again:
                yield again
            self._maybe_cut()
            if self.faults.stall_at is not None and self.offset >= self.faults.stall_at and not self._stall_told:
                self._stall_told = True
                yield None

    def _next_stop(self, most: int) -> int:
        """How many bytes until something happens that is not a flip."""
        faults = self.faults
        marks = [faults.truncate_at, faults.reset_at, None if self._stall_told else faults.stall_at]
        marks += [b for _, b, _ in self._recording]
        return min([most, *[m - self.offset for m in marks if m is not None and m >= self.offset]])

    def _take(self, piece: bytes) -> bytes:
        begin, end = self.offset, self.offset + len(piece)
        changed = bytearray(piece)
        for at in self.faults.flip_at:
            if begin <= at < end:
                self._flip(changed, at - begin)
        while self._next_flip is not None and self._next_flip < end:
            if self._next_flip >= begin:
                self._flip(changed, self._next_flip - begin)
            self._next_flip = self._draw(self._next_flip + 1)
        for start, stop, kept in self._recording:
            if start < end and begin < stop:
                kept += changed[max(0, start - begin) : stop - begin]
        self._last += changed
        del self._last[:-_KEPT_FOR_REPLAY]
        self.offset = end
        return bytes(changed)

    def _flip(self, data: bytearray, at: int) -> None:
        # Not drawn from the same source as the offsets: what is flipped first depends on how the bytes come.
        data[at] ^= 1 << random.Random(f"{self._seed}/{self.offset + at}").randrange(8)
        self.n_flipped += 1

    def _replays(self) -> bytes:
        due = [kept for _, stop, kept in self._recording if stop == self.offset]
        self._recording = [entry for entry in self._recording if entry[1] != self.offset]
        again = b"".join(due)
        self.n_replayed += len(again)
        return again

    def _maybe_cut(self) -> None:
        if self.faults.reset_at is not None and self.offset >= self.faults.reset_at:
            raise Cut(reset=True)
        if self.faults.truncate_at is not None and self.offset >= self.faults.truncate_at:
            raise Cut(reset=False)

    def last(self, nbytes: int) -> bytes:
        """The last bytes that left (64 kiB are kept)."""
        again = bytes(self._last[-nbytes:])
        self.n_replayed += len(again)
        return again
