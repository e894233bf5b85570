"""In a worker process: who calls ``os._exit`` leaves word of it. Shell.

That call ends the process without a trace. It is a usual way for libraries to give up, and a wrong one for a task: the
task that makes it is to blame, not its neighbours, and the user wants to know the place.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from distributed.worker.executing_page import ExecutingPage

exit_now: Callable[[int], NoReturn] = os._exit
"""The call itself, for the house's own use."""


def note_exits(page: ExecutingPage) -> None:
    """From now on ``os._exit`` notes its thread in ``page`` and prints the stack to stderr, which the nanny keeps.

    Processes that tasks fork off are left alone.
    """
    owner = os.getpid()

    def _exit(status: int) -> NoReturn:
        if os.getpid() == owner:
            with contextlib.suppress(Exception):
                page.note_exit(threading.get_ident())
                os.write(2, f"os._exit({status}) was called here:\n".encode())
                faulthandler.dump_traceback(2, all_threads=False)
        exit_now(status)

    # Its pickle names the place where the call itself is found.
    _exit.__module__ = exit_now.__module__
    _exit.__qualname__ = exit_now.__name__
    os._exit = sys.modules[exit_now.__module__]._exit = _exit  # type: ignore[attr-defined]
