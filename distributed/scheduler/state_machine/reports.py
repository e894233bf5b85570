"""What clients are told of a task. Pure."""

from __future__ import annotations

from typing import Any

from distributed.base.keys import Key
from distributed.messages.payload import ErrorInfo
from distributed.messages.scheduler_to_client import KeyErred, KeyInMemory, KeysCancelled
from distributed.scheduler.state_machine.entities import ClientState, TaskState
from distributed.scheduler.state_machine.tables import Tables

MAX_HOLDERS = 10
UNKNOWN_ERROR = ErrorInfo("RuntimeError", "the task failed for an unknown reason")


def holder_addresses(ts: TaskState) -> tuple[str, ...]:
    """Who has it; of many, ten."""
    who_has = ts.who_has
    if len(who_has) == 1:
        return who_has[0].addresses
    return tuple([ws.address for ws in who_has[:MAX_HOLDERS]])


def names_of(tasks: list[TaskState]) -> str:
    """The keys of the first few, for a text."""
    return ", ".join([repr(ts.key) for ts in tasks[:5]]) + (", ..." if len(tasks) > 5 else "")


def report_key(state: Tables, ts: TaskState, cs: ClientState) -> None:
    """Tell a client how a task that it has begun to want stands, if that is final."""
    if cs.mute:
        return
    if ts.state == "memory":
        unshippable = ts.rare.unshippable if ts.rare is not None else None
        message: Any = KeyInMemory(ts.key, ts.type, None, holder_addresses(ts), ts.nbytes, unshippable)
    elif ts.state == "erred":
        message = key_erred(ts)
    else:
        return
    state.out.to_clients[cs.client_key].append(message)


def key_erred(ts: TaskState) -> KeyErred:
    """The message about an erred task."""
    blame = ts.exception_blame
    return KeyErred(ts.key, ts.error or UNKNOWN_ERROR, blame.key if blame is not None and blame is not ts else None)


def report_to_wanters(state: Tables, ts: TaskState, message: Any) -> None:
    """Tell every client that wants the task."""
    for cs in ts.who_wants:
        if not cs.mute:
            state.out.to_clients[cs.client_key].append(message)


def report_cancelled(
    state: Tables, by_client: dict[ClientState, list[Key]], reason: str, msg: str = "", lost: bool = False
) -> None:
    """One message a client."""
    for cs, keys in by_client.items():
        if not cs.mute and keys:
            state.out.to_clients[cs.client_key].append(KeysCancelled(keys, reason, msg, lost))
