"""What strangers cost a scheduler that is a program of its own: ``benchmarks.attacks``, with limits."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from benchmarks import attacks
from benchmarks.attacks import MIB, Target


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with attacks.scheduler() as found:
        attacks.knock(found.ports["port"], bytes(MIB))  # what the first refusal imports is not a stranger's doing
        yield found


def grown(target: Target, before: int) -> float:
    return (target.process.memory_info().rss - before) / MIB


@pytest.mark.parametrize("where", ["port", "pages"])
def test_c4_1_noise(target: Target, where: str) -> None:
    before = target.process.memory_info().rss
    for _ in range(5):
        _, _, said = attacks.knock(target.ports[where], bytes(range(256)) * 4096)
        assert said
    assert grown(target, before) < 1


@pytest.mark.parametrize("exponent", [33, 40, 63])
def test_c4_2_heads_that_claim_too_much(target: Target, exponent: int) -> None:
    """Of what follows only that leaves which the kernel holds by itself."""
    before = target.process.memory_info().rss
    head = struct.pack("!BBHQQ", 0xD6, 0, 1, 0, 2**exponent)
    sent, _, said = attacks.knock(target.ports["port"], head, bytes(64 * MIB))
    assert said and sent < 32 * MIB and grown(target, before) < 1


def test_c4_4_silent_connections(target: Target) -> None:
    before = target.process.memory_info().rss
    _, _, kept = attacks.silent(target, 600)
    assert int(kept.split()[0]) <= 128 + 8  # and the friend's own
    assert grown(target, before) < 4


def test_c4_15_a_header_without_end(target: Target) -> None:
    before = target.process.memory_info().rss
    header = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * MIB
    for _ in range(5):
        _, _, said = attacks.knock(target.ports["pages"], header)
        assert said.startswith(b"HTTP/1.1 431 ")
    assert grown(target, before) < 1
