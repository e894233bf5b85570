"""``distributed.profile``: trees of samples, and a thread that samples another one."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection

from distributed.base.formatting import parse_timedelta
from distributed.base.profile_tree import Tree, call_stack, create, identifier, info_frame, merge, process

__all__ = ["call_stack", "create", "identifier", "info_frame", "merge", "process", "watch"]


def watch(
    thread_id: int | None = None,
    interval: str | float = "20ms",
    cycle: str | float = "2s",
    maxlen: int | None = 1800,
    omit: Collection[str] = (),
    stop: Callable[[], bool] = lambda: False,
) -> deque[tuple[float, Tree]]:
    """Sample a thread from a thread of its own until ``stop()`` is true, or the sampled thread has ended.

    Parameters
    ----------
    thread_id
        ``threading.get_ident()`` of the thread; default: the calling one.
    interval
        Seconds between two samples.
    cycle
        Seconds that one tree covers.
    maxlen
        How many trees are kept; None: all.
    omit
        Parts of file names whose frames are left out when a stack ends there.

    Returns
    -------
    deque of (float, dict)
        Wall-clock second at which a tree was complete, and the tree. It grows while the thread runs.
    """
    watched = threading.get_ident() if thread_id is None else thread_id
    step_s, cycle_s = float(parse_timedelta(interval)), float(parse_timedelta(cycle))
    log: deque[tuple[float, Tree]] = deque(maxlen=maxlen)

    def sample() -> None:
        alive = True
        while alive and not stop():
            tree, end = create(), time.monotonic() + cycle_s
            while time.monotonic() < end and not stop():
                frame = sys._current_frames().get(watched)
                if frame is None:
                    alive = False
                    break
                process(frame, None, tree, omit=omit)
                del frame
                time.sleep(step_s)
            log.append((time.time(), tree))

    threading.Thread(target=sample, name="Profile", daemon=True).start()
    return log
