"""The first bytes on every socket: both ends prove that they know the cluster's secret before anything else is read.

Pure: bytes in, bytes out; :mod:`distributed.comm.sockets` moves them and keeps the deadline. Four frames of at most 256
bytes; no pickle, no msgpack, no allocation that a peer could choose::

    initiator                                              listener
    HELLO     role, nonce, offer                   ->
                                                   <-      CHALLENGE  role, nonce, ids of secrets, certificate, offer
    PROOF     role, HMAC("initiator", ...)         ->
                                                   <-      WELCOME    HMAC("listener", ...)
    CONFIRM   HMAC("inside", ...)                  ->      only where TLS begins after WELCOME, and within it
    either side, at any time                      <->      REFUSAL    text for a person

Each HMAC-SHA256 is by the key of the link (:mod:`distributed.comm.keys`) and covers a label with the direction, the
version, both roles, both nonces, both offers, the fingerprint of the listener's certificate and the id of the secret,
so that a proof cannot be reflected, replayed, or moved to another cluster. The secret never
crosses the wire. The initiator goes first, so that a stranger who connects learns nothing made from the secret but its
id (a hash of 32 random bytes). A listener may name two secrets, the new one and the one before. The initiator says its
role with the proof: only then does it know which keys it has.

When either end wants encryption, TLS begins behind WELCOME. The initiator takes only the certificate whose fingerprint
was covered, so nobody in between can read along; it says CONFIRM inside, which nobody else can know, so nobody in
between can have taken its place. Strangers cost no arithmetic of TLS.

The model is ``multiprocessing.connection``'s challenge; the frame header (magic, version, kind, detail, length) and
REFUSAL will stay as they are in every version, so that any two versions can tell each other that they differ.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distributed.base.errors import HandshakeRefused
from distributed.comm.keys import OPEN, ROLES, Secret, link

MAGIC = b"\xd5dskeng\n"
PROTOCOL_VERSION = 3
MAX_FRAME = 256
DEADLINE_S = 5.0

_HEADER = struct.Struct("!8sHBBHxx")  # magic, version, kind, detail (role or cause), length of the whole frame
_HELLO = struct.Struct("!32sB")  # nonce, offer
_CHALLENGE = struct.Struct("!32s8s8s32sB")  # nonce, ids of the secret and of the one before, fingerprint, offer
_PROOF = struct.Struct("!32s")
_KIND_HELLO, _KIND_CHALLENGE, _KIND_PROOF, _KIND_WELCOME, _KIND_REFUSAL = range(1, 6)
_LENGTH = {
    _KIND_HELLO: _HEADER.size + _HELLO.size,
    _KIND_CHALLENGE: _HEADER.size + _CHALLENGE.size,
    _KIND_PROOF: _HEADER.size + _PROOF.size,
    _KIND_WELCOME: _HEADER.size + _PROOF.size,
}
COMPRESSIONS = ("zlib", "lz4", "zstd")
"""Names of compressions by their bit in the first frames: what that end can undo, and wants to."""
_CHECKSUMS = 0x80
"""The bit of an end that wants checksums; every end can make and check them."""
_SHARED_MEMORY = 0x40
"""The bit of an end that takes descriptors of shared memory."""
_ENCRYPTION = 0x20
"""The bit of an end that wants TLS."""
NO_CERTIFICATE = bytes(32)

_HTTP_VERBS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"DELE", b"PATC", b"CONN", b"TRAC", b"PRI ")


@dataclass(frozen=True)
class Offer:
    """What one end can undo (compressions, shared memory), and what it wants (checksums, encryption)."""

    compressions: tuple[str, ...] = ()
    checksums: bool = False
    shared_memory: bool = False
    encryption: bool = False


NOTHING = Offer()


class _Handshake:
    """What both ends have in common: cut frames from bytes, keep what to send, end with a result or a refusal."""

    def __init__(self, role: str, offer: Offer = NOTHING) -> None:
        self.role = role
        self.offer = offer
        self.peer_offer = NOTHING
        self._bits = sum(1 << i for i, name in enumerate(COMPRESSIONS) if name in offer.compressions)
        self._bits |= (_CHECKSUMS if offer.checksums else 0) | (_SHARED_MEMORY if offer.shared_memory else 0)
        self._bits |= _ENCRYPTION if offer.encryption else 0
        self._peer_bits = 0
        self.peer_role = ""
        self.fingerprint = NO_CERTIFICATE
        """SHA-256 of the listener's certificate."""
        self.secret: Secret | None = None
        """By which the two ends know each other, once that is settled."""
        self.confirmation = b""
        """What the initiator says first inside of TLS."""
        self.done = False
        self.error: HandshakeRefused | None = None
        # One word for the error: "by peer", "foreign", "version", "secret", "role", "malformed", "silent".
        self.cause = ""
        self.outgoing = bytearray()
        self.received = 0
        self._buffer = bytearray()
        self._nonce = os.urandom(32)

    @property
    def encrypted(self) -> bool:
        """Whether TLS comes next: one of the two wants it, and the listener has a certificate."""
        return (self.offer.encryption or self.peer_offer.encryption) and self.fingerprint != NO_CERTIFICATE

    @property
    def wanted(self) -> int:
        """How many bytes may be read now: never beyond the end of the frame that is awaited (0: finished)."""
        if self.done or self.error is not None:
            return 0
        have = len(self._buffer)
        if have < _HEADER.size:
            return _HEADER.size - have
        return self._frame_length() - have

    def _frame_length(self) -> int:
        length = int.from_bytes(self._buffer[12:14], "big")
        return min(max(length, _HEADER.size + 1), MAX_FRAME)

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer (at most ``wanted``); look at ``done``, ``error`` and ``outgoing`` afterwards."""
        self.received += len(data)
        self._buffer += data
        common = min(len(self._buffer), len(MAGIC))
        if self._buffer[:common] != MAGIC[:common]:
            # A foreigner's first bytes are kept until they suffice to say who it is.
            if len(self._buffer) >= 4:
                self._foreign(bytes(self._buffer))
            return
        if len(self._buffer) < _HEADER.size:
            return
        _, version, kind, detail, length = _HEADER.unpack_from(self._buffer)
        if kind == _KIND_REFUSAL:
            if len(self._buffer) >= self._frame_length():
                text = bytes(self._buffer[_HEADER.size :]).decode("utf-8", "replace")
                self._fail(HandshakeRefused(self._printable(text)), "by peer", tell=False)
            return
        if version != PROTOCOL_VERSION:
            self.refuse(
                f"protocol version {PROTOCOL_VERSION} here, {version} there; install the same release of "
                "'distributed' at both ends",
                "version",
            )
            return
        if length != _LENGTH.get(kind):
            self.refuse("malformed handshake", "malformed")
            return
        if len(self._buffer) < length:
            return
        body = bytes(self._buffer[_HEADER.size : length])
        self._buffer.clear()
        self.on_frame(kind, detail, body)

    def on_frame(self, kind: int, detail: int, body: bytes) -> None:
        raise NotImplementedError

    def refuse(self, text: str, cause: str) -> None:
        """End here; the peer is told why."""
        self._fail(HandshakeRefused(text), cause, tell=True)

    def _fail(self, error: HandshakeRefused, cause: str, tell: bool) -> None:
        if self.error is None and not self.done:
            self.error = error
            self.cause = cause
            if tell:
                self.outgoing += refusal_frame(str(error))

    def _foreign(self, first: bytes) -> None:
        self.refuse(f"the peer speaks another protocol ({describe_foreign(first)})", "foreign")

    @staticmethod
    def _printable(text: str) -> str:
        return "".join(c if c.isprintable() else "?" for c in text.strip("\0"))

    def _frame(self, kind: int, detail: int, body: bytes) -> bytes:
        return _HEADER.pack(MAGIC, PROTOCOL_VERSION, kind, detail, _HEADER.size + len(body)) + body

    def _take_offer(self, bits: int) -> None:
        # Bits that only a later version knows are kept for the proof and otherwise passed over.
        self._peer_bits = bits
        names = tuple(name for i, name in enumerate(COMPRESSIONS) if bits >> i & 1)
        self.peer_offer = Offer(names, bool(bits & _CHECKSUMS), bool(bits & _SHARED_MEMORY), bool(bits & _ENCRYPTION))

    def _take_role(self, detail: int) -> bool:
        if not 0 < detail < len(ROLES):
            self.refuse("unknown role", "malformed")
            return False
        self.peer_role = ROLES[detail]
        return True


def _transcript(
    roles: tuple[str, str], nonces: tuple[bytes, bytes], bits: tuple[int, int], fingerprint: bytes, secret: Secret
) -> tuple[bytes, ...]:
    """What both ends have said, the initiator's part first."""
    version = PROTOCOL_VERSION.to_bytes(2, "big")
    return (version, roles[0].encode(), roles[1].encode(), *nonces, bytes(bits), fingerprint, secret.id)


class InitiatorHandshake(_Handshake):
    """The end that connects.

    Parameters
    ----------
    role: one of :data:`ROLES`; a client that has the keys of a worker only becomes a ``task``
    find_secret: called with the id of a secret that the listener names; the secret, or None when there is none
    offer: what this end can undo and wants
    """

    def __init__(self, role: str, find_secret: Callable[[bytes], Secret | None], offer: Offer = NOTHING) -> None:
        super().__init__(role, offer)
        self._find_secret = find_secret
        self._peer_nonce = b""
        self.outgoing += self._frame(_KIND_HELLO, ROLES.index(role), _HELLO.pack(self._nonce, self._bits))

    def on_frame(self, kind: int, detail: int, body: bytes) -> None:
        if kind == _KIND_CHALLENGE and self.secret is None:
            if not self._take_role(detail):
                return
            self._peer_nonce, first, second, self.fingerprint, bits = _CHALLENGE.unpack(body)
            self._take_offer(bits)
            secret = self._choose_secret([first] if second == bytes(8) else [first, second])
            if secret is not None:
                self._prove(secret)
        elif kind == _KIND_WELCOME and self.secret is not None:
            name, parts = self._said(self.secret)
            if hmac.compare_digest(body, self.secret.mac(name, b"listener", *parts)):
                self.confirmation = self.secret.mac(name, b"inside", *parts)
                self.done = True
            else:
                self.refuse("authentication failed: the listener does not have the cluster's secret", "secret")
        else:
            self.refuse("malformed handshake", "malformed")

    def _choose_secret(self, ids: list[bytes]) -> Secret | None:
        """The first of those that the listener names that we have; None: refused."""
        offered: Secret | None = None
        try:
            for secret_id in ids:
                found = self._find_secret(secret_id)
                if found is not None and found.id == secret_id:
                    return found
                offered = offered or found
        except PermissionError as e:  # an unsafe file: its remedy is for this end's user only
            self.refuse("the initiator cannot read its secret", "secret")
            self.error = HandshakeRefused(str(e))
            return None
        self.refuse("the initiator does not have this cluster's secret", "secret")
        self.error = HandshakeRefused(no_secret_text(ids[0], offered))
        return None

    def _prove(self, secret: Secret) -> None:
        if self.role == "client" and not secret.knows(link("client", self.peer_role)):
            self.role = "task"
        name, parts = self._said(secret)
        try:
            proof = secret.mac(name, b"initiator", *parts)
        except LookupError as e:
            self.refuse("the initiator may not take this role", "role")
            self.error = HandshakeRefused(str(e))
            return
        self.secret = secret
        self.outgoing += self._frame(_KIND_PROOF, ROLES.index(self.role), _PROOF.pack(proof))

    def _said(self, secret: Secret) -> tuple[str, tuple[bytes, ...]]:
        roles = (self.role, self.peer_role)
        nonces = (self._nonce, self._peer_nonce)
        return link(*roles), _transcript(roles, nonces, (self._bits, self._peer_bits), self.fingerprint, secret)


class ListenerHandshake(_Handshake):
    """The end that listens; accepts only those that prove one of ``secrets`` (and have one of ``roles``, when given).

    Parameters
    ----------
    secrets: the cluster's, or two: the one before is good for a while
    fingerprint: of the certificate that this end has for TLS
    """

    def __init__(
        self,
        role: str,
        secrets: Secret | Sequence[Secret],
        roles: frozenset[str] | None = None,
        offer: Offer = NOTHING,
        fingerprint: bytes = NO_CERTIFICATE,
    ) -> None:
        super().__init__(role, offer)
        self._secrets = [secrets] if isinstance(secrets, Secret) else list(secrets)[:2]
        self._roles = roles
        self.fingerprint = fingerprint
        self._peer_nonce: bytes | None = None

    def on_frame(self, kind: int, detail: int, body: bytes) -> None:
        if kind == _KIND_HELLO and self._peer_nonce is None:
            if not self._take_role(detail):
                return
            self._peer_nonce, bits = _HELLO.unpack(body)
            self._take_offer(bits)
            ids = [secret.id for secret in self._secrets] + [bytes(8)]
            challenge = _CHALLENGE.pack(self._nonce, ids[0], ids[1], self.fingerprint, self._bits)
            self.outgoing += self._frame(_KIND_CHALLENGE, ROLES.index(self.role), challenge)
        elif kind == _KIND_PROOF and self._peer_nonce is not None:
            if self._take_role(detail):
                self._check_proof(body, (self._peer_nonce, self._nonce))
        else:
            self.refuse("malformed handshake", "malformed")

    def _check_proof(self, proof: bytes, nonces: tuple[bytes, bytes]) -> None:
        name = link(self.peer_role, self.role)
        bits = (self._peer_bits, self._bits)
        parts: tuple[bytes, ...] = ()
        for secret in self._secrets:  # all of them, so that the time tells nothing
            if not secret.knows(name):
                continue
            said = _transcript((self.peer_role, self.role), nonces, bits, self.fingerprint, secret)
            if hmac.compare_digest(proof, secret.mac(name, b"initiator", *said)):
                self.secret, parts = secret, said
        if self.secret is None:
            self.refuse("authentication failed: wrong secret", "secret")
        elif self._roles is not None and self.peer_role not in self._roles:
            self.refuse(f"a {self.role} takes no connection in the role of a {self.peer_role}", "role")
        else:
            self.confirmation = self.secret.mac(name, b"inside", *parts)
            answer = _PROOF.pack(self.secret.mac(name, b"listener", *parts))
            self.outgoing += self._frame(_KIND_WELCOME, ROLES.index(self.role), answer)
            self.done = True

    def _foreign(self, first: bytes) -> None:
        super()._foreign(first)
        if first.startswith(_HTTP_VERBS):
            text = (
                f"This port speaks the protocol of distributed, not HTTP; the {self.role}'s pages are on another one.\n"
            )
            self.outgoing[:] = (
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
                f"Content-Length: {len(text)}\r\n\r\n{text}"
            ).encode()


def refusal_frame(text: str) -> bytes:
    """A REFUSAL of at most 256 bytes that says ``text``."""
    raw = text.encode()[: MAX_FRAME - _HEADER.size]
    raw = raw.decode("utf-8", "ignore").encode() or b"refused"
    return _HEADER.pack(MAGIC, PROTOCOL_VERSION, _KIND_REFUSAL, 0, _HEADER.size + len(raw)) + raw


def describe_foreign(first: bytes) -> str:
    """Who might send these first bytes, in words; never the bytes themselves beyond a few printable ones."""
    if first.startswith((*_HTTP_VERBS, b"HTTP")):
        return "HTTP; the web pages of a scheduler or worker are on another port"
    if first[:2] == b"\x16\x03":
        return "TLS"
    if first.startswith(b"SSH-"):
        return "SSH"
    if (len(first) >= 4 and first[1:4] == b"\0\0\0") or (first[4:8] == b"\0\0\0\0" and len(first) >= 8):
        return "perhaps dask.distributed's, which is another product: use this 'distributed' at both ends"
    return "unknown"


def no_secret_text(secret_id: bytes, offered: Secret | None) -> str:
    """What a user reads who has no, or another, secret."""
    if secret_id == OPEN.id:
        return (
            "this cluster goes without authentication. If that is meant, say so here, too: set "
            "DASK_DISTRIBUTED__AUTH__REQUIRED=False"
        )
    have = "you have another cluster's secret" if offered is not None else "no secret for it was found"
    return (
        f"this cluster asks for its secret ({secret_id.hex()[:8]}), and {have}. Connect as the user who started it on "
        "this machine, or give its scheduler file (scheduler_file=..., --scheduler-file ...), or copy the secret to a "
        "file with mode 0600 and set DASK_DISTRIBUTED__AUTH_TOKEN_FILE"
    )
