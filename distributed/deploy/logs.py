"""Log texts as they are shown: plain in a terminal, folded in a notebook. Pure."""

from __future__ import annotations

import html
from typing import Any

__all__ = ["Log", "Logs"]


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
