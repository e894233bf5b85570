"""Changing the secret of a server that runs: for a while the old one is good, too; then whoever came by it is shown
out. Shell.

A worker or nanny is given its keys of the new secret over the connection that it has, and stays. Clients are given
nothing, since one of them may be why the secret is changed: they find the new one where they found the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.comm.transport import Listener


class SecretRotation:
    """What changing its secret means for one server."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._timer: asyncio.TimerHandle | None = None
        self._old: dict[bytes, Secret] = {}

    @property
    def old(self) -> list[Secret]:
        """Secrets that were replaced, and are good until the overlap ends."""
        return list(self._old.values())

    def change(self, new: Secret) -> None:
        """Take newcomers by ``new``, and until :meth:`end_overlap_in` has ended that by the present secret, too."""
        server = self._server
        old: Secret = server.secret
        if new.id == old.id:
            return
        self._accept(server.listeners, new, old)
        server.secret = new
        for listener in server.listeners:
            secrets.register(listener.contact_address, new)
        secrets.remember(new)
        self.stop()
        self._old[old.id] = old

    def end_overlap_in(self, seconds: float) -> None:
        """After so many seconds only the present secret counts, and whoever came by another one is shown out."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._end_overlap)

    @staticmethod
    def _accept(listeners: Iterable[Listener], *good: Secret) -> None:
        for listener in listeners:
            listener.accept_secrets(*good)

    def _end_overlap(self) -> None:
        server = self._server
        self._timer = None
        self._accept(server.listeners, server.secret)
        stale, self._old = self._old, {}
        for old in stale.values():
            secrets.drop(old)
        for connection in list(server.connections):
            # Links between workers stay: both ends were given the new secret.
            if connection.comm.secret_id in stale and (server.role == "scheduler" or is_client(connection)):
                connection.abort()

    async def take(self, text: str, overlap_s: float, connection: Any = None) -> None:
        """The scheduler says what the keys are from now on."""
        if connection is None or connection.peer_role != "scheduler":
            raise PermissionError("only the scheduler may change keys")
        self.change(Secret.from_text(text))
        self.end_overlap_in(overlap_s)
        connection.comm.secret_id = self._server.secret.id

    def stop(self) -> None:
        """No end of an overlap is under way. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def is_client(connection: Any) -> bool:
    """Whether a client, or a task's, is at the other end."""
    return connection.peer_role in ("client", "task")


async def hand_out(connections: Iterable[tuple[str, Any]], new: Secret, overlap_s: float) -> list[str]:
    """Give members their keys: ``(role, connection)`` each. Returns the addresses of those that did not take them."""

    async def tell(role: str, connection: Any) -> str:
        try:
            keys = new.limited_to(role).reveal()
            await connection.request("take_secret", {"text": keys, "overlap_s": overlap_s}, 10.0)
        except Exception:
            return str(connection.name or connection.peer_address)
        connection.comm.secret_id = new.id
        return ""

    answers = await asyncio.gather(*(tell(role, connection) for role, connection in connections))
    return [name for name in answers if name]
