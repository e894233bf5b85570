"""The rules that change the tables: functions, lower modules first. Pure.

``queueing`` (ready or not, in memory or not) < ``fetching`` (inputs from peers) < ``executing`` (with the executor) <
``computing`` (a new order to compute, and the end of a key) < ``stopping`` (runs that must end).

``TRANSITIONS`` is the one list of what a key's state may do; ``docs/states.md`` is drawn from it, and the tests hold
every step that is ever seen against it. Nothing is dispatched through it: it costs nothing to run.
"""

from __future__ import annotations

from typing import Final

from distributed.worker.state_machine.task import ALL_STATES

_NEW_ORDER = "a new order to compute it here"
_LET_GO = "nobody wants it"
_FROM_OUTSIDE = "its value was put into the store from outside"
_RUNNING_ONLY = "only tasks that run already need it: they hold its value"

# (from, to): (diagram, when, module of this folder or of the folder above)
TRANSITIONS: Final[dict[tuple[str, str], tuple[str, str, str]]] = {
    # A task that is computed here.
    ("released", "waiting"): ("compute", "an order to compute it, with inputs", "computing"),
    ("released", "ready"): ("compute", "an order to compute it, without inputs", "computing"),
    ("released", "constrained"): ("compute", "an order to compute it, with resources", "computing"),
    ("waiting", "ready"): ("compute", "its inputs are here", "queueing"),
    ("waiting", "constrained"): ("compute", "its inputs are here; it needs resources", "queueing"),
    ("ready", "executing"): ("compute", "a slot is free, or the work that lies there is short", "executing"),
    ("waiting", "executing"): ("compute", "its only missing input comes from a short run: behind that", "executing"),
    ("constrained", "executing"): ("compute", "a slot and its resources are free", "executing"),
    ("executing", "memory"): ("compute", "it has returned", "queueing"),
    ("executing", "error"): ("compute", "it has raised, or its time is over", "fetching"),
    ("executing", "rescheduled"): ("compute", "it asked to run elsewhere", "computing"),
    ("executing", "long-running"): ("compute", "it has seceded", "executing"),
    ("long-running", "memory"): ("compute", "it has returned", "queueing"),
    ("long-running", "error"): ("compute", "it has raised, or its time is over", "fetching"),
    ("long-running", "rescheduled"): ("compute", "it asked to run elsewhere", "computing"),
    ("error", "forgotten"): ("compute", "the scheduler was told", "fetching"),
    ("rescheduled", "forgotten"): ("compute", "the scheduler was told", "fetching"),
    ("memory", "forgotten"): ("compute", "freed", "computing"),
    # An input that comes from a peer.
    ("released", "fetch"): ("fetch", "wanted, and a holder is known", "fetching"),
    ("released", "missing"): ("fetch", "wanted, and no holder is known", "fetching"),
    ("released", "memory"): ("fetch", _FROM_OUTSIDE, "queueing"),
    ("fetch", "flight"): ("fetch", "asked from a peer", "fetching"),
    ("fetch", "fetch"): ("fetch", "other holders are known", "fetching"),
    ("fetch", "missing"): ("fetch", "its holders are struck off", "fetching"),
    ("fetch", "memory"): ("fetch", _FROM_OUTSIDE, "queueing"),
    ("fetch", "forgotten"): ("fetch", _LET_GO, "fetching"),
    ("flight", "memory"): ("fetch", "it has come", "queueing"),
    ("flight", "fetch"): ("fetch", "the peer did not send it; another holder is known", "fetching"),
    ("flight", "missing"): ("fetch", "the peer did not send it; no other holder is known", "fetching"),
    ("flight", "cancelled"): ("fetch", "nobody wants it; the answer is awaited", "fetching"),
    ("flight", "forgotten"): ("fetch", "it cannot be sent or opened, so nobody waits any more", "fetching"),
    ("missing", "fetch"): ("fetch", "a holder is known", "fetching"),
    ("missing", "missing"): ("fetch", "freed, and tasks here still need it", "fetching"),
    ("missing", "memory"): ("fetch", "it has come from outside, or late", "queueing"),
    ("missing", "forgotten"): ("fetch", _LET_GO, "fetching"),
    ("cancelled", "resumed"): ("fetch", "wanted again; the answer of the peer is still to come", "fetching"),
    ("resumed", "memory"): ("fetch", "it has come", "queueing"),
    ("resumed", "fetch"): ("fetch", "the peer did not send it; another holder is known", "fetching"),
    ("resumed", "missing"): ("fetch", "the peer did not send it; no other holder is known", "fetching"),
    ("resumed", "cancelled"): ("fetch", "nobody wants it; the answer is awaited", "fetching"),
    ("resumed", "forgotten"): ("fetch", "it cannot be sent or opened, so nobody waits any more", "fetching"),
    ("cancelled", "forgotten"): ("fetch", "what was under way for it has ended", "fetching"),
    # Orders that change, values that go.
    ("waiting", "released"): ("turn", "freed, stolen, given back or ordered anew", "queueing"),
    ("ready", "released"): ("turn", "freed, stolen, given back or ordered anew", "queueing"),
    ("constrained", "released"): ("turn", "freed, stolen, given back or ordered anew", "queueing"),
    ("executing", "released"): ("turn", "freed; its run is stale", "computing"),
    ("long-running", "released"): ("turn", "freed; its run is stale", "computing"),
    ("ready", "waiting"): ("turn", "an input is lost", "queueing"),
    ("constrained", "waiting"): ("turn", "an input is lost", "queueing"),
    ("memory", "released"): ("turn", "freed or lost, and tasks here need it or older runs of it end", "queueing"),
    ("released", "released"): ("turn", _RUNNING_ONLY, "fetching"),
    ("released", "forgotten"): ("turn", _LET_GO, "fetching"),
    ("released", "cancelled"): ("turn", "nobody wants it; a run of it has not ended", "fetching"),
    ("released", "error"): ("turn", "an input cannot be had from anybody", "fetching"),
    ("released", "rescheduled"): ("turn", "given back: this worker is to close", "computing"),
    ("cancelled", "cancelled"): ("turn", "one of several things under way has ended", "fetching"),
    ("error", "missing"): ("turn", "tasks here still need it", "fetching"),
    ("error", "cancelled"): ("turn", "a run of it has not ended", "fetching"),
    ("rescheduled", "missing"): ("turn", "tasks here still need it", "fetching"),
    ("rescheduled", "cancelled"): ("turn", "an older run of it has not ended", "fetching"),
    # Orders that cross what was going on.
    ("executing", "waiting"): ("again", _NEW_ORDER + ", or its run was not begun and an input is lost", "computing"),
    ("executing", "ready"): ("again", _NEW_ORDER + ", or its run was not begun", "computing"),
    ("executing", "constrained"): ("again", _NEW_ORDER + ", or its run was not begun", "computing"),
    ("long-running", "waiting"): ("again", _NEW_ORDER, "computing"),
    ("long-running", "ready"): ("again", _NEW_ORDER, "computing"),
    ("long-running", "constrained"): ("again", _NEW_ORDER, "computing"),
    ("fetch", "waiting"): ("again", _NEW_ORDER, "computing"),
    ("fetch", "ready"): ("again", _NEW_ORDER, "computing"),
    ("fetch", "constrained"): ("again", _NEW_ORDER, "computing"),
    ("flight", "waiting"): ("again", _NEW_ORDER, "computing"),
    ("flight", "ready"): ("again", _NEW_ORDER, "computing"),
    ("flight", "constrained"): ("again", _NEW_ORDER, "computing"),
    ("resumed", "waiting"): ("again", _NEW_ORDER, "computing"),
    ("resumed", "ready"): ("again", _NEW_ORDER, "computing"),
    ("resumed", "constrained"): ("again", _NEW_ORDER, "computing"),
    ("missing", "waiting"): ("again", _NEW_ORDER, "computing"),
    ("missing", "ready"): ("again", _NEW_ORDER, "computing"),
    ("missing", "constrained"): ("again", _NEW_ORDER, "computing"),
    ("cancelled", "waiting"): ("again", _NEW_ORDER, "computing"),
    ("cancelled", "ready"): ("again", _NEW_ORDER, "computing"),
    ("cancelled", "constrained"): ("again", _NEW_ORDER, "computing"),
    ("cancelled", "fetch"): ("again", "wanted again; an older run of it has not ended", "fetching"),
    ("cancelled", "missing"): ("again", "wanted again, and no holder is known", "fetching"),
    ("cancelled", "memory"): ("again", _FROM_OUTSIDE, "queueing"),
    ("cancelled", "released"): ("again", _RUNNING_ONLY, "fetching"),
    ("fetch", "cancelled"): ("again", "nobody wants it; an older run of it has not ended", "fetching"),
    ("fetch", "released"): ("again", _RUNNING_ONLY, "fetching"),
    ("flight", "released"): ("again", "it cannot be sent or opened; " + _RUNNING_ONLY, "fetching"),
    ("missing", "cancelled"): ("again", "nobody wants it; an older run of it has not ended", "fetching"),
    ("missing", "released"): ("again", _RUNNING_ONLY, "fetching"),
    ("error", "released"): ("again", _RUNNING_ONLY, "fetching"),
    ("rescheduled", "released"): ("again", _RUNNING_ONLY, "fetching"),
}

_STARTS_IN_QUEUE = "a run starts from a queue, or behind that of its input"
_HANDED_OVER = "only what is with the executor secedes, returns or raises"
_ASKED_FROM_FETCH = "a peer is asked for what is in fetch"
_RESUMES_CANCELLED = "only a cancelled flight is resumed"
_COMPUTED_HERE = "it is computed here, so it is not fetched; what is not wanted is released first"
_VALUE_HERE = "the value is here: another order is answered at once; its loss goes through released"
_ENDS = "its end here is told, and nothing else is under way in this state"
_NOT_ORDERED = "it is to be fetched, not computed"
_TWICE = "an event that finds it in this state changes nothing, or goes through released"
_GONE = "a forgotten key is out of the table; the same key comes back as a new entry"


def _each(states: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(states.split(), reason)


_FETCHED = {**_each("executing", _STARTS_IN_QUEUE), **_each("long-running error rescheduled", _NOT_ORDERED)}
_QUEUED = {
    **_each("fetch flight resumed missing cancelled forgotten", _COMPUTED_HERE),
    **_each("long-running memory error rescheduled", _HANDED_OVER),
}

# from: {to: why not}; with TRANSITIONS this is every pair of states.
IMPOSSIBLE: Final[dict[str, dict[str, str]]] = {
    "released": {
        **_each("executing", _STARTS_IN_QUEUE),
        **_each("long-running", _HANDED_OVER),
        **_each("flight", _ASKED_FROM_FETCH),
        **_each("resumed", _RESUMES_CANCELLED),
    },
    "waiting": {**_QUEUED, **_each("waiting", _TWICE)},
    "ready": {**_QUEUED, **_each("ready constrained", _TWICE)},
    "constrained": {**_QUEUED, **_each("ready constrained", _TWICE)},
    "executing": {
        **_each("executing", _TWICE),
        **_each("fetch flight resumed missing cancelled forgotten", _COMPUTED_HERE),
    },
    "long-running": {
        **_each("executing long-running", _TWICE),
        **_each("fetch flight resumed missing cancelled forgotten", _COMPUTED_HERE),
    },
    "fetch": {**_FETCHED, **_each("resumed", _RESUMES_CANCELLED)},
    "flight": {**_FETCHED, **_each("flight", _ASKED_FROM_FETCH), **_each("resumed", _RESUMES_CANCELLED)},
    "resumed": {
        **_FETCHED,
        **_each("released", "a fetch of what running tasks need is not given up, so it is never resumed"),
        **_each("flight", _ASKED_FROM_FETCH),
        **_each("resumed", _RESUMES_CANCELLED),
    },
    "missing": {**_FETCHED, **_each("flight", _ASKED_FROM_FETCH), **_each("resumed", _RESUMES_CANCELLED)},
    "cancelled": {**_FETCHED, **_each("flight", _ASKED_FROM_FETCH)},
    "memory": _each(
        "waiting ready constrained executing long-running fetch flight resumed missing cancelled memory error "
        "rescheduled",
        _VALUE_HERE,
    ),
    "error": _each(
        "waiting ready constrained executing long-running fetch flight resumed memory error rescheduled", _ENDS
    ),
    "rescheduled": _each(
        "waiting ready constrained executing long-running fetch flight resumed memory error rescheduled", _ENDS
    ),
    "forgotten": dict.fromkeys(ALL_STATES, _GONE),
}
