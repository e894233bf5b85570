"""How a program of ours ends when signals tell it to: in order, then fast, then at once; and leaves nothing behind.

The first SIGTERM, SIGINT or SIGHUP asks for an orderly end. A second one gives that half a second more, a third one
nothing. Signals that come in a bunch (a terminal and a supervisor both pass on Ctrl-C) are one. What must not stay
behind is registered by whoever made it: files with ``atexit``, whose functions run also when the end is fast, and
child processes with ``in_haste``, because an orderly end has other ways for them. Shell.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_exit_now = os._exit  # as it was when this was loaded: a worker process replaces it by one that takes notes
_BUNCH_S = 0.2
_FAST_S = 0.5
_HARD_EXIT_S = 3.0
_in_haste: list[Callable[[], None]] = []


def in_haste(function: Callable[[], None]) -> Callable[[], None]:
    """Have ``leave`` call ``function``, after the exit handlers. A decorator."""
    _in_haste.append(function)
    return function


def leave(code: int) -> None:
    """End the process: exit handlers run, for at most three seconds; the interpreter is not taken apart."""
    timer = threading.Timer(_HARD_EXIT_S, _exit_now, (code,))
    timer.daemon = True
    timer.start()
    atexit._run_exitfuncs()
    for function in _in_haste:
        with contextlib.suppress(Exception):
            function()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    _exit_now(code)


class EndSignals:
    """Listens to the signals that end a program. Made in a coroutine, on the main thread.

    The handlers stay when the event loop is closed, so that a late signal is no traceback either.

    Parameters
    ----------
    on_first
        Called on the loop with the first signal; it begins the orderly end.

    Attributes
    ----------
    count : int
        How many have come, a bunch counted once.
    exit_code : int
        128 + the number of the last signal, as shells have it; 0 without one.
    """

    def __init__(self, on_first: Callable[[signal.Signals], None]) -> None:
        self.count = 0
        self.exit_code = 0
        self._on_first = on_first
        self._last = -_BUNCH_S
        self._loop = asyncio.get_running_loop()
        for number in ENDING_SIGNALS:
            # Under nohup a hangup is meant to be passed over.
            if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last < _BUNCH_S:
            return
        self._last = now
        self.count += 1
        self.exit_code = 128 + number
        if self.count == 1:
            self._call(lambda: self._on_first(signal.Signals(number)))
            return
        if self.count == 2:
            self._call(lambda: self._loop.call_later(_FAST_S, leave, self.exit_code))
        elif self.count == 3:
            leave(self.exit_code)
        else:
            _exit_now(self.exit_code)

    def finish(self) -> None:
        """The orderly end is done. Raises SystemExit when it was a signal that asked for it.

        Signals that still come find nobody: the interpreter is being taken apart, in three seconds at most.
        """
        if not self.count:
            return
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        timer = threading.Timer(_HARD_EXIT_S, _exit_now, (self.exit_code,))
        timer.daemon = True
        timer.start()
        raise SystemExit(self.exit_code)

    def _call(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: this program is about to end
            if self.count > 1:
                leave(self.exit_code)


async def until_signal(life: Callable[[], Coroutine[Any, Any, Any]], name: str) -> EndSignals:
    """Run ``life`` to its end, or until a signal comes, which cancels it. What ``life`` raises is raised here.

    Parameters
    ----------
    name
        What the log says that the signal closes.
    """
    task = asyncio.get_running_loop().create_task(life())

    def on_first(number: signal.Signals) -> None:
        logging.getLogger("distributed.cli").info("Received signal %s (%d); closing %s", number.name, number, name)
        task.cancel()

    signals = EndSignals(on_first)
    await asyncio.wait([task])
    if not task.cancelled():
        error = task.exception()
        if error is not None and not signals.count:
            raise error
    return signals
