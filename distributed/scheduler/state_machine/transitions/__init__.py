"""How tasks go from state to state: functions of (tables, task, ...), no recursion. Pure.

``TRANSITIONS`` is the one list of what a task's state may do; ``docs/states.md`` is drawn from it, and the tests hold
every step that is ever seen against it. Nothing is dispatched through it: it costs nothing to run.
"""

from __future__ import annotations

from typing import Final

STATES: Final = ("released", "waiting", "queued", "no-worker", "processing", "memory", "erred", "forgotten")

# (from, to): (diagram, when, module of this folder or of the folder above)
TRANSITIONS: Final[dict[tuple[str, str], tuple[str, str, str]]] = {
    ("released", "waiting"): ("work", "needed by a client or by a task", "start"),
    ("waiting", "processing"): (
        "work",
        "its inputs are in memory, or come where it is sent; a worker was chosen",
        "assign",
    ),
    ("waiting", "queued"): ("work", "ready, and no worker has room", "placement"),
    ("waiting", "no-worker"): ("work", "ready, and no worker qualifies", "placement"),
    ("queued", "processing"): ("work", "a worker has room", "assign"),
    ("no-worker", "processing"): ("work", "a worker qualifies now", "assign"),
    ("no-worker", "queued"): ("work", "any worker will do now, and none has room", "placement"),
    ("processing", "memory"): ("work", "its worker has computed it", "finish"),
    ("memory", "released"): ("work", "not needed any more, or its last holder is gone", "release, lost"),
    ("released", "forgotten"): ("work", "no client wants it and no known task depends on it", "release"),
    ("released", "memory"): ("trouble", "a client has put its value on a worker", "replicas"),
    ("waiting", "released"): ("trouble", "cancelled, or not needed any more", "release, cancel"),
    ("waiting", "erred"): ("trouble", "an input failed, or its workers kept dying", "fail"),
    ("waiting", "memory"): ("trouble", "a client has put its value on a worker", "replicas"),
    ("queued", "released"): ("trouble", "cancelled, not needed any more, or an input is lost", "release, assign"),
    ("queued", "erred"): ("trouble", "an input that is an actor is lost, or there was no worker in time", "fail"),
    ("queued", "memory"): ("trouble", "a client has put its value on a worker", "replicas"),
    ("no-worker", "released"): ("trouble", "cancelled, not needed any more, or an input is lost", "release, assign"),
    ("no-worker", "erred"): ("trouble", "an input that is an actor is lost, or there was no worker in time", "fail"),
    ("no-worker", "memory"): ("trouble", "a client has put its value on a worker", "replicas"),
    ("processing", "released"): ("trouble", "its worker died or gave it back, or it is not needed", "assign, release"),
    ("processing", "erred"): (
        "trouble",
        "it raised and has no retries left, or an actor that it needs is lost",
        "fail",
    ),
    ("memory", "erred"): ("trouble", "it was an actor, and its worker is lost", "fail"),
    ("erred", "released"): ("trouble", "retried, or nobody cares any more", "fail, release"),
}

_TWICE = "an event about a task that is in this state changes nothing, or goes through released"
_RELEASED_FIRST = "what ends before it is done goes through released, where its inputs and worker are let go"
_VIA_WAITING = "every start goes through waiting, so that lost or failed inputs are seen"
_GONE = "a forgotten task is out of the table; the same key comes back as a new task"

# from: {to: why not}; with TRANSITIONS this is every pair of states.
IMPOSSIBLE: Final[dict[str, dict[str, str]]] = {
    "released": {
        "released": _TWICE,
        "queued": _VIA_WAITING,
        "no-worker": _VIA_WAITING,
        "processing": _VIA_WAITING,
        "erred": _VIA_WAITING,
    },
    "waiting": {"waiting": _TWICE, "forgotten": _RELEASED_FIRST},
    "queued": {
        "waiting": _RELEASED_FIRST,
        "queued": _TWICE,
        "no-worker": "queued tasks may run anywhere; without workers they stay queued",
        "forgotten": _RELEASED_FIRST,
    },
    "no-worker": {"waiting": _RELEASED_FIRST, "no-worker": _TWICE, "forgotten": _RELEASED_FIRST},
    "processing": {
        "waiting": _RELEASED_FIRST,
        "queued": _RELEASED_FIRST,
        "no-worker": _RELEASED_FIRST,
        "processing": "a new worker is a new run, and each run is a start",
        "forgotten": _RELEASED_FIRST,
    },
    "memory": {
        "waiting": _RELEASED_FIRST,
        "queued": _RELEASED_FIRST,
        "no-worker": _RELEASED_FIRST,
        "processing": _RELEASED_FIRST,
        "memory": _TWICE,
        "forgotten": _RELEASED_FIRST,
    },
    "erred": {
        "waiting": _RELEASED_FIRST,
        "queued": _RELEASED_FIRST,
        "no-worker": _RELEASED_FIRST,
        "processing": _RELEASED_FIRST,
        "memory": _RELEASED_FIRST,
        "erred": _TWICE,
        "forgotten": _RELEASED_FIRST,
    },
    "forgotten": dict.fromkeys(STATES, _GONE),
}
