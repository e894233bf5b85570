"""Performs what the core has decided: the whole list of what a decision can do to the world.

Orders and reports go out as one list for each peer; the few other instructions are the closed ``match`` below. Nothing
is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_never

from distributed.base.keys import user_key
from distributed.scheduler.event_log import ALL, EventLog
from distributed.scheduler.plugin_host import PluginHost
from distributed.scheduler.state_machine.instructions import (
    ClientRemoved,
    Instruction,
    LogWarning,
    RetirementEnded,
    TasksUnrunnable,
    WorkerAnswered,
    WorkerRefused,
    WorkerRemoved,
    WorkerSuspected,
)
from distributed.scheduler.state_machine.outbox import OutboxBatch
from distributed.scheduler.streams import Streams

logger = logging.getLogger("distributed.scheduler")

WORKER_LOST = "worker-lost"
"""The topic of workers that ended without being told to."""

NO_WORKER = "no-worker"
"""The topic of tasks that no worker can take."""


class Effects:
    """The acts of one scheduler.

    Attributes
    ----------
    refusals
        Why workers may not come in, by address, for whoever is about to answer them.
    retirements
        Who waits for the end of a worker's retirement, by address.
    """

    def __init__(
        self, streams: Streams, plugins: PluginHost, events: EventLog, forget: Callable[[str, bool], None]
    ) -> None:
        self.refusals: dict[str, str] = {}
        self.retirements: dict[str, asyncio.Future[RetirementEnded]] = {}
        # Called with the id of a client whose session is over.
        self.on_client_gone: list[Callable[[str], None]] = []
        self._streams = streams
        self._plugins = plugins
        self._events = events
        self._forget = forget

    def perform(self, batch: OutboxBatch) -> None:
        """Do everything in the batch."""
        if batch.transitions:
            self._plugins.transitions(batch.transitions)
        to_workers = batch.to_workers
        last_words: dict[str, Sequence[Any]] = {}
        if batch.instructions:
            # A worker that is out gets what is addressed to it before its connection closes.
            last_words = {address: to_workers.pop(address, ()) for address in batch.closed_workers}
        streams = self._streams
        for address, messages in to_workers.items():
            streams.to_worker(address, messages)
        for client, messages in batch.to_clients.items():
            streams.to_client(client, messages)
        for instruction in batch.instructions:
            try:
                self._act(instruction, last_words)
            except Exception:
                logger.exception("Could not perform %s", instruction)

    def _act(self, instruction: Instruction, last_words: Mapping[str, Sequence[Any]]) -> None:
        match instruction:
            case WorkerRemoved():
                self._remove_worker(instruction, last_words.get(instruction.address, ()))
            case WorkerSuspected():
                self._suspect_worker(instruction)
            case WorkerAnswered():
                self._welcome_back(instruction)
            case WorkerRefused():
                self.refusals[instruction.address] = instruction.reason
            case RetirementEnded():
                self._end_retirement(instruction)
            case TasksUnrunnable():
                self._tell_unrunnable(instruction)
            case ClientRemoved():
                self._remove_client(instruction)
            case LogWarning():
                logger.warning("%s", instruction.message)
                self._events.log("warn", {"message": instruction.message})
            case _:
                assert_never(instruction)

    def _remove_worker(self, removed: WorkerRemoved, messages: Sequence[Any]) -> None:
        address = removed.address
        self._streams.drop_worker(address, messages, removed.cause)
        self._forget(address, removed.expected)
        log = logger.info if removed.expected else logger.warning
        log("Removed worker %s (%s): %s", address, removed.name, removed.cause)
        if removed.n_rerun or removed.n_requeued or removed.n_recomputed:
            logger.info(
                "%d tasks run again, %d that had not begun run elsewhere, %d run again for lost results",
                removed.n_rerun,
                removed.n_requeued,
                removed.n_recomputed,
            )
        event = {
            "action": "remove-worker",
            "worker": address,
            "name": removed.name,
            "cause": removed.cause,
            "expected": removed.expected,
            "n-rerun": removed.n_rerun,
            "n-requeued": removed.n_requeued,
            "n-recomputed": removed.n_recomputed,
        }
        if removed.death is not None:
            death = removed.death
            event |= {"host": death.host, "pid": death.pid, "signal": death.signal, "exit-code": death.exit_code}
            event |= {"peak-bytes": death.peak_bytes, "log-tail": list(death.log_tail)}
            self._events.log(WORKER_LOST, event)
        self._events.log([ALL, address], event)
        self._events.left(address)
        waiting = self.retirements.pop(address, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(RetirementEnded(address, True, "it is gone", 0))
        self._plugins.call(
            "remove_worker", scheduler=self._plugins.scheduler, worker=address, stimulus_id="worker-removed",
            expected=removed.expected,
        )  # fmt: skip

    def _suspect_worker(self, suspected: WorkerSuspected) -> None:
        text = f"no heartbeat for {suspected.silent_s:.0f} s {suspected.known}".strip()
        logger.warning("Worker %s (%s) is suspect, it gets no new tasks: %s", suspected.address, suspected.name, text)
        event = {"action": "worker-suspect", "worker": suspected.address, "name": suspected.name, "cause": text}
        self._events.log([ALL, suspected.address, "worker-suspect"], event)

    def _welcome_back(self, back: WorkerAnswered) -> None:
        keys = [user_key(key) for key in back.holders]
        logger.warning(
            "Worker %s (%s) answers again after %.1f s%s",
            back.address, back.name, back.silent_s,
            f"; its loop was kept from moving while it ran {keys}: does a task hold the GIL?" if keys else "",
        )  # fmt: skip
        event = {"worker": back.address, "name": back.name, "seconds": back.silent_s, "keys": keys}
        self._events.log([ALL, back.address], {"action": "worker-answers", **event})
        if keys:
            self._events.log("gil-held", {"action": "gil-held", **event})

    def _tell_unrunnable(self, told: TasksUnrunnable) -> None:
        keys = [user_key(key) for key in told.keys]
        logger.warning("No worker can take %d task(s), %r among them: %s", told.n_tasks, keys[0], told.reason)
        event = {
            "action": NO_WORKER,
            "reason": told.reason,
            "n-tasks": told.n_tasks,
            "keys": keys,
            "since-s": told.since_s,
        }
        self._events.log([ALL, NO_WORKER], event)

    def _remove_client(self, removed: ClientRemoved) -> None:
        client = removed.client
        self._streams.drop_client(client, removed.cause, abort=not removed.expected)
        for tell in self.on_client_gone:
            tell(client)
        self._events.unsubscribe(client)
        log = logger.info if removed.expected else logger.warning
        log("Remove client %s: %s", client, removed.cause)
        self._events.log([ALL, client], {"action": "remove-client", "client": client, "cause": removed.cause})
        self._events.left(client)
        self._plugins.call("remove_client", scheduler=self._plugins.scheduler, client=client)

    def _end_retirement(self, ended: RetirementEnded) -> None:
        if ended.retired:
            logger.info("Worker %s is retired", ended.address)
            self._events.log(
                [ALL, ended.address], {"action": "retire-worker", "worker": ended.address, "retired": True}
            )
        else:
            logger.warning("Worker %s stays: %s", ended.address, ended.reason)
        waiting = self.retirements.pop(ended.address, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(ended)
