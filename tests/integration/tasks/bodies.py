"""What the tasks of these tests do. They say how far they are, and how they end, in files of a directory."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from distributed import current_task_cancelled, worker_client

LIMIT_S = 60.0


def until(fact: Any, what: str) -> Any:
    """Wait for a fact."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := fact()):
        assert time.monotonic() < deadline, f"{what} has not come about"
        time.sleep(0.01)
    return found


def note(place: str, name: str, text: str = "") -> None:
    path = Path(place, name)
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").rename(path)


def noted(place: Any, name: str) -> str:
    return until(lambda: Path(place, name).exists() and f" {Path(place, name).read_text()}", name).strip()


def polite(place: str) -> str:
    """Ends when it is asked."""
    note(place, "begun")
    while not current_task_cancelled():
        time.sleep(0.01)
    note(place, "ended", "was asked")
    return "too late"


def stubborn(place: str) -> None:
    """Never asks, and catches what it can."""
    note(place, "begun")
    try:
        while True:
            try:
                sum(range(1000))
            except Exception:
                pass
    except BaseException as error:
        note(place, "ended", type(error).__name__)
        raise


def deaf(place: str, seconds: float) -> str:
    """Cannot be interrupted: all in one call into C."""
    note(place, "begun")
    time.sleep(seconds)
    note(place, "ended")
    return "late"


def waits_for_file(place: str) -> None:
    """Nobody asks it to end before it is told so."""
    note(place, "begun")
    while not os.path.exists(os.path.join(place, "go")):
        time.sleep(0.01)
    note(place, "ended")


async def asleep(place: str) -> None:
    note(place, "begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(place, "ended", "CancelledError")
        raise


def apart(place: str) -> None:
    """For a process of its own, whose number it tells."""
    note(place, "begun", str(os.getpid()))
    time.sleep(10 * LIMIT_S)


def waits_for_another(place: str) -> Any:
    """Waits for a task that ends only when it is cancelled."""
    with worker_client() as client:
        Path(place, "child").mkdir()
        child = client.submit(polite, str(Path(place, "child")))
        note(place, "begun")
        try:
            return child.result()
        except BaseException as error:
            note(place, "ended", type(error).__name__)
            child.cancel()
            raise
