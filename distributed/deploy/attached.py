"""A program that lives for as long as somebody holds its standard input: one server, or several, in another process,
here or on another machine. Shell.

It runs ``python -m distributed.cli.dask_spec --attached``. What it should be comes as one line on its standard input,
the cluster's secret in it, so that this is neither in ``argv`` nor in the environment; the end of that input, which the
end of who holds it brings about too, ends the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from distributed.base import settings
from distributed.base.status import Status
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.deploy.members import ProcessInterface

__all__ = ["PROGRAM", "AttachedProcess", "AttachedScheduler", "OnLine", "Program"]

logger = logging.getLogger("distributed.deploy.attached")

PROGRAM = "distributed.cli.dask_spec"
_START_S = 120.0
_END_S = 15.0
_TAIL_LINES = 20
OnLine = Callable[[str, str], None]


class Program(Protocol):
    """A running program, wherever it is."""

    def write(self, text: str) -> None:
        """To its standard input."""

    def write_eof(self) -> None:
        """End its standard input."""

    async def readline(self) -> str:
        """A line of its standard output; empty at the end."""

    def errors(self) -> AsyncIterator[str]:
        """The lines of its standard error."""

    async def wait(self) -> int | None:
        """Until it has ended: its exit code; None if nobody can tell."""

    def kill(self) -> None: ...

    async def close(self) -> None:
        """End what it was reached by."""


class AttachedProcess(ProcessInterface):
    """One such program, for as long as this object is open.

    Parameters
    ----------
    place
        Where it runs, as errors and lines of logs call it.
    secret
        The cluster's.
    on_line
        Gets ``place`` and text of each line that the program prints.
    log_directory
        Directory there in which a copy of it is kept.
    """

    what = "program"
    silence_logs: int | None = None
    """Least level of its log lines; None: as the settings say."""

    def __init__(
        self, place: str, secret: Secret, on_line: OnLine, log_directory: str | None = None, name: Any = None
    ) -> None:
        super().__init__()
        self.place, self.name = place, name
        self.secret = secret
        self.on_line = on_line
        self.log_directory = log_directory
        self.start_s = _START_S
        self._program: Program | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def request(self) -> dict[str, Any]:
        """What the program should be; see ``distributed.cli.dask_spec``."""
        raise NotImplementedError

    async def launch(self) -> Program:
        """Start the program. ``RuntimeError`` says why that cannot be."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What the program's settings should be: those of this process, and as quiet as ``silence_logs``."""
        found = settings.snapshot()
        if not self.silence_logs:
            return found
        own = dict(found.get("distributed") or {})
        own["logging"] = {**(own.get("logging") or {}), "distributed": self.silence_logs}
        return {**found, "distributed": own}

    async def start(self) -> None:
        """Start the program, and wait until it listens. ``RuntimeError`` says where and what was wrong."""
        try:
            async with asyncio.timeout(self.start_s):
                line = self._as_line()
                self._program = await self.launch()
                self._program.write(line)
                self._tasks = [asyncio.ensure_future(self._read_stderr())]
                answer = await self._answer()
        except TimeoutError:
            await self._end()
            raise RuntimeError(f"{self.place}: the {self.what} has not started in {self.start_s:.0f} s") from None
        except BaseException:
            await self._end()
            raise
        self.address = answer["address"]
        self._tasks.append(asyncio.ensure_future(self._watch()))
        await super().start()

    def _as_line(self) -> str:
        logs = None if self.log_directory is None else [self.log_directory, f"dask-{self.what}-{self.place}.log"]
        document = {"secret": self.secret.reveal(), "settings": self.settings(), "logs": logs, **self.request()}
        try:
            return json.dumps(document, default=_plain) + "\n"
        except (TypeError, ValueError) as e:
            raise TypeError(f"options of a {self.what} in another process must be plain data (JSON): {e}") from None

    async def _answer(self) -> dict[str, Any]:
        """The first line in JSON on the program's standard output: all before it is for people."""
        assert self._program is not None
        while line := await self._program.readline():
            with contextlib.suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict) and "address" in answer:
                    return answer
            self._say(line)
        await asyncio.wait(self._tasks, timeout=1)
        said = [line for line in self._tail if line.strip()]
        errors = [line for line in said if line.startswith("Error: ")] or said
        told = errors[-1] if errors else f"exit code {await self._program.wait()}, nothing on stderr"
        raise RuntimeError(f"{self.place}: the {self.what} did not start: {told}")

    def _say(self, line: str) -> None:
        text = line.rstrip()
        if not text:  # what asyncssh reads at the end is an empty line
            return
        self._tail.append(text)
        self.on_line(self.place, text)

    async def _read_stderr(self) -> None:
        assert self._program is not None
        async for line in self._program.errors():
            self._say(line)

    async def _watch(self) -> None:
        """Notice that the program has ended by itself, or that its machine is gone."""
        program = self._program
        assert program is not None
        while line := await program.readline():
            self._say(line)
        code = await program.wait()
        if self.status is Status.running:
            self._say(
                f"the {self.what} has ended" + (" with its connection" if code is None else f", exit code {code}")
            )
            self.ended(failed=code != 0)

    async def close(self) -> None:
        """End the program in order, in haste after 15 s."""
        if self.status is not Status.closed:
            self.status = Status.closing
            await self._end()
            await super().close()

    async def _end(self) -> None:
        program, self._program = self._program, None
        if program is not None:
            with contextlib.suppress(OSError):
                program.write_eof()
            try:
                async with asyncio.timeout(_END_S):
                    await program.wait()
            except TimeoutError:
                logger.warning("The %s on %s does not end; it is killed", self.what, self.place)
                with contextlib.suppress(Exception):
                    program.kill()
            await program.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.place}: {self.address or 'no address yet'}, {self.status.name}>"


class AttachedScheduler(AttachedProcess):
    """A scheduler as such a program: this process, and this user's programs here, know its secret while it runs.

    ``options`` are the keywords of ``Scheduler``.
    """

    what = "scheduler"
    options: Mapping[str, Any]

    def request(self) -> dict[str, Any]:
        return {"spec": {"scheduler": {"cls": "distributed.Scheduler", "opts": dict(self.options)}}}

    async def start(self) -> None:
        await super().start()
        assert self.address is not None
        secrets.register(self.address, self.secret)
        if secrets.from_environment() is None:
            secrets.save(self.secret, [self.address])  # so that this user's programs here may join

    async def close(self) -> None:
        await super().close()
        if secrets.from_environment() is None:
            secrets.remove(self.secret)


def _plain(value: Any) -> Any:
    """Sets of the configuration as lists; nothing else that is no plain data."""
    if isinstance(value, set | frozenset | tuple):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} {value!r}")
