"""The states in the life of a server (scheduler, worker, nanny) or cluster. Pure."""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """Where a server stands in its life.

    ``created``, ``init`` and ``starting`` come before ``running``; a ``paused`` worker starts no task;
    ``closing_gracefully`` gives its data away first. ``dont_reply`` and ``undefined`` are answers, not states.
    """

    undefined = "undefined"
    created = "created"
    init = "init"
    starting = "starting"
    running = "running"
    paused = "paused"
    stopping = "stopping"
    stopped = "stopped"
    closing = "closing"
    closing_gracefully = "closing_gracefully"
    failed = "failed"
    closed = "closed"
    dont_reply = "dont_reply"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in _FINAL


Status.lookup = {status.name: status for status in Status}  # type: ignore[attr-defined]
_FINAL = frozenset({Status.closed, Status.failed, Status.stopped})
