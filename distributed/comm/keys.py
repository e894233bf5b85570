"""The cluster's secret and the keys of roles that are derived of it. Pure.

Every kind of link has a key of its own, named by who connects and who listens (``"client>scheduler"``), derived of the
secret as by HKDF (RFC 5869, the expanding step: the secret is random already). Whoever has the secret has them all: the
scheduler, the user's clients. A worker is given those alone in which a worker is one of the ends, so that from what a
worker knows nobody can pass for the scheduler before a client or a nanny, nor for a client or a nanny before the
scheduler. Clients that tasks make in a worker have the role ``task``.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as _random
from typing import NoReturn, Self

ROLES = ("", "client", "worker", "nanny", "scheduler", "task")
OBSERVE, METRICS = "observe", "metrics"
"""Keys of those who look at web pages, and of programs that collect numbers."""

_TEXT_PREFIX = "dsk1-"
_LIMITED_PREFIX = "dsk1/"
_OF_WORKERS = frozenset(["worker", "task"])
_HELD = {"worker": _OF_WORKERS, "nanny": _OF_WORKERS | {"nanny"}, OBSERVE: frozenset[str]()}
"""Roles that a holder of the keys of a role may take when it connects; it listens as these, too. Who only looks at
pages takes none."""


def link(initiator: str, listener: str) -> str:
    """The name of the key of a link.

    >>> link("worker", "scheduler")
    'worker>scheduler'
    """
    return f"{initiator}>{listener}"


def _held_by(role: str) -> list[str]:
    own = _HELD[role]
    links = [link(a, b) for a in ROLES[1:] for b in ROLES[1:-1] if a in own or b in own]
    return [*links, OBSERVE, METRICS]


class Secret:
    """32 secret bytes, or the keys of one role, that do not show themselves.

    Attributes
    ----------
    id: short public name of the cluster's secret, so that two ends can agree which one they speak of
    role: whose keys these are; empty: the secret itself

    >>> Secret(b"x" * 32)
    <Secret dcacb106>
    >>> Secret(b"x" * 32).limited_to("worker").knows("client>scheduler")
    False
    """

    __slots__ = ("_bytes", "_keys", "id", "role")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != 32:
            raise ValueError("a secret has 32 bytes")
        self._bytes = bytes(raw)
        self._keys: dict[str, bytes] = {}
        self.id = hmac.digest(self._bytes, b"distributed secret id", "sha256")[:8]
        self.role = ""

    @classmethod
    def new(cls) -> Self:
        """A random one."""
        return cls(_random.token_bytes(32))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """From what :meth:`reveal` gave, or from any passphrase (which should be long and random)."""
        text = text.strip()
        if text.startswith(_LIMITED_PREFIX):
            return cls._from_limited(text)
        if text.startswith(_TEXT_PREFIX) and len(text) == len(_TEXT_PREFIX) + 64:
            try:
                return cls(bytes.fromhex(text[len(_TEXT_PREFIX) :]))
            except ValueError:
                pass
        if not text:
            raise ValueError("an authentication token must not be empty")
        return cls(hashlib.sha256(b"distributed token\0" + text.encode()).digest())

    @classmethod
    def _from_limited(cls, text: str) -> Self:
        try:
            _, role, name, keys = text.split("/")
            raw, names = bytes.fromhex(keys), _held_by(role)
            if len(raw) != 32 * len(names):
                raise ValueError
            found = cls(bytes(32))
            found._bytes = b""
            found.id, found.role = bytes.fromhex(name), role
            found._keys = {label: raw[32 * i : 32 * i + 32] for i, label in enumerate(names)}
        except (ValueError, KeyError):
            raise ValueError("not the keys of a role of this version") from None
        return found

    @property
    def is_open(self) -> bool:
        """Whether this is :data:`OPEN`, or the keys of a role of it: it guards nothing."""
        return self.id == OPEN.id

    def limited_to(self, role: str) -> Self:
        """The keys of ``"worker"``, ``"nanny"`` or ``"observe"`` alone. Those of a worker are a part of those of its
        nanny; those of an observer open no connection, only pages."""
        if self.role == role:
            return self
        return self.from_text(self._limited_text(role))

    def _limited_text(self, role: str) -> str:
        keys = b"".join(self.key(name) for name in _held_by(role))
        return f"{_LIMITED_PREFIX}{role}/{self.id.hex()}/{keys.hex()}"

    def reveal(self) -> str:
        """As text, for a file or a pipe that only this user can read. Nowhere else."""
        return self._limited_text(self.role) if self.role else _TEXT_PREFIX + self._bytes.hex()

    def knows(self, name: str) -> bool:
        """Whether it has the key of that name."""
        return not self.role or name in self._keys

    def key(self, name: str) -> bytes:
        """The key of a link or a purpose. Raises LookupError that names whose keys these are, when it is not there."""
        found = self._keys.get(name)
        if found is None:
            if self.role:
                raise LookupError(
                    f"the keys of {'an' if self.role == OBSERVE else 'a'} {self.role} do not reach {name}"
                )
            found = self._keys[name] = hmac.digest(
                self._bytes, b"distributed key\0" + name.encode() + b"\x01", "sha256"
            )
        return found

    def mac(self, name: str, *parts: bytes) -> bytes:
        """HMAC-SHA256 by the key of that name over the parts, each preceded by its length."""
        message = b"".join(len(p).to_bytes(4, "big") + p for p in parts)
        return hmac.digest(self.key(name), message, "sha256")

    def token(self, name: str) -> str:
        """The key of a purpose as text, for programs that look at web pages (``Authorization: Bearer ...``)."""
        return f"dsk1-{name}-{self.key(name).hex()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret) or self.id != other.id or self.role != other.role:
            return False
        return hmac.compare_digest(self.reveal(), other.reveal())

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Secret {self.id.hex()[:8]}{' of a ' + self.role if self.role else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a cluster's secret is not pickled: it would travel with tasks (see Secret.reveal)")


OPEN = Secret.from_text("no authentication: this is known to everybody")
"""What guards a cluster that was told to go without authentication: nothing."""
CERTIFIED = Secret.from_text("authenticated by certificates: this is known to everybody")
"""Of connections whose two ends have proved themselves by certificates; used within their encryption only."""
