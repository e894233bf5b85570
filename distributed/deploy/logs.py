"""Log texts as they are shown, plain in a terminal, folded in a notebook; and which log lines show at all. Shell."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["Log", "Logs", "silence"]


class Log(str):
    """The log of one server, its lines joined."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f"<pre><code>{html.escape(str(self).rstrip())}</code></pre>"


class Logs(dict[str, Any]):
    """Logs by the name of the server."""

    def _repr_html_(self) -> str:
        return "\n".join(
            f"<details><summary>{html.escape(str(name))}</summary>{Log(text)._repr_html_()}</details>"
            for name, text in sorted(self.items(), key=lambda item: str(item[0]))
        )


def silence(level: Any) -> Callable[[], None]:
    """Show log lines of the engine from ``level`` on (a number, or a name such as ``"error"``); the result undoes it.

    A false value changes nothing.
    """
    if not level:
        return lambda: None
    if isinstance(level, str):
        level = level.upper()
    root = logging.getLogger("distributed")
    before = root.level
    root.setLevel(logging.WARNING if level is True else level)
    done = False

    def undo() -> None:
        nonlocal done
        if not done:
            done = True
            root.setLevel(before)

    return undo
