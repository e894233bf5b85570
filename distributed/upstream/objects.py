"""``distributed.objects``: answers of the scheduler as dicts that show well in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from distributed.base.formatting import format_bytes


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    cells = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


class _Listing(dict[Any, Any]):
    """A dict of lists, shown as a table of counts."""

    _head: tuple[str, str, str] = ("", "", "")

    def _repr_html_(self) -> str:
        rows = [(name, len(items), ", ".join(map(str, list(items)[:10]))) for name, items in self.items()]
        return _table(self._head, rows)


class HasWhat(_Listing):
    """``{worker: [key, ...]}``."""

    _head = ("Worker", "Keys", "First keys")


class WhoHas(_Listing):
    """``{key: [worker, ...]}``."""

    _head = ("Key", "Copies", "Workers")


class SchedulerInfo(dict[str, Any]):
    """What ``client.scheduler_info()`` tells: address, workers and their threads and memory."""

    def _repr_html_(self) -> str:
        workers: Mapping[str, Mapping[str, Any]] = self.get("workers") or {}
        rows = [
            (address, info.get("name", ""), info.get("nthreads", ""), format_bytes(info.get("memory_limit") or 0))
            for address, info in workers.items()
        ]
        title = f"<h4>Scheduler {html.escape(str(self.get('address', '')))}</h4>"
        return title + _table(("Worker", "Name", "Threads", "Memory limit"), rows)
