"""What a worker that has a process of its own looks after: memory that becomes short, and what tasks leave behind.

A worker that shares its process with others, or with a user's program, cannot tell what of that process is its own.
Shell.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

from distributed.base import settings
from distributed.base.formatting import parse_timedelta
from distributed.base.keys import Key, user_key
from distributed.base.status import Status
from distributed.worker.allocators import give_back
from distributed.worker.leaks import Leak, LeakFinder, ProcessSampler
from distributed.worker.memory import MemoryBounds, PauseWatch
from distributed.worker.state_machine.events import ExecuteSkipped, MemoryHigh

logger = logging.getLogger("distributed.worker")

LEAKS_TOPIC = "task-leaks"
MEMORY_TOPIC = "memory"
_REST_S = 2.0
"""While there is room, freed memory is given back when no run has ended for so long: before, it is used again."""
_GIVE_BACK_S = 20.0
"""And so often by a worker that does not rest."""
_GIVE_BACK_SHARE = 100
"""And by a hundredth of the time at most."""
_EVICT_S = 0.05
MAX_LISTED = 20
"""Keys, and things, in an event."""
MAX_SHOWN = 5
"""The same in a line of the log."""
MADE_ONCE = frozenset(("threads", "files", "connections"))
"""What libraries make when they are first used, and keep: the first time is no reason to warn."""


class SelfWatch:
    """The watches of ``worker``, on its loop."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.ended: deque[Key] = deque(maxlen=MAX_LISTED)
        """The last runs that have ended since leaks were looked for."""
        self.n_ended = 0
        self.bounds = MemoryBounds(worker.memory_limit)
        self.pausing = PauseWatch(worker.memory_limit, self.bounds.pause)
        # Between two looks at the process no more than this comes into memory: also where as much leaves it, since what
        # is freed is not always fit to be used again.
        self._step_nbytes = (worker.memory_limit or 1 << 60) // 16
        self._next_nbytes = self._step_nbytes
        self._n_runs = 0
        # When freed memory was given back, how long that took, and what had been done by then.
        self._given_back_at = time.monotonic()
        self._giving_back_s = 0.0
        self._given_back_after = self._last_work = (0, 0)
        self._worked_at = time.monotonic()
        self._sampler: ProcessSampler | None = None
        if settings.get("distributed.worker.leak-watch.enabled", True):
            self._sampler = ProcessSampler(self._of_executors)
            self._finder = LeakFinder(self._sampler.take())
        self._reported: set[str] = set()
        self._leaks_s = float(parse_timedelta(settings.get("distributed.worker.leak-watch.interval", "500ms")))
        self._leaks_at = time.monotonic() + self._leaks_s
        self._interval_s = float(parse_timedelta(settings.get("distributed.worker.memory.monitor-interval", "100ms")))
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._look)

    def stop(self) -> None:
        """Look no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_ended(self, reports: list[Any]) -> None:
        """Runs have ended, as the executor reports. Once for many: nothing here is done for each."""
        self.n_ended += len(reports)
        self._n_runs += len(reports)
        self.ended.extend([event.key for event, _ in reports[-MAX_LISTED:] if type(event) is not ExecuteSkipped])

    def on_growth(self, entered_nbytes: int) -> None:
        """So much has come into memory by now."""
        if entered_nbytes > self._next_nbytes:
            self.look_at_memory()

    def _look(self) -> None:
        self.start()
        try:
            self.look_at_memory()
            now = time.monotonic()
            if self._sampler is not None and now >= self._leaks_at and (self.n_ended or self._finder.suspects):
                self._leaks_at = now + self._leaks_s
                self._look_for_leaks(self._sampler)
        except Exception:
            logger.exception("The worker could not look after itself")

    def look_at_memory(self) -> None:
        """Send values to disk, pause or go on, as the memory in use demands."""
        worker = self.worker
        used = self.pausing.used()
        self._next_nbytes = worker.state.entered_nbytes + self._step_nbytes
        if used > self.bounds.spill:
            used = self._make_room(used)
        else:
            self._give_back_at_rest()
        change = self.pausing.judge(used)
        if change is True and worker.status is Status.running:
            worker.pause()
        elif change is False and worker.status is Status.paused:
            worker.unpause()
        if change is not None:
            worker.log_event(MEMORY_TOPIC, {"action": "paused" if change else "goes-on", "process": used})

    def _make_room(self, used: int) -> int:
        if self._give_back(0.0, _GIVE_BACK_SHARE // 5):
            used = self.pausing.used()
            if used <= self.bounds.spill:
                return used
        elif used <= self.bounds.pause:
            return used  # how much of it is free already is found out by a later look
        excess = used - min(self.bounds.target, self.bounds.spill)
        worker = self.worker
        if callable(getattr(worker.data, "evict", None)) and worker.data is not worker.store:
            return self._evict_custom(used, used - excess)
        worker.handle(MemoryHigh(excess))
        return used

    def _give_back_at_rest(self) -> None:
        now, done = time.monotonic(), self._work_done()
        if done != self._last_work:
            self._last_work, self._worked_at = done, now
        if done != self._given_back_after:
            self._give_back(0.0 if now - self._worked_at >= _REST_S else _GIVE_BACK_S, _GIVE_BACK_SHARE)

    def _give_back(self, every_s: float, share: int) -> bool:
        """Give freed memory back to the system, once in ``every_s`` and for one ``share``-th of the time at most."""
        start = time.monotonic()
        if start < self._given_back_at + max(every_s, self._giving_back_s * share):
            return False
        self._given_back_after = self._work_done()
        give_back()
        self._given_back_at = time.monotonic()
        self._giving_back_s = self._given_back_at - start
        return True

    def _work_done(self) -> tuple[int, int]:
        """Differs when memory may have been freed."""
        return self._n_runs, self.worker.state.resident_nbytes

    def _evict_custom(self, used: int, wanted: int) -> int:
        """Ask the user's own mapping to let values go, for as long as the loop can bear."""
        until = time.monotonic() + _EVICT_S
        while used > wanted and time.monotonic() < until and self.worker.data.evict() not in (-1, None):
            used = self.pausing.used()
        return used

    def _look_for_leaks(self, sampler: ProcessSampler) -> None:
        # In this order: whoever has made something that is in the sample is in one of the three.
        sample = sampler.take()
        executor = self.worker.executor
        running = {task.run_id: task.key for task in executor.running.copy().values()}
        ended = [*self.ended, *executor.unreported()]
        leaks = self._finder.look(sample, running, ended, max(self.n_ended, len(ended)))
        self.ended.clear()
        self.n_ended = 0
        for leak in leaks:
            self._report(leak)

    def _report(self, leak: Leak) -> None:
        keys = [user_key(key) for key in leak.keys]
        items = leak.items[:MAX_LISTED]
        event = {"kind": leak.kind, "items": items, "n": len(leak.items), "keys": keys, "n-tasks": leak.n_tasks}
        self.worker.log_event(LEAKS_TOPIC, event)
        who = f"task {keys[0]!r}"
        if leak.n_tasks > 1:
            more = ", ..." if leak.n_tasks > MAX_SHOWN else ""
            who = f"one of {leak.n_tasks} tasks ({', '.join(map(repr, keys[:MAX_SHOWN]))}{more})"
        more = ", ..." if len(leak.items) > MAX_SHOWN else ""
        level = logging.INFO if leak.kind in MADE_ONCE and leak.kind not in self._reported else logging.WARNING
        self._reported.add(leak.kind)
        logger.log(level, "Left behind by %s: %s: %s%s", who, leak.kind, ", ".join(items[:MAX_SHOWN]), more)

    def _of_executors(self) -> tuple[set[int], set[int]]:
        """Threads and processes of the user's named executors, which stay."""
        threads: set[int] = set()
        processes: set[int] = set()
        for executor in self.worker.executor.executors.values():
            threads |= {thread.ident for thread in getattr(executor, "_threads", ())}
            processes |= set(getattr(executor, "_processes", None) or ())
        return threads, processes
