"""Events into a worker's state machine, and what it decides done. A base of :class:`Worker`. Shell."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import structs

from distributed.base.keys import Key, user_key
from distributed.base.lazy import loaded
from distributed.base.status import Status
from distributed.messages.control import Applied, SchedulerEnds
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, DefineFunction, SetStatus
from distributed.messages.worker_to_scheduler import WorkerLogEvent
from distributed.worker import memory
from distributed.worker.data_transfer import Arrived, transfer_limits
from distributed.worker.effects import Effects
from distributed.worker.facts import Facts
from distributed.worker.options import seconds
from distributed.worker.reports import Report
from distributed.worker.runtime import get_task_key
from distributed.worker.self_watch import MEMORY_TOPIC, SelfWatch
from distributed.worker.spill_file import SpillFile
from distributed.worker.state_machine.events import (
    DataLost,
    ExecuteSuccess,
    GatherDepFailure,
    GatherDepSuccess,
    MemoryHigh,
    SpillEnded,
)
from distributed.worker.state_machine.tables import WorkerSettings

logger = logging.getLogger("distributed.worker")

_OF_THE_SHELL = frozenset([DefineFunction, SetStatus, CloseWorkerOrder, Applied, SchedulerEnds])
_closing_tasks: set[asyncio.Task[Any]] = set()


class Tick(Facts):
    """A worker's loop: what arrives, ends or is due goes through the core; ``effects`` does the rest."""

    effects: Effects
    validate: bool
    thread_id: int
    _self_watch: SelfWatch | None
    _deadline_timer: asyncio.TimerHandle | None
    _wakes_at: float

    def _on_messages(self, messages: list[Any]) -> None:
        state = self.state
        handle = state.handle
        now = time.monotonic()
        for message in messages:
            kind = type(message)
            if kind not in _OF_THE_SHELL:
                handle(message, now)
            elif kind is DefineFunction:
                self.executor.define(message.blob)
            elif kind is SetStatus:
                self._set_status(message.status)
                handle(message, now)
            elif kind is CloseWorkerOrder:
                self.add_close_task(
                    self.close(reason=message.reason or "scheduler-close", nanny=True, restart=message.restart)
                )
            else:
                self.link.on_control(message)
        self._act()

    def _set_status(self, text: str) -> None:
        if self.status in (Status.running, Status.paused, Status.closing_gracefully):
            self.status = Status(text)

    def _on_reports(self, reports: list[Report]) -> None:
        if self._self_watch is not None:
            self._self_watch.on_ended(reports)
        results = self.effects.results
        handle = self.state.handle
        now = time.monotonic()
        for event, value in reports:
            if type(event) is ExecuteSuccess:
                task = self.state.tasks.get(event.key)
                if task is not None and task.actor:
                    value = self._as_actor(event.key, value)
                results[event.run_id] = value
            handle(event, now)
        self._act()
        if self._self_watch is not None:
            self._self_watch.on_growth(self.state.entered_nbytes)

    def _as_actor(self, key: Key, instance: Any) -> Any:
        self.actors[key] = instance
        actor_class = loaded("distributed.client", "Actor")
        return (
            instance if actor_class is None else actor_class(type(instance), self.address, user_key(key), worker=self)
        )

    def _settings(self, spills: bool) -> WorkerSettings:
        usual = transfer_limits(memory.MemoryBounds(self.memory_limit).worker_settings(spills))
        return structs.replace(
            usual,
            stop_grace_s=seconds(None, "distributed.worker.stop.grace"),
            stop_repeat_s=seconds(None, "distributed.worker.stop.repeat") or usual.stop_repeat_s,
        )

    def _on_spilled(self, events: list[SpillEnded]) -> None:
        if self.status in (Status.closing, Status.closed):
            return
        blocked = self.state.spilling.blocked
        now = time.monotonic()
        for event in events:
            self.state.handle(event, now)
        self._act()
        plan = self.state.spilling
        if plan.blocked != blocked:
            what = (
                {"action": "disk-takes-no-more", "reason": plan.blocked} if plan.blocked else {"action": "disk-works"}
            )
            self.log_event(MEMORY_TOPIC, what)
        if self.status is Status.paused and self._self_watch is not None:
            self._self_watch.look_at_memory()

    def _on_lost(self, file: SpillFile, reason: str) -> None:
        key = file.key
        if self._store.values_by_key.get(key) is not file:
            return  # given up meanwhile, or here again: a run that still counts is handed over once more
        logger.warning("The value of %r on disk cannot be read and is computed again: %s", user_key(key), reason)
        self._store.discard(key)
        self.handle(DataLost([key], reason))

    def _evict(self) -> int:
        before = self.state.spilling.leaving_nbytes + self.state.spilling.absent_nbytes
        self.handle(MemoryHigh(self.state.spilling.leaving_nbytes + 1))
        freed = self.state.spilling.leaving_nbytes + self.state.spilling.absent_nbytes - before
        return freed if freed > 0 else -1

    def _on_gathered(self, event: GatherDepSuccess | GatherDepFailure, arrived: Arrived) -> None:
        if self.status in (Status.closing, Status.closed):
            return
        if arrived:
            self.effects.arrived[event.worker] = arrived
        self.handle(event)
        if self._self_watch is not None:
            self._self_watch.on_growth(self.state.entered_nbytes)

    async def _relay(self, worker: str, keys: list[Key]) -> Any:
        return await self.link.ask("relay_data", {"worker": worker, "keys": keys})

    def _on_bad_link(self, worker: str, reason: str) -> None:
        logger.warning("There is no way to %s (%s): its values come through the scheduler", worker, reason)
        self.log_event("bad-link", {"action": "bad-link", "to": worker, "reason": reason})

    def handle(self, event: Any) -> None:
        """Give one event to the state machine, and do what it decides. On the loop."""
        self.state.handle(event, time.monotonic())
        self._act()

    def _act(self) -> None:
        state = self.state
        self.effects.perform(state.outbox.take())
        when = state.next_deadline()
        if when is not None and when < self._wakes_at:
            self._wake_at(when)
        if self.plugin_host.watchers:
            self.plugin_host.tell(state.steps)
        if self.validate:
            state.validate()

    def _wake_at(self, when: float) -> None:
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._wakes_at = when
        delay = max(0.0, when - time.monotonic())
        self._deadline_timer = asyncio.get_running_loop().call_later(delay, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline_timer = None
        self._wakes_at = math.inf
        self.state.handle_deadline(time.monotonic())
        self._act()

    def send(self, messages: list[Any], patience_s: float = 0.0) -> None:
        self.link.send(messages, patience_s)

    def _on_loop(self, function: Callable[[], None]) -> None:
        if threading.get_ident() == self.thread_id:
            function()
        else:
            self.asyncio_loop.call_soon_threadsafe(function)

    def log_event(self, topic: str | Iterable[str], msg: Any) -> None:
        """Tell the scheduler, and who listens to ``topic`` there, of an event; ``msg`` is plain data. Thread-safe."""
        topics = (topic,) if isinstance(topic, str) else tuple(topic)
        if isinstance(msg, dict):
            msg = {**msg, "worker": self.address_safe}
        self._on_loop(lambda: self.send([WorkerLogEvent(topics, msg)]))

    def tell_output(self, text: str, file: str) -> None:
        """Have every client write ``text`` to its ``stdout`` or ``stderr``; notes which task says it. Thread-safe."""
        self.log_event("print", {"text": text, "file": file, "key": get_task_key()})

    def add_close_task(self, coroutine: Any) -> None:
        """Run something that ends with closing this server: not one of the tasks that closing cancels."""
        task = asyncio.get_running_loop().create_task(coroutine)
        _closing_tasks.add(task)
        task.add_done_callback(_closing_tasks.discard)
