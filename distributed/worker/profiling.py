"""Looks every few milliseconds where the threads of running tasks stand, for ``client.profile()``. Shell.

One thread samples all workers of a process. It sleeps while no task runs: the executor that is handed a task wakes it,
which costs nothing while it is awake. Samples are added up by key prefix, a tree for each cycle; old cycles fall out.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections import deque
from typing import Any

from distributed.base import profile_tree, settings
from distributed.base.formatting import parse_timedelta
from distributed.base.keys import key_prefix

IDLE_SAMPLES = 3
KEPT_CYCLES = 1000
_STOP = "distributed/worker/executor.py"


class ProfileHistory:
    """The samples of one worker: ``(time at the end of the cycle, {key prefix: tree})``, oldest first."""

    def __init__(self, cycle_s: float) -> None:
        self.cycle_s = cycle_s
        self.cycles: deque[tuple[float, dict[str, profile_tree.Tree]]] = deque(maxlen=KEPT_CYCLES)
        self._current: dict[str, profile_tree.Tree] = {}
        self._ends = 0.0
        self._lock = threading.Lock()

    def add(self, prefix: str, frame: Any) -> None:
        """One sample of a task of this prefix."""
        with self._lock:
            now = time.monotonic()
            if now >= self._ends:
                self._close_cycle()
                self._ends = now + self.cycle_s
            tree = self._current.get(prefix)
            if tree is None:
                tree = self._current[prefix] = profile_tree.create()
            profile_tree.process(frame, None, tree, stop=_STOP)

    def _close_cycle(self) -> None:
        if self._current:
            self.cycles.append((time.time(), self._current))
            self._current = {}

    def between(self, start: float | None, stop: float | None, key: str | None) -> profile_tree.Tree:
        """The sum of all samples of a time (wall-clock seconds) and of a key prefix, if given."""
        with self._lock:
            return profile_tree.between([*self.cycles, (time.time(), self._current)], start, stop, key)

    def timeline(self) -> dict[str, list[tuple[float, int]]]:
        """Key prefix -> (time, samples) of each cycle."""
        found: dict[str, list[tuple[float, int]]] = {}
        with self._lock:
            for when, trees in [*self.cycles, (time.time(), self._current)]:
                for prefix, tree in trees.items():
                    found.setdefault(prefix, []).append((when, tree["count"]))
        return found


class Sampler:
    """The sampling thread of this process; it starts with the first task and ends with the process."""

    def __init__(self) -> None:
        self.awake = True  # nothing to wake for before there is a worker
        self.n_samples = 0
        self._workers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.interval_s = 0.01

    def watch(self, worker: Any) -> ProfileHistory | None:
        """Sample this worker's tasks from now on. None where ``distributed.worker.profile.enabled`` is false."""
        if not settings.get("distributed.worker.profile.enabled", True):
            return None
        self.interval_s = float(parse_timedelta(settings.get("distributed.worker.profile.interval", "10ms")))
        self._workers.add(worker)
        if self._thread is None:
            self.awake = False
        return ProfileHistory(float(parse_timedelta(settings.get("distributed.worker.profile.cycle", "1s"))))

    def forget(self, worker: Any) -> None:
        """The worker closes."""
        self._workers.discard(worker)

    def wake(self) -> None:
        """Tasks have come. To be called only while not ``awake``."""
        self.awake = True
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="Profile", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        n_idle = 0
        while True:
            time.sleep(self.interval_s)
            n_idle = 0 if self._sample() else n_idle + 1
            if n_idle >= IDLE_SAMPLES:
                n_idle = 0
                self._wake.clear()
                self.awake = False
                if not self._sample():  # tasks that came before `awake` fell
                    self._wake.wait()
                self.awake = True

    def _sample(self) -> bool:
        found = False
        frames: dict[int, Any] = {}
        for worker in tuple(self._workers):
            running = worker.executor.executing_keys()
            if running and worker.profile_history is not None:
                found = True
                if not frames:
                    frames = sys._current_frames()
                    # Our own frame holds this dict: a cycle, which would keep the tasks' values until the next gc.
                    frames.pop(threading.get_ident(), None)
                for ident, key in running.items():
                    frame = frames.get(ident)
                    if frame is not None:
                        worker.profile_history.add(key_prefix(key), frame)
                        self.n_samples += 1
        return found


sampler = Sampler()
