"""What the command lines share: ports, log lines, pid files, waiting for scheduler files, errors in one line."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from distributed.base import settings
from distributed.base.errors import CommClosedError, InsecureListenError
from distributed.cli.command import Command
from distributed.comm.secrets import StaleFileError, UnsafeFileError, read_scheduler_file


def fail(message: str, code: int = 1) -> NoReturn:
    """End with one line on stderr."""
    text = " ".join(message.split())
    click.echo(f"Error: {text}", err=True)
    sys.stderr.flush()
    raise SystemExit(code)


class StartError(Exception):
    """The program cannot do its work; the text is for the user."""


def preload_arguments(context: click.Context, given: dict[str, Any], role: str) -> list[str]:
    """What is left of the command line (taken out of ``given``) belongs to start-up code, named by ``--preload`` or the
    configuration; without any it is a mistake."""
    arguments = [str(argument) for argument in given.pop("preload_argv")]
    if arguments and not given["preload"] and not settings.get(f"distributed.{role}.preload", None):
        first = arguments[0]
        if first.startswith("-") and isinstance(context.command, Command):
            raise context.command.no_such_option(first)
        raise click.UsageError(f"Got unexpected extra argument ({first})")
    return arguments


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
            if isinstance(e, StaleFileError):
                problem = "is that of a scheduler which has ended"
        except OSError as e:
            raise StartError(f"cannot read --scheduler-file {path}: {e.strerror or e}") from None
        if deadline is not None and time.monotonic() > deadline:
            raise StartError(f"--scheduler-file {path} {problem} after {timeout} s")
        if not said and pause > 0.2:
            said = True
            logging.getLogger("distributed.cli").info("Waiting for the scheduler file %s, which %s", path, problem)
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def exit_code(e: BaseException) -> int:
    """2 when what was asked for is refused as unsafe, which is a wrong command line; else 1."""
    cause: BaseException | None = e
    while cause is not None:
        if isinstance(cause, InsecureListenError):
            return 2
        cause = cause.__cause__
    return 1


def explain(e: BaseException) -> str:
    """An error in one line, for people who started a program and not a debugger."""
    cause: BaseException | None = e
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, CommClosedError | TimeoutError):
            reason = cause.strerror or str(cause)
            return f"{cause.filename}: {reason}" if isinstance(cause.filename, str) else reason
        cause = cause.__cause__
    return str(e) or type(e).__name__
