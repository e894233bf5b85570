"""Published datasets: values (mostly collections of futures) kept under a name for other clients. Shell.

The scheduler keeps the client's pickle unopened. A mute client of its own wants the keys, so that they stay when the
publishing client goes.
"""

from __future__ import annotations

from typing import Any

from distributed.base.keys import as_key
from distributed.messages.client_to_scheduler import WantKeys
from distributed.messages.payload import Payload
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine.events import ClientJoined, ClientLeft


class Datasets:
    """The datasets of one scheduler."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._data: dict[Any, Payload] = {}

    def put(self, name: Any, data: Payload, keys: list[Any], override: bool = False) -> None:
        """Keep ``data``, and hold ``keys`` for it. Raises KeyError when the name is taken, unless ``override``."""
        name = _plain(name)
        if name in self._data and not override:
            raise KeyError(f"Dataset {name} already exists")
        self.delete(name)
        self._data[name] = data
        holder = _holder(name)
        self._shell.apply(ClientJoined(holder, mute=True))
        self._shell.apply(WantKeys([as_key(key) for key in keys]), source=holder)

    def get(self, name: Any) -> Payload | None:
        """What was published; None when there is nothing."""
        return self._data.get(_plain(name))

    def delete(self, name: Any) -> None:
        """Forget it; harmless when there is nothing."""
        name = _plain(name)
        if self._data.pop(name, None) is not None:
            self._shell.apply(ClientLeft(_holder(name)))

    def names(self) -> list[Any]:
        """All names."""
        return sorted(self._data, key=str)


def _plain(name: Any) -> Any:
    return tuple([_plain(part) for part in name]) if isinstance(name, (list, tuple)) else name


def _holder(name: Any) -> str:
    return f"published-{name!r}"
