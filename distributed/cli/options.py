"""What the command lines share: options, ports, log lines, scheduler files, and an orderly end on a signal."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from distributed.base.ending import EndSignals
from distributed.base.errors import CommClosedError
from distributed.base.formatting import parse_timedelta
from distributed.comm.secrets import UnsafeFileError, read_scheduler_file

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "ignore_unknown_options": True}


def fail(message: str, code: int = 1) -> NoReturn:
    """End with one line on stderr."""
    text = " ".join(message.split())
    click.echo(f"Error: {text}", err=True)
    sys.stderr.flush()
    raise SystemExit(code)


class StartError(Exception):
    """The program cannot do its work; the text is for the user."""


def preload_arguments(preload: tuple[str, ...], preload_argv: tuple[str, ...]) -> list[str]:
    """What is left of the command line belongs to the preload module; without one it is a mistake."""
    if preload_argv and not preload:
        first = preload_argv[0]
        if first.startswith("-"):
            raise click.NoSuchOption(first)
        raise click.UsageError(f"Got unexpected extra argument ({first})")
    return list(preload_argv)


def parse_ports(port: Any) -> list[int | None]:
    """``"9000:9003"`` as ``[9000, 9001, 9002, 9003]``; one port as a list of one; nothing as ``[None]``.

    Raises ``ValueError`` when it is neither a port nor a range that goes up.
    """
    if port is None or port == "":
        return [None]
    first, colon, last = str(port).partition(":")
    try:
        low = int(first)
        high = int(last) if colon else low
    except ValueError:
        raise ValueError(f"not a port or a range first:last of ports: {port!r}") from None
    if high < low or (colon and high == low):
        raise ValueError(f"the last port of a range must be greater than its first: {port!r}")
    if low < 0 or high > 65535:
        raise ValueError(f"ports lie between 0 and 65535: {port!r}")
    return list(range(low, high + 1))


class PortsType(click.ParamType):  # type: ignore[type-arg]
    """A port or a range ``first:last``; a busy port of a range is passed over."""

    name = "port or first:last"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            parse_ports(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)
        return value


class DurationType(click.ParamType):  # type: ignore[type-arg]
    """Seconds, or text such as ``"5 minutes"``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_timedelta(value)
        except (ValueError, TypeError, KeyError):
            self.fail(f"not a duration such as 60 or '5 minutes': {value!r}", param, ctx)


def show_logs() -> None:
    """Log lines of the engine from INFO on go to stderr, with time and place."""
    logger = logging.getLogger("distributed")
    if logger.level == logging.NOTSET or logger.level > logging.INFO:
        logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        for handler in [h for h in logger.handlers if type(h) is logging.StreamHandler]:
            logger.removeHandler(handler)
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


class _StderrHandler(logging.StreamHandler[Any]):
    pass


@contextlib.contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """The process id in a file, for as long as the program runs."""
    if not path:
        yield
        return
    try:
        Path(path).write_text(f"{os.getpid()}")
    except OSError as e:
        fail(f"cannot write --pid-file {path}: {e.strerror}")
    remove = functools.partial(Path(path).unlink, missing_ok=True)
    atexit.register(remove)
    try:
        yield
    finally:
        remove()
        atexit.unregister(remove)


async def wait_for_scheduler_file(path: str, timeout: float | None) -> str:
    """The scheduler's address in the file, once that is complete; its secret becomes known to this process."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.01
    said = False
    while True:
        try:
            identity, _ = read_scheduler_file(path)
            return str(identity["address"])
        except UnsafeFileError as e:
            raise StartError(f"--scheduler-file {path}: {e.strerror or e}") from None
        except (FileNotFoundError, ValueError) as e:
            problem = "does not exist" if isinstance(e, FileNotFoundError) else "is not complete"
        except OSError as e:
            raise StartError(f"cannot read --scheduler-file {path}: {e.strerror or e}") from None
        if deadline is not None and time.monotonic() > deadline:
            raise StartError(f"--scheduler-file {path} {problem} after {timeout} s")
        if not said and pause > 0.2:
            said = True
            logging.getLogger("distributed.cli").info("Waiting for the scheduler file %s, which %s yet", path, problem)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def end_signals(task: asyncio.Task[Any], name: str) -> EndSignals:
    """The first signal that asks for an end cancels ``task``; see :mod:`distributed.base.ending` for later ones."""

    def on_first(number: signal.Signals) -> None:
        logging.getLogger("distributed.cli").info("Received signal %s (%d); closing %s", number.name, number, name)
        task.cancel()

    return EndSignals(on_first)


async def until_signal(life: Callable[[], Coroutine[Any, Any, Any]], name: str) -> EndSignals:
    """Run ``life`` to its end, or until a signal comes, which cancels it. What ``life`` raises is raised here."""
    task = asyncio.get_running_loop().create_task(life())
    signals = end_signals(task, name)
    await asyncio.wait([task])
    if not task.cancelled():
        error = task.exception()
        if error is not None and not signals.count:
            raise error
    return signals


def explain(e: BaseException) -> str:
    """An error in one line, for people who started a program and not a debugger."""
    cause: BaseException | None = e
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, CommClosedError | TimeoutError):
            return str(cause)
        cause = cause.__cause__
    return str(e) or type(e).__name__
