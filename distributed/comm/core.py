"""What a transport of another package fills: ``Comm``, ``Connector``, ``Listener``, by their old names and shapes.

Such a comm carries what it is given by ``write`` to the ``read`` of its peer, whole and in order. It is given lists of
``bytes`` or ``bytearray`` only; :mod:`distributed.comm.foreign` makes a comm of this house of it, authenticates its
peer, and is the only caller. Pure: no I/O here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from distributed.base.errors import CommClosedError, FatalCommClosedError

__all__ = ["BaseListener", "Comm", "CommClosedError", "Connector", "FatalCommClosedError", "Listener"]


class Comm(ABC):
    """One open connection of another package's transport.

    Parameters
    ----------
    deserialize : bool
        Kept for the transport; what passes here are bytes.
    """

    def __init__(self, deserialize: bool = True) -> None:
        self.deserialize = deserialize
        self.name: str | None = None
        self.local_info: dict[str, Any] = {}
        self.remote_info: dict[str, Any] = {}
        self.handshake_options: dict[str, Any] = {}

    @abstractmethod
    async def read(self, deserializers: Any = None) -> Any:
        """The next message that the peer has written. Raises CommClosedError when there will be none."""

    @abstractmethod
    async def write(self, msg: Any, serializers: Any = None, on_error: Any = None) -> Any:
        """Send one message. Raises CommClosedError when that is impossible."""

    @abstractmethod
    async def close(self) -> None:
        """Send what is pending and end. Idempotent."""

    @abstractmethod
    def abort(self) -> None:
        """End now. Idempotent."""

    @abstractmethod
    def closed(self) -> bool:
        """Whether this end is closed."""

    @property
    @abstractmethod
    def local_address(self) -> str:
        """The address of this end."""

    @property
    @abstractmethod
    def peer_address(self) -> str:
        """The address of the other end."""

    @property
    def extra_info(self) -> dict[str, Any]:
        """What else the transport knows of the link."""
        return {}

    def __repr__(self) -> str:
        state = " (closed)" if self.closed() else ""
        return f"<{type(self).__name__}{state} local={self.local_address} remote={self.peer_address}>"


class Listener(ABC):
    """Where connections of another package's transport arrive.

    Each goes to the ``handle_comm`` that ``Backend.get_listener`` was given: a coroutine function of the comm, which
    returns when the comm is closed.
    """

    @abstractmethod
    async def start(self) -> None:
        """Begin to listen. Raises OSError when that is impossible."""

    @abstractmethod
    def stop(self) -> None:
        """Take no more connections. Idempotent."""

    @property
    @abstractmethod
    def listen_address(self) -> str:
        """Where it listens, with its scheme."""

    @property
    @abstractmethod
    def contact_address(self) -> str:
        """Where others find it, with its scheme."""

    async def on_connection(self, comm: Comm, handshake_overrides: dict[str, Any] | None = None) -> None:  # noqa: B027
        """Nothing: the peer is authenticated by ``handle_comm``, the same way for every transport."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.listen_address}>"


class BaseListener(Listener):
    """A ``Listener`` whose ``stop`` may end those that are in the handshake."""

    def abort_handshaking_comms(self) -> None:
        """Nothing: whoever listens by this transport ends its strangers itself when it stops."""


class Connector(ABC):
    """The connecting side of another package's transport."""

    @abstractmethod
    async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> Comm:
        """A comm to ``address`` (without scheme). Raises OSError, which CommClosedError is, when there is none.

        ``connection_args`` are those of the ``Security``: ``ssl_context``, ``require_encryption``,
        ``extra_conn_args``.
        """
