"""Connections that were closed because bad bytes came: counted by the peer's host, and told. Shell."""

from __future__ import annotations

import logging
from collections import Counter

from distributed.base.errors import FrameError
from distributed.base.log_limit import LogLimit

logger = logging.getLogger("distributed.comm")

by_host: Counter[str] = Counter()
"""How many this process has closed."""
_log = LogLimit(logger)


def note(peer: str, role: str, error: Exception) -> str:
    """The stream from the peer at this address ends because of ``error``; says what was wrong, in words."""
    host = peer.rpartition(":")[0] if peer.startswith("tcp") else peer
    by_host[host] += 1
    text = str(error) if isinstance(error, FrameError) else f"{type(error).__name__}: {error}"
    _log.warn(
        host,
        "Closed the connection to a %s at %s, whose bytes cannot be used: %s (bad stream %d from %s)",
        role or "peer",
        peer,
        text,
        by_host[host],
        host,
    )
    return text
