"""Jobs of ``fire_and_forget``: what they are, and cancelling them, for any client. Shell."""

from __future__ import annotations

from typing import Any

from distributed.base.keys import as_key
from distributed.messages.client_to_scheduler import CancelKeys
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine.tables import FIRE_AND_FORGET


class Detached:
    """The detached jobs of one scheduler."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def list(self) -> list[tuple[Any, str, str]]:
        """``(key, state, address of the worker it is on or "")`` of those that have not ended, oldest first."""
        return [
            (ts.key, ts.state, ts.processing_on.address if ts.processing_on is not None else "")
            for ts in self._shell.state.fire_and_forget.wants_what
        ]

    def cancel(self, keys: Any = None, reason: str = "", msg: str = "") -> Any:
        """Cancel those of ``keys`` (None: all) that are detached jobs; the keys of these. What a client holds a future
        of stays."""
        detached = [ts.key for ts in self._shell.state.fire_and_forget.wants_what]
        if keys is not None:
            wanted = {as_key(key) for key in keys}
            detached = [key for key in detached if key in wanted]
        self._shell.apply(CancelKeys(detached, reason=reason, msg=msg), source=FIRE_AND_FORGET)
        return detached
