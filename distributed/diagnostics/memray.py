"""Where workers and the scheduler allocate memory, as told by memray: one report of each process. Shell.

memray is a package of its own, which this one does not ask for: install it where the client, the scheduler and the
workers run. It follows every allocation of a process, which costs time, and can follow a process only once at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from distributed.base import defaults

REPORT = ("flamegraph", "--temporal", "--leaks")
"""How ``python -m memray`` makes a report of what was recorded."""

_running: dict[str, tuple[Any, str]] = {}  # what is followed in this process: the tracker, and its file


@contextlib.contextmanager
def memray_workers(
    directory: str | Path = "memray-profiles",
    workers: int | Sequence[str | int] | None = None,
    report_args: Sequence[str] | Literal[False] = REPORT,
    fetch_reports_parallel: bool | int = True,
) -> Iterator[None]:
    """Follow the memory of workers inside of the block, and leave a report of each in ``directory``.

    Parameters
    ----------
    directory : str or Path
        Of this program; made if need be. A report is named like its worker.
    workers : int or list of str or int, optional
        How many, or which (addresses or names). Default: all.
    report_args : list of str or False
        Arguments of ``python -m memray``, which makes the report where the worker runs. False: what was recorded.
    fetch_reports_parallel : bool or int
        How many workers make and send their reports at a time; True: all, False: one after the other.

    Raises
    ------
    ImportError
        memray is not installed here, or not on a worker.
    """
    _memray()
    client = defaults.load("get_client")()
    found = client.scheduler_info(n_workers=-1)["workers"]
    addresses = _chosen(found, workers)
    names = {address: str(found[address].get("name", address)) for address in addresses}
    client.run(_start, workers=addresses)
    try:
        yield
    finally:
        client.run(_stop, workers=addresses)
        at_a_time = len(addresses) if fetch_reports_parallel is True else int(fetch_reports_parallel) or 1
        for i in range(0, len(addresses), at_a_time):
            for address, report in client.run(_report, report_args, workers=addresses[i : i + at_a_time]).items():
                _save(directory, names[address], report, report_args)


@contextlib.contextmanager
def memray_scheduler(
    directory: str | Path = "memray-profiles", report_args: Sequence[str] | Literal[False] = REPORT
) -> Iterator[None]:
    """Follow the memory of the scheduler inside of the block, and leave a report ``scheduler`` in ``directory``.

    Parameters
    ----------
    directory, report_args
        See :func:`memray_workers`.
    """
    _memray()
    client = defaults.load("get_client")()
    client.run_on_scheduler(_start)
    try:
        yield
    finally:
        client.run_on_scheduler(_stop)
        _save(directory, "scheduler", client.run_on_scheduler(_report, report_args), report_args)


def _chosen(found: dict[str, Any], workers: int | Sequence[str | int] | None) -> list[str]:
    if workers is None:
        return list(found)
    if isinstance(workers, int) and not isinstance(workers, bool):
        return list(found)[:workers]
    if isinstance(workers, str) or not isinstance(workers, Sequence):
        raise TypeError(f"workers= takes a number, or a list of addresses or names, not {workers!r}")
    wanted = set(workers)
    chosen = [address for address, worker in found.items() if address in wanted or worker.get("name") in wanted]
    if len(chosen) < len(wanted):
        raise ValueError(f"not all of workers={workers!r} are there: {list(found)}")
    return chosen


def _save(directory: str | Path, name: str, report: bytes, report_args: Sequence[str] | Literal[False]) -> None:
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    safe = "".join([c if c.isalnum() or c in "-_." else "_" for c in name])
    (folder / f"{safe}.{'memray' if report_args is False else 'html'}").write_bytes(report)


# -- in the processes that are looked at -------------------------------------------------------------------------------


def _memray() -> Any:
    try:
        return importlib.import_module("memray")
    except ImportError as e:
        raise ImportError(
            f"{sys.executable} has no memray, which follows the memory: install it (pip install memray) wherever "
            "the client, the scheduler and the workers run"
        ) from e


def _start() -> None:
    if _running:
        raise RuntimeError(f"memray follows process {os.getpid()} already: end the other block first")
    folder = tempfile.mkdtemp(prefix="memray-")
    path = os.path.join(folder, "recorded.memray")
    tracker = _memray().Tracker(path)
    tracker.__enter__()
    _running["tracker"] = tracker, path


def _stop() -> None:
    tracker, _ = _running["tracker"]
    tracker.__exit__(None, None, None)


async def _report(report_args: Sequence[str] | Literal[False]) -> bytes:
    """What was recorded, or what memray makes of it; it is gone here then."""
    _, path = _running.pop("tracker")
    made = path
    try:
        if report_args is not False:
            made = f"{path}.html"
            command = [sys.executable, "-m", "memray", *report_args, "-f", "-o", made, path]
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
            said, _ = await process.communicate()
            if process.returncode:
                raise RuntimeError(f"{' '.join(command[1:])} has failed: {said.decode(errors='replace').strip()}")
        return await asyncio.to_thread(Path(made).read_bytes)
    finally:
        for left in {path, made}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)
        os.rmdir(os.path.dirname(path))
