"""``with performance_report("report.html"):`` what a computation cost, as one page to look at or to send. Shell."""

from __future__ import annotations

import html
import inspect
import os
import time
from typing import Any

from distributed.base.formatting import format_bytes, format_time
from distributed.base.keys import as_key, key_prefix
from distributed.client.current import default_client
from distributed.diagnostics.memory_sampler import MemorySampler
from distributed.diagnostics.pictures import Picture, memory_picture, page, profile_picture, task_stream_picture


class performance_report:
    """Gathers task stream, profile and memory of what runs inside of a block, and writes them as an HTML page.

    Parameters
    ----------
    filename
        The page.
    stacklevel
        How far up the stack the code stands that the page shows; 1: where the block is.
    mode, storage_options
        ``mode`` is accepted for older code; with ``storage_options`` the name is a URL for fsspec.

    Examples
    --------
    >>> with performance_report("report.html"):  # doctest: +SKIP
    ...     total.compute()
    """

    def __init__(
        self,
        filename: str | os.PathLike[str] = "dask-report.html",
        stacklevel: int = 1,
        mode: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self.filename = os.fspath(filename)
        self.stacklevel = stacklevel
        self.storage_options = storage_options
        self._memory = MemorySampler()

    def __enter__(self) -> performance_report:
        self.client = default_client()
        self._code = _code_at(self.stacklevel + 1)
        self.client.get_task_stream(start=0, stop=0)
        self._sampling = self._memory.sample("memory of all workers", client=self.client, interval=0.1)
        self._sampling.__enter__()
        self.start = time.time()
        self._begun = time.monotonic()
        return self

    def __exit__(self, *exc: object) -> None:
        self._sampling.__exit__(None, None, None)
        records = self.client.get_task_stream(start=self.start)
        self._write(records, self.client.profile(start=self.start), self.client.scheduler_info())

    async def __aenter__(self) -> performance_report:
        self.client = default_client()
        self._code = _code_at(self.stacklevel + 1)
        await self.client.get_task_stream(start=0, stop=0)
        self._sampling = self._memory.sample("memory of all workers", client=self.client, interval=0.1)
        await self._sampling.__aenter__()
        self.start = time.time()
        self._begun = time.monotonic()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._sampling.__aexit__(None, None, None)
        records = await self.client.get_task_stream(start=self.start)
        self._write(records, await self.client.profile(start=self.start), self.client.scheduler_info())

    def _write(self, records: list[dict[str, Any]], tree: Any, info: dict[str, Any]) -> None:
        took = time.monotonic() - self._begun
        text = page(
            "Performance report",
            _summary(records, info, took),
            _section(task_stream_picture(records)),
            _section(profile_picture(tree)),
            _section(memory_picture(self._memory.samples)),
            f"<h2>Code</h2><pre>{html.escape(self._code)}</pre>",
        )
        if self.storage_options is not None or "://" in self.filename:
            import fsspec  # type: ignore[import-untyped]

            with fsspec.open(self.filename, "w", **(self.storage_options or {})) as file:
                file.write(text)
        else:
            with open(self.filename, "w", encoding="utf-8") as file:
                file.write(text)


def _section(picture: Picture) -> str:
    return f"<h2>{picture.title}</h2>{picture.svg}"


def _summary(records: list[dict[str, Any]], info: dict[str, Any], took_s: float) -> str:
    workers = info.get("workers", {})
    facts = {
        "Duration": format_time(took_s),
        "Tasks": f"{len(records)}, {sum(record['status'] != 'OK' for record in records)} of them failed",
        "Time in tasks": format_time(sum(part["stop"] - part["start"] for r in records for part in r["startstops"])),
        "Workers": len(workers),
        "Threads": sum(worker["nthreads"] for worker in workers.values()),
        "Memory": format_bytes(sum(worker["memory_limit"] or 0 for worker in workers.values())),
        "Scheduler": info.get("address", ""),
    }
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<table>{rows}</table><h2>By kind of task</h2>{_by_prefix(records)}"


def _by_prefix(records: list[dict[str, Any]]) -> str:
    totals: dict[str, list[float]] = {}
    for record in records:
        total = totals.setdefault(key_prefix(as_key(record["key"])), [0, 0.0, 0])
        total[0] += 1
        total[1] += sum(part["stop"] - part["start"] for part in record["startstops"])
        total[2] += record["nbytes"] or 0
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{n:g}</td><td>{format_time(took)}</td>"
        f"<td>{format_time(took / n)}</td><td>{format_bytes(int(size))}</td></tr>"
        for name, (n, took, size) in sorted(totals.items(), key=lambda item: -item[1][1])
    )
    return f"<table><tr><th>prefix<th>tasks<th>time<th>mean<th>results</tr>{rows}</table>"


def _code_at(stacklevel: int) -> str:
    try:
        frame = inspect.stack()[stacklevel].frame
        return inspect.getsource(frame)
    except (IndexError, OSError, TypeError):
        return ""
