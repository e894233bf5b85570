"""What can go wrong in a shuffle that is nobody's mistake in calling it."""

from __future__ import annotations


class ShuffleFailedError(RuntimeError):
    """A participant could not do its part (a full disk, say): the text names it and the reason."""


class RunEndedError(Exception):
    """The run is over for this worker; whoever meets this asks for the present one. Never leaves the room."""
