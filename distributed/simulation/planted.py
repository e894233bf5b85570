"""Bugs that are planted to see that the simulator finds them: named patches of the real cores, applied from outside.

Production code knows nothing of them. ``plant`` changes functions of this process until it is left; for tests only.
Each bug is of a kind that schedulers have had: an answer that is lost, a counter that drifts, a check that is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from distributed.messages.worker_to_scheduler import StealResponse, TaskFinished
from distributed.rpc.counted import CountedEnd
from distributed.rpc.session import SessionEnd
from distributed.scheduler.state_machine import (
    deadlines,
    fleet,
    graph_update,
    liveness,
    replicas,
    resources,
    stealing,
)
from distributed.scheduler.state_machine.handlers import from_clients, from_workers
from distributed.scheduler.state_machine.transitions import announced, assign, finish, lost, release
from distributed.shuffle.plan import ShufflePlan
from distributed.shuffle.scheduling import RunWatch
from distributed.worker.state_machine import handlers as worker_handlers
from distributed.worker.state_machine.followers import Followers
from distributed.worker.state_machine.instructions import CancelExecute
from distributed.worker.state_machine.transitions import executing, fetching, queueing

Function = Callable[..., Any]
_CLASSES = (SessionEnd, CountedEnd, ShufflePlan, RunWatch, Followers)
_CORES = ("distributed.scheduler.state_machine", "distributed.worker.state_machine")


def _dropped_acknowledgement(original: Function) -> Function:
    def patched(t: Any, event: Any) -> None:
        original(t, event)
        if event.run_id % 29 == 0:
            t.outbox.messages = [m for m in t.outbox.messages if type(m) is not TaskFinished]

    return patched


def _skipped_release(original: Function) -> Function:
    return lambda state, event, source: original(state, replace(event, keys=event.keys[:4]), source)


def _no_run_id_check(original: Function) -> Function:
    def patched(state: Any, event: Any, source: str) -> None:
        ts = state.tasks.get(event.key)
        original(state, event if ts is None else replace(event, run_id=ts.run_id), source)

    return patched


def _double_decrement(original: Function) -> Function:
    def patched(state: Any, ts: Any, ws: Any, event: Any) -> None:
        original(state, ts, ws, event)
        for dependent in ts.dependents:
            if dependent.state == "waiting" and dependent.n_waiting > 2:
                dependent.n_waiting -= 1

    return patched


def _lost_steal_reply(original: Function) -> Function:
    def patched(t: Any, event: Any) -> None:
        original(t, event)
        if event.run_id % 5 == 0:
            t.outbox.messages = [m for m in t.outbox.messages if type(m) is not StealResponse]

    return patched


def _replica_never_freed(original: Function) -> Function:
    def patched(state: Any, ts: Any) -> None:
        forgotten = ts.who_has[1:]
        for ws in forgotten:
            ws.alive = False
        original(state, ts)
        for ws in forgotten:
            ws.alive = True

    return patched


def _resources_not_returned(original: Function) -> Function:
    return lambda ts, ws: None if ts.run_id % 7 == 0 else original(ts, ws)


def _forgotten_requeue(original: Function) -> Function:
    def patched(state: Any, tasks: list[Any], culprits: Any, death: Any) -> Any:
        return original(state, tasks[:3], culprits, death)

    return patched


def _missing_cancel(original: Function) -> Function:
    def patched(t: Any, ts: Any) -> None:
        original(t, ts)
        if type(t.outbox.instructions[-1]) is CancelExecute:
            t.outbox.instructions.pop()

    return patched


def _nothing(original: Function) -> Function:
    return lambda *args, **kwargs: None


def _wrong_blame_limit(original: Function) -> Function:
    def patched(state: Any, *rest: Any) -> Any:
        state.settings.allowed_failures -= 1
        try:
            return original(state, *rest)
        finally:
            state.settings.allowed_failures += 1

    return patched


def _retry_for_a_death(original: Function) -> Function:
    def patched(state: Any, tasks: list[Any], culprits: Any, death: Any) -> Any:
        for ts in culprits:
            ts.make_rare().retries_used += 1
        return original(state, tasks, culprits, death)

    return patched


def _long_running_charged(original: Function) -> Function:
    def patched(state: Any, event: Any, source: str) -> None:
        ws = state.workers.get(source)
        before = ws.occupancy if ws is not None else 0.0
        original(state, event, source)
        if ws is not None:
            ws.occupancy = before

    return patched


def _says_not_last(original: Function) -> Function:
    def patched(ts: Any, ws: Any) -> bool:
        was_last = original(ts, ws)
        return was_last and len(ts.dependents) < 2

    return patched


def _pin_leaks(original: Function) -> Function:
    def patched(state: Any, cs: Any, submission: int) -> None:
        pin = cs.pins[submission]
        kept = dict(list(pin.wants_what.items())[3:])
        for ts in kept:
            del pin.wants_what[ts]
        original(state, cs, submission)
        pin.wants_what.update(kept)

    return patched


def _slot_leaks(original: Function) -> Function:
    def patched(t: Any, run_id: int) -> None:
        stale = t.stale.get(run_id)
        if stale is not None and stale.resources:
            stale.resources = None
        original(t, run_id)

    return patched


def _first_forgotten(original: Function) -> Function:
    return lambda end, peer_applied: original(end, peer_applied)[1:]


def _counts_once_too_few(original: Function) -> Function:
    def patched(t: Any, ts: Any, state: str) -> None:
        original(t, ts, state)
        for dependent in ts.dependents:
            if dependent.state == "waiting" and dependent.waiting_count > 1:
                dependent.waiting_count -= 1

    return patched


def _nobody_is_told(original: Function) -> Function:
    def patched(plan: Any, shuffle_id: str, reason: str) -> list[Any]:
        original(plan, shuffle_id, reason)
        return []

    return patched


def _frees_at_once(original: Function) -> Function:
    def patched(state: Any, address: str, key: Any) -> None:
        state.out.free(address, key, state.context)

    return patched


def _takes_no_slot(original: Function) -> Function:
    def patched(followers: Any, run_id: int) -> int:
        original(followers, run_id)
        return 0

    return patched


# name: (what is wrong, the function, what makes the wrong one of it)
BUGS: dict[str, tuple[str, Function, Callable[[Function], Function]]] = {
    "dropped-acknowledgement": (
        "some reports of finished tasks are not sent",
        worker_handlers.on_execute_success,
        _dropped_acknowledgement,
    ),
    "skipped-release": (
        "of many keys that a client releases only four are",
        from_clients.on_release_keys,
        _skipped_release,
    ),
    "no-run-id-check": (
        "the report of an earlier run counts as that of the present one",
        from_workers.on_task_finished,
        _no_run_id_check,
    ),
    "double-decrement": ("an input that comes counts twice for some dependents", finish.finish, _double_decrement),
    "lost-steal-reply": (
        "some questions for a task that is to move get no answer",
        worker_handlers.on_steal_request,
        _lost_steal_reply,
    ),
    "replica-never-freed": (
        "only the first holder is told to forget a value",
        release.drop_value,
        _replica_never_freed,
    ),
    "resources-not-returned": (
        "some tasks that end keep their resources",
        resources.give_back_resources,
        _resources_not_returned,
    ),
    "forgotten-requeue": (
        "of the tasks of a dead worker only three run again",
        fleet._rerun_tasks,
        _forgotten_requeue,
    ),
    "missing-cancel": ("runs that were given up are not taken back", executing.give_up_run, _missing_cancel),
    "void-never": (
        "what lies behind a run that was given up, or has seceded, stays there",
        executing._void_followers,
        _nothing,
    ),
    "behind-takes-no-slot": ("what was behind another run takes no slot when it begins", Followers.end, _takes_no_slot),
    "wrong-holder-kept": ("a holder that has lost the value stays a holder", replicas.on_replicas_dropped, _nothing),
    "blame-off-by-one": ("a task is given up one death too early", fleet._rerun_tasks, _wrong_blame_limit),
    "retry-for-a-death": ("the death of a worker costs a user's retry", fleet._rerun_tasks, _retry_for_a_death),
    "long-running-charged": (
        "a task that has seceded goes on counting as load",
        from_workers.on_task_long_running,
        _long_running_charged,
    ),
    "stale-holders": (
        "news of who holds a missing value are dropped",
        worker_handlers.on_holders_changed,
        _nothing,
    ),
    "last-copy-unnoticed": ("the loss of the last copy is not noticed", lost.remove_replica, _says_not_last),
    "pin-leaks": ("a submission in parts keeps some of its tasks for ever", graph_update.release_pin, _pin_leaks),
    "stale-resources-leak": ("a run that was given up keeps its resources", executing._end_stale, _slot_leaks),
    "announcement-overlooked": (
        "a worker is told to forget an older value while a client puts a new one there",
        announced.free_copy,
        _frees_at_once,
    ),
    "session-forgets": (
        "of what is sent again after a break the first is missing",
        SessionEnd.resume,
        _first_forgotten,
    ),
    "workers-session-forgets": (
        "of what a worker or its scheduler sends again after a break the first is missing",
        CountedEnd.resume,
        _first_forgotten,
    ),
    "away-for-ever": ("a worker that does not come back stays away for ever", liveness.give_up_away, _nothing),
    "follower-not-recalled": ("what was sent ahead stays when its input moves", assign.recall, _nothing),
    "exit-never-awaited-in-vain": (
        "a vanished worker whose nanny never reports is never removed",
        deadlines.handle_deadlines,
        _nothing,
    ),
    "missing-not-asked-again": ("a missing value is asked for once only", fetching.ask_again, _nothing),
    "lost-input-miscounted": (
        "a lost input counts too little for what waits for it",
        queueing.leave_memory,
        _counts_once_too_few,
    ),
    "shuffle-holder-unnoticed": ("the loss of a shuffle's holder is not noticed", RunWatch._lost, _nothing),
    "shuffle-end-untold": ("holders are not told that a shuffle is over", ShufflePlan.end, _nobody_is_told),
    "steal-forgets-task": ("a task that was given back is placed nowhere", stealing.on_steal_response, _nothing),
}


@contextmanager
def plant(name: str) -> Iterator[None]:
    """Have the bug in the cores; an empty name plants none. Raises ``KeyError`` for a name that is not known."""
    if not name:
        yield
        return
    _, original, make = BUGS[name]
    patched = make(original)
    places = list(_places(original))
    for table, key in places:
        _put(table, key, patched)
    try:
        yield
    finally:
        for table, key in places:
            _put(table, key, original)


def _places(original: Function) -> Iterator[tuple[Any, Any]]:
    """Wherever the cores refer to the function: modules, tables of handlers, or its class."""
    for owner in _CLASSES:
        if getattr(owner, original.__name__, None) is original:
            yield owner, original.__name__
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(_CORES):
            for name, value in list(vars(module).items()):
                if value is original:
                    yield module, name
                elif type(value) is dict and name == "HANDLERS":
                    yield from [(value, key) for key, handler in value.items() if handler is original]


def _put(table: Any, key: Any, function: Function) -> None:
    if type(table) is dict:
        table[key] = function
    else:
        setattr(table, key, function)
