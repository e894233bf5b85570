"""Whether somebody listens at an address, and whether there is a way to it at all, without a word said; and what the
end of a connection tells. Shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum

from distributed.base.errors import CommClosedError
from distributed.comm import addressing


class PeerEnded(ConnectionResetError):
    """Its system has closed the connection, with nothing said in TLS: as when a process ends, or somebody cuts off."""


def was_cut(error: BaseException | None) -> bool:
    """Whether the network has ended a connection, by what its ``on_close`` was told; and not its peer, or we."""
    cause = getattr(error, "__cause__", None)
    return isinstance(cause, OSError) and not isinstance(cause, (PeerEnded, CommClosedError))


class Door(enum.Enum):
    """What became of a knock."""

    OPEN = "somebody listens"
    SHUT = "nobody listens"
    NO_WAY = "no answer"
    UNKNOWN = "no address of a network"


async def knock(address: str, timeout: float) -> Door:
    """Try to connect to a ``tcp://`` or ``tls://`` address.

    The system of a machine answers even when its programs stand still. No answer, or one that says that there is no
    way, is a network that is cut, a firewall, or a machine that is gone.
    """
    scheme, _, location = address.partition("://")
    if scheme not in ("tcp", "tls"):
        return Door.UNKNOWN
    try:
        host, port = addressing.parse_host_port(location)
    except ValueError:
        return Door.UNKNOWN
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return Door.SHUT
    except (OSError, TimeoutError):
        return Door.NO_WAY
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Door.OPEN
