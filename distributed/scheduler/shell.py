"""The tick: what arrives goes through the core, then one placing beat, then what the core decided is done.

Every message of a peer's batch is an event for ``state.handle``; after all batches of one turn of the event loop come
one ``flush`` and one ``effects.perform``. One timer, armed from ``state.next_deadline()``, is the only other source of
events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from distributed.base import defaults
from distributed.base.keys import user_key
from distributed.messages.client_to_scheduler import ClientLogEvent, SessionRequest, TaskOptions, UpdateGraph
from distributed.messages.control import Applied
from distributed.messages.scheduler_to_client import EventLogged
from distributed.messages.worker_to_scheduler import WorkerLogEvent
from distributed.rpc.session import LIMIT_BYTES
from distributed.scheduler.conditions import Conditions
from distributed.scheduler.deadline_timer import DeadlineTimer
from distributed.scheduler.effects import Effects
from distributed.scheduler.event_log import EventLog
from distributed.scheduler.plugin_host import PluginHost
from distributed.scheduler.state_machine import SchedulerSettings, SchedulerState
from distributed.scheduler.state_machine.events import ClientLeft, WorkerSends
from distributed.scheduler.streams import REASSURE_S, Streams

TOO_FAR_BEHIND = "client too far behind: it has not taken in what was sent to it (distributed.comm.session-buffer)"

logger = logging.getLogger("distributed.scheduler")


class Shell:
    """Core, links, plugins and events of one scheduler, and the beat that drives them.

    Parameters
    ----------
    scheduler
        What plugins get.
    settings
        Of the core.
    validate
        Check all tables after every beat; contradictions are logged and kept in ``violations``.
    log_length, keep_events_s
        See :class:`EventLog`.
    spawn
        Runs a coroutine in the background.
    forget
        Called with the address of a worker that left, and whether that was expected.
    session_buffer
        Bytes that may be on their way to one client.
    """

    def __init__(
        self,
        scheduler: Any,
        settings: SchedulerSettings,
        validate: bool,
        log_length: int,
        keep_events_s: float,
        spawn: Callable[[Any], Any],
        forget: Callable[[str, bool], None],
        session_buffer: int = LIMIT_BYTES,
    ) -> None:
        self.state = SchedulerState(settings)
        self.validate = validate
        self.violations: list[str] = []
        self.spawn = spawn
        self.streams = Streams(spawn, session_buffer)
        self.plugins = PluginHost(scheduler, spawn, self._plugins_changed)
        self.events = EventLog(log_length, keep_events_s, self._send_event, self._tell_event)
        self.effects = Effects(self.streams, self.plugins, self.events, forget)
        self.conditions = Conditions()
        self._awaited = dict(defaults.ON_ANNOTATION)
        # Takes the requests of a client's batch, after the core has taken in the rest of it. An extension sets it.
        self.on_requests: Callable[[str, list[SessionRequest]], None] = _no_answer
        self.closed = False
        # Counts submissions and finished beats: whoever watches for idleness looks here.
        self.n_beats = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat_due = False
        self._timer = DeadlineTimer(self.state.next_deadline, self._on_due)
        self._slow_graph = False
        self._reassuring: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Bind to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._reassure()

    def _reassure(self) -> None:
        assert self._loop is not None
        if not self.closed:
            self.streams.reassure()
            self._reassuring = self._loop.call_later(REASSURE_S, self._reassure)

    def stop(self) -> None:
        """No event is handled from now on."""
        self.closed = True
        self._timer.stop()
        if self._reassuring is not None:
            self._reassuring.cancel()

    def now(self) -> float:
        """The clock of the core: the loop's, which is monotonic."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    # ---------------------------------------------------------------- events in

    def receive_from_worker(self, address: str, messages: list[Any]) -> None:
        """A batch of a worker."""
        self._receive(messages, address)
        for message in messages:
            kind = type(message)
            if kind is WorkerLogEvent:
                self.events.log(message.topics, message.msg)
            elif kind is Applied:
                link = self.streams.workers.get(address)
                if link is not None:
                    link.on_applied(message)

    def receive_from_client(self, client: str, messages: list[Any]) -> None:
        """A batch of a client."""
        requests = [message for message in messages if type(message) is SessionRequest]
        if len(requests) < len(messages):
            self._take_in(client, messages)
        if requests:
            self.on_requests(client, requests)

    def _take_in(self, client: str, messages: list[Any]) -> None:
        for message in messages:
            if type(message) is UpdateGraph:
                for options in message.options:
                    if options.annotations and self._awaited:
                        self._meet(options.annotations)
        if self._slow_graph:
            for message in messages:
                self._receive([message], client)
                if type(message) is UpdateGraph:
                    self._tell_graph(client, message)
        else:
            self._receive(messages, client)
        for message in messages:
            if type(message) is ClientLogEvent:
                self.events.log(message.topics, message.msg)

    def _meet(self, annotations: dict[str, Any]) -> None:
        """The first tasks with some annotation have come: load what makes something of it."""
        for name in annotations:
            target = self._awaited.pop(name, None)
            if target is not None:
                defaults.load(target)(self.plugins.scheduler)

    def receive_from_nanny(self, address: str, messages: list[Any]) -> None:
        """A batch of a nanny; what it says of a worker that is not its own is passed over."""
        own = [message for message in messages if self._is_its_own(address, message)]
        self.state.n_ignored += len(messages) - len(own)
        self._receive(own, address)

    def _is_its_own(self, nanny: str, message: Any) -> bool:
        ws = self.state.workers.get(getattr(message, "worker", ""))
        return ws is None or ws.nanny == nanny

    def apply(self, *events: Any, source: str = "") -> None:
        """Events of our own; their consequences follow in this turn of the loop."""
        self._receive(events, source)

    def apply_now(self, *events: Any, source: str = "") -> None:
        """The same, and what they cause has left when this returns."""
        self._receive(events, source)
        self.beat()

    def _receive(self, messages: Iterable[Any], source: str) -> None:
        if self.closed:
            return
        state = self.state
        now = self.now()
        # One event a time only when somebody listens to transitions: plugins hear of them before the next event.
        rest = iter(messages)
        while True:
            try:
                if state.record:
                    for message in rest:
                        state.handle(message, source, now)
                        self._tell_transitions()
                else:
                    state.handle_batch(rest, source, now)
                break
            except Exception as e:
                # The iterator stands behind the message at fault: the others are handled all the same.
                logger.exception("Error in the scheduler's core while handling an event from %s", source)
                self._refuse(source, e)
        if not self._beat_due:
            self._beat_due = True
            assert self._loop is not None
            self._loop.call_soon(self._scheduled_beat)

    def _refuse(self, source: str, error: Exception) -> None:
        """Who waits for what the event in hand was to bring is told that it does not come."""
        try:
            self.state.refuse(self.state.event, source, f"{type(error).__name__}: {error}")
        except Exception:
            logger.exception("Error in the scheduler's core while refusing an event from %s", source)

    # ---------------------------------------------------------------- the beat

    def _scheduled_beat(self) -> None:
        if self._beat_due:
            self.beat()

    def beat(self) -> None:
        """Place what is ready, do what was decided."""
        self._beat_due = False
        if self.closed:
            return
        state = self.state
        try:
            state.flush(self.now())
        except Exception:
            logger.exception("Error in the scheduler's core while placing tasks")
        self._act()

    def _act(self) -> None:
        state = self.state
        if state.out:
            self.effects.perform(state.out.take())
        if self.streams.too_far_behind:
            for client in self.streams.too_far_behind:
                self.apply(ClientLeft(client, TOO_FAR_BEHIND))
            self.streams.too_far_behind.clear()
        self.n_beats += 1
        self._arm()
        if self.validate:
            self._check()
        if self.conditions:
            self.conditions.check()

    def _arm(self) -> None:
        assert self._loop is not None
        self._timer.arm(self._loop)

    def _on_due(self, now: float) -> None:
        if self.closed:
            return
        try:
            if self.state.next_look is not None and self.state.next_look <= now + 1e-3:
                for address in self.streams.senders():
                    self.state.handle(WorkerSends(address), "", now)
            self.state.handle_deadline(now)
        except Exception:
            logger.exception("Error in the scheduler's core at a deadline")
        self._act()

    def _check(self) -> None:
        try:
            self.state.validate()
        except AssertionError as e:
            self.violations.append(str(e))
            logger.critical("The scheduler's tables contradict themselves: %s", e)

    # ---------------------------------------------------------------- plugins and events

    def _plugins_changed(self) -> None:
        self.state.set_recording(bool(self.plugins.hooks("transition")))
        self._slow_graph = bool(self.plugins.hooks("update_graph"))

    def _tell_transitions(self) -> None:
        transitions = self.state.out.transitions
        if transitions:
            self.state.out.transitions = []
            self.plugins.transitions(transitions)

    def _tell_graph(self, client: str, graph: UpdateGraph) -> None:
        tasks = self.state.tasks
        keys = [spec.key for spec in graph.tasks]
        wanted = keys if graph.wanted is None else graph.wanted
        options = graph.options or [TaskOptions()]
        annotations: dict[str, dict[Any, Any]] = {}
        for spec in graph.tasks:
            for name, value in _annotations(options[spec.options]).items():
                annotations.setdefault(name, {})[user_key(spec.key)] = value
        self.plugins.call(
            "update_graph",
            self.plugins.scheduler,
            client=client,
            keys={user_key(key) for key in wanted},
            tasks=[user_key(key) for key in keys],
            annotations=annotations,
            priority={user_key(key): tasks[key].priority for key in keys if key in tasks},
            dependencies={user_key(s.key): {user_key(d) for d in s.dependencies} for s in graph.tasks},
            stimulus_id=self.state.stimulus_id,
        )

    def _send_event(self, client: str, topic: str, event: tuple[float, Any]) -> None:
        self.streams.to_client(client, [EventLogged(topic, event)])

    def _tell_event(self, topic: str, message: Any) -> None:
        if self.plugins.plugins:
            self.plugins.call("log_event", topic, message)


def _no_answer(client: str, requests: list[SessionRequest]) -> None:
    logger.error("No extension answers %d requests of %s, such as %r", len(requests), client, requests[0].op)


def _annotations(options: TaskOptions) -> dict[str, Any]:
    known = {
        "priority": options.priority,
        "retries": options.retries,
        "workers": options.workers,
        "allow_other_workers": options.allow_other_workers,
        "resources": options.resources,
        "executor": options.executor,
    }
    return {**{name: value for name, value in known.items() if value}, **(options.annotations or {})}
