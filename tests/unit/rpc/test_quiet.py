"""Which connections are looked into, and which are ended: with a knock that answers as the test says."""

from __future__ import annotations

import asyncio

import pytest

from distributed.comm.knock import Door
from distributed.rpc import quiet
from distributed.rpc.quiet import QuietLinks


class Link:
    """As much of a connection as is looked at."""

    def __init__(self, peer="tcp://10.0.0.1:5", ops=("get_data",)):
        self.peer_address, self.ops = peer, ops
        self.comm = self
        self.received_bytes = 0
        self.closed = False
        self.error = None

    def asks_only(self, ops):
        return bool(self.ops) and all(op in ops for op in self.ops)

    def abort(self, error):
        self.closed, self.error = True, error


def looked_at(link, door, monkeypatch, n_looks=4, meanwhile=lambda: None):
    """Look so many times at a link, long enough apart; how many knocks that made."""
    knocks = []

    async def knock(address, timeout):
        knocks.append(address)
        meanwhile()
        return door

    async def main():
        links = QuietLinks(lambda: {"tcp://10.0.0.1:5": link}, knock)
        for _ in range(n_looks):
            links.look()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        links.stop()
        return len(knocks)

    monkeypatch.setattr(quiet, "QUIET_S", -1.0)
    return asyncio.run(main())


def test_no_way(monkeypatch):
    link = Link()
    assert looked_at(link, Door.NO_WAY, monkeypatch) >= 1
    assert link.closed and "no way to it" in str(link.error)


@pytest.mark.parametrize("door", [Door.OPEN, Door.SHUT, Door.UNKNOWN])
def test_a_peer_that_is_only_slow(door, monkeypatch):
    link = Link()
    assert looked_at(link, door, monkeypatch) >= 1
    assert not link.closed


@pytest.mark.parametrize(
    "link", [Link(ops=()), Link(ops=("get_data", "actor_execute")), Link("unix://x"), Link("inproc://x")]
)
def test_not_looked_into(link, monkeypatch):
    assert looked_at(link, Door.NO_WAY, monkeypatch) == 0
    assert not link.closed


def test_bytes_that_come_during_the_knock(monkeypatch):
    link = Link()

    def come():
        link.received_bytes += 1

    assert looked_at(link, Door.NO_WAY, monkeypatch, meanwhile=come) >= 1
    assert not link.closed


def test_not_before_its_time(monkeypatch):
    link = Link()
    monkeypatch.setattr(quiet, "KNOCK_S", 0.0)

    async def never(address, timeout):
        raise AssertionError

    async def main():
        links = QuietLinks(lambda: {"tcp://10.0.0.1:5": link}, never)
        for _ in range(3):
            links.look()
            await asyncio.sleep(0)

    asyncio.run(main())
    assert not link.closed
