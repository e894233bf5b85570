"""A place for a worker: its nanny, if it has one, and one process after the other. Pure."""

from __future__ import annotations

from collections.abc import Callable

from distributed.messages.control import RegisterWorker
from distributed.messages.nanny import STOPPED, WorkerProcessExited, WorkerVouched
from distributed.simulation.process import Process, Surroundings
from distributed.simulation.script import Crash, Freeze, StartWorker
from distributed.worker.state_machine.events import Pause, Unpause

SIGKILL = 9
START_S = (0.1, 0.3)


class Node:
    """What a ``StartWorker`` record sets up.

    Attributes
    ----------
    process
        The one that lives now.
    ended
        It will not come back by itself.
    """

    def __init__(self, around: Surroundings, plan: StartWorker, number: int) -> None:
        self.around = around
        self.plan = plan
        self.number = number
        self.process: Process | None = None
        self.ended = False
        self._lives = 0
        self._rng = around.sim.stream(f"node {plan.worker}")
        self._next_report: Crash | None = None
        self.start()

    def start(self) -> None:
        """Start a process, unless there is one."""
        if self.process is None and not self.ended:
            plan = self.plan
            self._lives += 1
            port = self.number * 100 + (0 if plan.same_port else self._lives)
            nanny = f"tcp://{plan.host}:{self.number + 10000}" if plan.nanny else None
            info = RegisterWorker(
                f"tcp://{plan.host}:{port}", plan.worker, plan.host, plan.nthreads, resources=dict(plan.resources),
                nanny=nanny, pid=self.number * 1000 + self._lives,
            )  # fmt: skip
            self.process = Process(self.around, info, self._process_ended)

    def stop(self) -> None:
        """Orderly end, for good."""
        self.ended = True
        if self.process is not None:
            self.process.close("worker-close", False)

    def crash(self, how: Crash) -> None:
        """The process dies."""
        if self.process is not None:
            self._next_report = how
            self.process.crash(how.kept, how.silent)

    def pause_for(self, seconds: float) -> None:
        """Short of memory for a while."""
        process = self.process
        if process is not None:
            process.awake(lambda: process.event(Pause()))
            self.around.sim.after(seconds, lambda: process.awake(lambda: process.event(Unpause())))

    def fill_disk_for(self, seconds: float) -> None:
        """Nothing can be written for a while."""
        process = self.process
        if process is not None:
            process.disk_full = True
            self.around.sim.after(seconds, lambda: setattr(process, "disk_full", False))

    def freeze(self, how: Freeze) -> None:
        """The process stands still for a while, and its nanny looks at it."""
        process = self.process
        if process is not None and not process.frozen:
            process.freeze()
            self.around.sim.after(how.for_s, process.thaw)
            if self.plan.nanny and process.registered and self.around.heartbeat_s:
                self._watch(process, self.around.sim.now, "stopped" if how.stopped else "running")

    def _watch(self, process: Process, since: float, state: str) -> None:
        sim = self.around.sim
        if process.frozen and process.alive:
            silent_s = sim.now - since
            if silent_s > 2 * self.around.heartbeat_s:
                running = process.executor.executing()
                held_s = 0.0 if state in STOPPED else silent_s
                vouched = WorkerVouched(process.address, process.info.pid, held_s, state, running)
                self.around.host.apply([vouched], "")
            sim.after(self.around.heartbeat_s, lambda: self._watch(process, since, state))

    def _process_ended(self, process: Process, reason: str, restart: bool | None) -> None:
        self.process = None
        how, self._next_report = self._next_report, None
        expected = reason != "crashed"
        comes_back = self.plan.nanny and not self.ended and (not expected or restart is not False)
        if self.plan.nanny and process.registered and (how is None or how.reported):
            report = WorkerProcessExited(
                process.address, process.info.pid, exit_code=0 if expected else None,
                signal=None if expected else SIGKILL, executing=process.executor.executing(), expected=expected,
                will_restart=comes_back,
            )  # fmt: skip
            delay_s = how.report_delay_s if how is not None else self._rng.choice(self.around.delays_s)
            self.around.sim.after(delay_s, self._telling(report))
        if comes_back:
            self.around.sim.after(self._rng.choice(START_S), self.start)
        else:
            self.ended = True

    def _telling(self, report: WorkerProcessExited) -> Callable[[], None]:
        return lambda: self.around.host.apply([report], "")
