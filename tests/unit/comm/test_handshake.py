from __future__ import annotations

import random

import pytest

from distributed.comm import handshake as h
from distributed.comm.handshake import Offer
from distributed.comm.keys import Secret

SECRET = Secret.from_text("the cluster's")
OTHER = Secret.from_text("another cluster's")


def initiator(secret=SECRET, role="client"):
    return h.InitiatorHandshake(role, lambda secret_id: secret)


def listener(secret=SECRET, role="scheduler", **kw):
    return h.ListenerHandshake(role, secret, **kw)


def pump(a, b, piece=None):
    """Carry bytes to and fro until nobody has any; returns all that was said, by direction."""
    said = {id(a): b"", id(b): b""}
    for _ in range(20):
        for source, target in ((a, b), (b, a)):
            data = bytes(source.outgoing)
            source.outgoing.clear()
            said[id(source)] += data
            while data and target.wanted:
                n = min(target.wanted, piece or 1 << 30, len(data))
                target.feed(data[:n])
                data = data[n:]
    return said[id(a)], said[id(b)]


@pytest.mark.parametrize("piece", [None, 1, 7])
def test_both_know_the_secret(piece):
    a, b = initiator(), listener()
    said_a, said_b = pump(a, b, piece)
    assert a.done and b.done and a.error is None and b.error is None
    assert (a.peer_role, b.peer_role) == ("scheduler", "client")
    assert a.wanted == b.wanted == 0
    assert len(said_a) <= 256 and len(said_b) <= 256
    assert SECRET._bytes not in said_a + said_b


def test_nothing_beyond_the_handshake_is_read():
    a, b = initiator(), listener()
    b.feed(bytes(a.outgoing)[: b.wanted])
    while b.wanted and not b.outgoing:
        b.feed(bytes(a.outgoing)[b.received : b.received + b.wanted])
    assert b.received == len(a.outgoing)
    assert b.wanted <= h.MAX_FRAME


def test_wrong_secret_is_refused_at_both_ends():
    a, b = initiator(OTHER), listener()
    pump(a, b)
    assert a.error is not None and b.error is not None and not a.done and not b.done
    assert "secret" in str(a.error) and "AUTH_TOKEN_FILE" in str(a.error)
    assert "does not have this cluster's secret" in str(b.error)


def test_no_secret():
    a, b = initiator(None), listener()
    pump(a, b)
    assert "no secret for it was found" in str(a.error)


class Liar(h.InitiatorHandshake):
    """Claims the right id for a secret it does not have."""

    def on_frame(self, kind, detail, body):
        secret = Secret.from_text("guess")
        if kind == h._KIND_CHALLENGE:
            secret.id = body[32:40]
            self._find_secret = lambda secret_id: secret
        super().on_frame(kind, detail, body)


def test_a_false_proof_is_refused():
    a, b = Liar("client", lambda _: None), listener()
    said_a, said_b = pump(a, b)
    assert not b.done and "wrong secret" in str(b.error)
    assert not a.done and "wrong secret" in str(a.error)
    # A stranger gets nothing made from the secret but its id.
    nonces = said_a[16:48], said_b[16:48]
    for role in h.ROLES[1:]:
        parts = h._transcript((role, "scheduler"), nonces, (0, 0), h.NO_CERTIFICATE, SECRET)
        assert SECRET.mac(f"{role}>scheduler", b"listener", *parts) not in said_b


def test_a_listener_without_the_secret_is_refused():
    fake = Secret.from_text("fake")
    fake.id = SECRET.id

    class Fake(h.ListenerHandshake):
        def on_frame(self, kind, detail, body):
            if kind == h._KIND_PROOF:
                self.outgoing += self._frame(h._KIND_WELCOME, 4, b"\0" * 32)
                self.done = True
            else:
                super().on_frame(kind, detail, body)

    a, b = initiator(), Fake("scheduler", fake)
    pump(a, b)
    assert not a.done and "listener does not have" in str(a.error)


def test_reflection():
    """The initiator's own frames, sent back to it, open nothing; nor do those of another listener's conversation."""
    a = initiator()
    said = bytes(a.outgoing)
    a.feed(said[:16])
    a.feed(said[16:])
    assert not a.done and a.error is not None


def test_offers_are_made_and_cannot_be_changed_on_the_way():
    a = h.InitiatorHandshake("client", lambda _: SECRET, Offer(("lz4", "zstd"), True))
    b = h.ListenerHandshake("scheduler", SECRET, offer=Offer(("zlib", "lz4")))
    pump(a, b)
    assert a.done and a.peer_offer == Offer(("zlib", "lz4")) and b.peer_offer == Offer(("lz4", "zstd"), True)
    a, b = h.InitiatorHandshake("client", lambda _: SECRET, Offer(("lz4",))), listener()
    a.outgoing[48] = 0
    pump(a, b)
    assert not b.done and not a.done


def test_replay():
    a, b = initiator(), listener()
    said_a, _ = pump(a, b)
    assert b.done
    again = listener()
    data = said_a
    while data and again.wanted:
        n = again.wanted
        again.feed(data[:n])
        data = data[n:]
    assert not again.done and "wrong secret" in str(again.error)


def test_roles():
    a, b = initiator(role="nanny"), listener(roles=frozenset({"client"}))
    pump(a, b)
    assert "role of a nanny" in str(a.error) and "role of a nanny" in str(b.error)
    with pytest.raises(ValueError):
        initiator(role="king")


def test_other_version(monkeypatch):
    b = listener()
    monkeypatch.setattr(h, "PROTOCOL_VERSION", 7)
    a = initiator()
    monkeypatch.undo()
    pump(a, b)
    assert "version 3 here, 7 there" in str(b.error)
    assert "version 3 here, 7 there" in str(a.error) and "same release" in str(a.error)


@pytest.mark.parametrize(
    "first, word",
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "TLS"),
        (b"SSH-2.0-OpenSSH", "SSH"),
        (b":\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", "another product"),
        (b"\x93\x01\x02\x03\x04", "unknown"),
    ],
)
def test_foreigners(first, word):
    for machine in (listener(), initiator()):
        for i in range(len(first)):
            if machine.wanted:
                machine.feed(first[i : i + 1])
        assert machine.error is not None and word in str(machine.error)
        assert machine.received <= 16


def test_http_gets_an_answer_that_a_browser_shows():
    b = listener()
    b.feed(b"GET / HTTP/1.1\r\n")
    assert b.outgoing.startswith(b"HTTP/1.1 400 ") and b"not HTTP" in b.outgoing
    head, _, body = bytes(b.outgoing).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_refusal_frame_is_small_and_readable_by_any_version():
    raw = h.refusal_frame("ü" * 1000)
    assert len(raw) <= h.MAX_FRAME
    a = initiator()
    changed = raw[:8] + b"\xff\xff" + raw[10:]  # version 65535
    while a.wanted and changed:
        n = a.wanted
        a.feed(changed[:n])
        changed = changed[n:]
    assert a.error is not None and "üüü" in str(a.error)


def test_control_characters_of_a_peer_do_not_reach_a_terminal():
    a = initiator()
    data = h.refusal_frame("bad\x1b[31m\nnews")
    while a.wanted and data:
        n = a.wanted
        a.feed(data[:n])
        data = data[n:]
    assert str(a.error) == "bad?[31m?news"


def test_noise():
    """Any bytes at all: an error or patience, never anything else, and never more than a frame is read."""
    rng = random.Random(5)
    for _ in range(3000):
        b = listener()
        start = rng.choice([b"", h.MAGIC, h.MAGIC + b"\0\x01", h.MAGIC + b"\0\x01" + bytes([rng.randrange(8)])])
        data = start + rng.randbytes(rng.randrange(600))
        while data and b.wanted:
            assert b.wanted <= h.MAX_FRAME
            n = min(b.wanted, rng.randrange(1, 64))
            b.feed(data[:n])
            data = data[n:]
        assert not b.done
        assert b.received <= h.MAX_FRAME + 96


WORKERS, NANNIES = SECRET.limited_to("worker"), SECRET.limited_to("nanny")


@pytest.mark.parametrize(
    "role, keys, listens, listens_with, outcome",
    [
        ("worker", WORKERS, "scheduler", SECRET, "worker"),
        ("client", WORKERS, "scheduler", SECRET, "task"),
        ("client", SECRET, "worker", WORKERS, "client"),
        ("scheduler", SECRET, "worker", WORKERS, "scheduler"),
        ("worker", WORKERS, "worker", WORKERS, "worker"),
        ("nanny", NANNIES, "scheduler", SECRET, "nanny"),
        ("scheduler", SECRET, "nanny", NANNIES, "scheduler"),
        ("nanny", WORKERS, "scheduler", SECRET, None),
        ("scheduler", WORKERS, "scheduler", SECRET, None),
        ("scheduler", WORKERS, "nanny", NANNIES, None),
        ("client", SECRET, "scheduler", WORKERS, None),
        ("nanny", NANNIES, "scheduler", WORKERS, None),
    ],
)
def test_roles_have_keys_of_their_own(role, keys, listens, listens_with, outcome):
    a, b = initiator(keys, role), listener(listens_with, listens)
    pump(a, b)
    assert a.done is b.done is (outcome is not None)
    if outcome is not None:
        assert (b.peer_role, a.peer_role) == (outcome, listens)
        assert a.confirmation == b.confirmation != b""
    else:
        assert a.error is not None and b.error is not None


def test_a_worker_that_listens_as_the_scheduler_is_found_out():
    """One that lies about its role and takes whatever proof comes cannot answer it."""

    class Impostor(h.ListenerHandshake):
        def _check_proof(self, proof, nonces):
            key = WORKERS.mac("worker>scheduler", b"listener", b"whatever")
            self.outgoing += self._frame(h._KIND_WELCOME, 4, key)
            self.done = True

    a, b = initiator(), Impostor("scheduler", WORKERS)
    pump(a, b)
    assert not a.done and "listener does not have" in str(a.error)


@pytest.mark.parametrize("role", h.ROLES[1:])
def test_a_lie_about_the_role_is_a_wrong_proof(role):
    """Keys of a worker, and a PROOF that names another role."""

    class Liar(h.InitiatorHandshake):
        def _prove(self, secret):
            _, parts = self._said(secret)
            proof = secret.mac("worker>scheduler", b"initiator", *parts)
            self.outgoing += self._frame(h._KIND_PROOF, h.ROLES.index(role), h._PROOF.pack(proof))

    b = listener()
    pump(Liar("worker", lambda _: WORKERS), b)
    assert b.done is (role == "worker")


def test_the_secret_before_is_good_for_a_while():
    before = Secret.new()
    for known in (SECRET, before):
        a, b = initiator(known), listener([SECRET, before])
        pump(a, b)
        assert a.done and b.done and a.secret == b.secret == known
    a, b = initiator(OTHER), listener([SECRET, before])
    pump(a, b)
    assert not b.done
    a, b = initiator(before), listener([SECRET])
    pump(a, b)
    assert not b.done


def test_the_certificate_is_covered():
    mine, another = bytes(range(32)), bytes(range(1, 33))
    offer = Offer(encryption=True)
    a, b = h.InitiatorHandshake("client", lambda _: SECRET, offer), listener(fingerprint=mine)
    pump(a, b)
    assert a.encrypted and b.encrypted and a.fingerprint == mine
    a, b = h.InitiatorHandshake("client", lambda _: SECRET, offer), listener(fingerprint=mine)
    b.feed(bytes(a.outgoing)[:16])
    b.feed(bytes(a.outgoing)[16:])
    a.outgoing.clear()
    b.outgoing[:] = bytes(b.outgoing).replace(mine, another)
    pump(a, b)
    assert not a.done and not b.done
    # Nor can somebody in between say that there is none, or that nobody wants it.
    a, b = h.InitiatorHandshake("client", lambda _: SECRET, offer), listener(fingerprint=mine)
    a.outgoing[48] = 0
    pump(a, b)
    assert not a.done and not b.done
    a, b = initiator(), listener(fingerprint=mine)
    pump(a, b)
    assert a.done and not a.encrypted and not b.encrypted
