"""Transports of other packages by scheme: an open mapping, filled by hand or by the entry points of installed packages.

A scheme in :data:`backends` goes before this house's own of the same name. Loads entry points when an unknown scheme is
asked for; opens no connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from distributed.base.lazy import lazy_module
from distributed.comm.core import Comm, Connector, Listener

if TYPE_CHECKING:
    from importlib import metadata
else:
    metadata = lazy_module("importlib.metadata")  # every process loads this file, few ask for entry points

ENTRY_POINTS = "distributed.comm.backends"


class Backend(ABC):
    """A transport of another package; ``loc`` is an address without its scheme."""

    @abstractmethod
    def get_connector(self) -> Connector:
        """What connects."""

    @abstractmethod
    def get_listener(
        self, loc: str, handle_comm: Callable[[Comm], Awaitable[None]], deserialize: bool, **connection_args: Any
    ) -> Listener:
        """What listens at ``loc``, not yet started, and gives each connection to ``handle_comm``."""

    @abstractmethod
    def get_address_host(self, loc: str) -> str:
        """The host of ``loc``."""

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Host and port of ``loc``; NotImplementedError when the transport has none."""
        raise NotImplementedError

    @abstractmethod
    def resolve_address(self, loc: str) -> str:
        """``loc`` with its host name replaced by an ip address."""

    @abstractmethod
    def get_local_address_for(self, loc: str) -> str:
        """A location on this machine that whoever is at ``loc`` can reach, without a port."""


backends: dict[str, Any] = {}
"""Scheme -> :class:`Backend`. Assign to it to add a transport to this process."""


def find_backend(scheme: str, installed: bool = True) -> Any | None:
    """The backend of a scheme, or None; ``installed``: ask the entry points of installed packages, too.

    Raises whatever loading the entry point raises.
    """
    found = backends.get(scheme)
    if found is None and installed:
        for entry in metadata.entry_points(group=ENTRY_POINTS, name=scheme):
            found = backends[scheme] = entry.load()()
            break
    return found
