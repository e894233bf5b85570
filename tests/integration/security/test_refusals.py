"""Who is refused learns nothing: neither by the text nor by the time whether a secret, a role or an age was wrong."""

from __future__ import annotations

import asyncio
import time

import pytest

from distributed.comm import handshake as h
from distributed.comm.keys import Secret
from distributed.scheduler import Scheduler
from distributed.testing import gen_test

pytestmark = pytest.mark.usefixtures("private_places")
ROUNDS = 60


class Liar(h.InitiatorHandshake):
    """Claims a role, and proves it by the key that it has, which is not the key of that role or not of this secret."""

    def __init__(self, claimed: str, keys: Secret, link: str) -> None:
        super().__init__(claimed, lambda _: keys)
        self._keys, self._link = keys, link

    def _choose_secret(self, ids: list[bytes]) -> Secret | None:
        return self._keys

    def _prove(self, secret: Secret) -> None:
        _, parts = self._said(secret)
        self.secret = secret
        proof = secret.mac(self._link, b"initiator", *parts)
        self.outgoing += self._frame(h._KIND_PROOF, h.ROLES.index(self.role), h._PROOF.pack(proof))


def cases(secret: Secret, stale: Secret) -> dict[str, tuple[str, Secret, str]]:
    """Role, keys, and the link whose key is used; a scheduler with ``secret`` takes none of them."""
    worker = secret.limited_to("worker")
    return {
        "a wrong secret": ("client", Secret.new(), "client>scheduler"),
        "a wrong secret, as worker": ("worker", Secret.new(), "worker>scheduler"),
        "the keys of another role": ("client", worker, "worker>scheduler"),
        "the keys of another role, as nanny": ("nanny", worker, "worker>scheduler"),
        "the secret before the last": ("client", stale, "client>scheduler"),
    }


async def refused(address: str, liar: Liar) -> tuple[float, bytes]:
    """Seconds from the proof to the answer, and the answer."""
    host, _, port = address[6:].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(bytes(liar.outgoing))
        liar.outgoing.clear()
        while not liar.outgoing:
            liar.feed(await asyncio.wait_for(reader.readexactly(liar.wanted), 10))
        begin = time.perf_counter()
        writer.write(bytes(liar.outgoing))
        answer = await asyncio.wait_for(reader.read(4096), 10)
        seconds = time.perf_counter() - begin
        return seconds, answer + await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@gen_test(timeout=60)
async def test_c4_5_one_answer_in_one_time() -> None:
    """Attempts are made in turn, and of each the shortest counts: other load only adds."""
    async with Scheduler(port=0, host="127.0.0.1") as s:
        stale = s.secret
        await s.rotate_secret("0s")
        attempts = cases(s.secret, stale)
        assert s.secret.id != stale.id
        best = dict.fromkeys(attempts, 1e9)
        answers: dict[bytes, None] = {}
        for _ in range(ROUNDS):
            for name, said in attempts.items():
                seconds, answer = await refused(s.address, Liar(*said))
                best[name] = min(best[name], seconds)
                answers[answer] = None
        (answer,) = answers
        assert b"wrong secret" in answer
        assert max(best.values()) < 1.5 * min(best.values()), best
        assert not s.workers and s.secret.reveal().encode() not in answer
