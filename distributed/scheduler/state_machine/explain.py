"""Why does this task wait? A query over the tables; never empty for a task that is not finished. Pure."""

from __future__ import annotations

from msgspec import Struct

from distributed.base.keys import Key
from distributed.scheduler.state_machine.entities import NEEDING, Rare, TaskState
from distributed.scheduler.state_machine.liveness import silence_text
from distributed.scheduler.state_machine.placement import no_worker_reason
from distributed.scheduler.state_machine.tables import Tables

MAX_LISTED = 20


class Explanation(Struct):
    """``text`` says it in words, the rest is for programs. ``executing_s``: -1 unless the worker said that it runs."""

    key: Key
    state: str
    text: str
    waiting_on: list[tuple[Key, str]] = []
    n_waiting_on: int = 0
    queued_behind: int = -1
    unsatisfied: list[str] = []
    worker: str = ""
    executing_s: float = -1.0
    # Inputs that the worker has to fetch, and from whom.
    fetching: list[tuple[Key, list[str]]] = []
    since: float = -1.0


def explain(state: Tables, key: Key) -> Explanation:
    """The present state of a key, and what it waits for."""
    ts = state.tasks.get(key)
    if ts is None:
        return Explanation(key, "forgotten", f"{key!r} is not known: never submitted, released, or cancelled")
    explanation = _EXPLAINERS[ts.state](state, ts)
    explanation.since = _since(state, key)
    if ts.state in NEEDING and ts.rare is not None:
        explanation.text += _past(state, ts, ts.rare)
    return explanation


def _past(state: Tables, ts: TaskState, rare: Rare) -> str:
    """What has gone wrong with the task before."""
    text = ""
    if rare.retries_used:
        text += f"; retried: it has raised {rare.retries_used} time(s), and may raise {ts.retries} more"
    if rare.suspicious:
        last = rare.deaths[-1]
        text += f"; {rare.suspicious} worker(s) died running it (allowed-failures: {state.settings.allowed_failures})"
        text += f", the last one {last.worker}: {last.cause}"
    return text


def _since(state: Tables, key: Key) -> float:
    for entry in reversed(state.log or ()):
        if entry[0] == key:
            return entry[3][2]
    return -1.0


def _waiting(state: Tables, ts: TaskState) -> Explanation:
    missing = [dep for dep in ts.dependencies if dep.state != "memory"]
    if ts in state.delayed:
        text = f"has raised, and runs again in {max(0.0, state.delayed[ts] - state.now):.3g} s"
        return Explanation(ts.key, ts.state, text)
    if ts in state.announced:
        clients = ", ".join(dict.fromkeys([cs.client_key for cs, _ in state.announced[ts].places]))
        return Explanation(ts.key, ts.state, f"its value is just being put on workers (scattered) by {clients}")
    if not missing:
        return Explanation(ts.key, ts.state, "ready; it will be placed in this beat")
    listed = [(dep.key, dep.state) for dep in missing[:MAX_LISTED]]
    text = f"waits for {len(missing)} task(s): " + ", ".join([f"{k!r} ({s})" for k, s in listed[:5]])
    text += ", ..." if len(missing) > 5 else ""
    return Explanation(ts.key, ts.state, text, waiting_on=listed, n_waiting_on=len(missing))


def _queued(state: Tables, ts: TaskState) -> Explanation:
    ahead = state.queued.position(ts)
    if not state.running:
        reasons = no_worker_reason(state, ts)
        text = f"{'; '.join(reasons)}; queued behind {ahead} task(s)"
        return Explanation(ts.key, ts.state, text, queued_behind=ahead, unsatisfied=reasons)
    text = f"queued behind {ahead} task(s): all {len(state.running)} running worker(s) have enough to do"
    return Explanation(ts.key, ts.state, text, queued_behind=ahead)


def _no_worker(state: Tables, ts: TaskState) -> Explanation:
    reasons = no_worker_reason(state, ts)
    return Explanation(ts.key, ts.state, "no worker: " + "; ".join(reasons), unsatisfied=reasons)


def _processing(state: Tables, ts: TaskState) -> Explanation:
    ws = ts.processing_on
    assert ws is not None
    fetching = [
        (dep.key, [holder.address for holder in dep.who_has][:MAX_LISTED])
        for dep in ts.dependencies
        if ws not in dep.who_has and dep.who_has
    ]
    executing_s = ws.executing.get(ts, -1.0)
    missing = [dep for dep in ts.dependencies if dep.state != "memory"]
    silence = silence_text(state, ws)
    if silence:
        text = f"its worker {ws.address} is {'away' if ws in state.away else 'suspect'}: {silence}"
    elif ws in state.vanished:
        text = f"its worker {ws.address} has vanished; the report of its nanny is awaited"
    elif ts in ws.long_running:
        text = f"runs on {ws.address}, detached from its threads (seceded)"
    elif missing:
        text = f"sent ahead to {ws.address}, which computes its input(s) first: {missing[0].key!r}"
    elif executing_s >= 0:
        executing_s += max(0.0, state.now - ws.last_seen)
        text = f"runs on {ws.address} since {executing_s:.1f} s"
    elif ws.status_name != "running" or not ws.nthreads:
        how = ws.status_name if ws.nthreads else "without threads"
        text = f"assigned to {ws.address}, which is {how} and starts no task now"
    else:
        before = sum([other.priority < ts.priority for other in ws.processing])
        text = f"assigned to {ws.address}, which has {before} task(s) of higher priority"
        if fetching:
            text += f"; {len(fetching)} input(s) to fetch, first {fetching[0][0]!r} from {', '.join(fetching[0][1])}"
    return Explanation(ts.key, ts.state, text, worker=ws.address, executing_s=executing_s, fetching=fetching)


def _memory(state: Tables, ts: TaskState) -> Explanation:
    holders = [ws.address for ws in ts.who_has]
    return Explanation(
        ts.key, ts.state, f"finished; held by {', '.join(holders)}", worker=holders[0] if holders else ""
    )


def _erred(state: Tables, ts: TaskState) -> Explanation:
    blame = ts.exception_blame
    text = f"failed: {ts.exception_text}"
    if blame is not None and blame is not ts:
        text = f"failed because {blame.key!r} did: {ts.exception_text}"
    return Explanation(ts.key, ts.state, text)


def _released(state: Tables, ts: TaskState) -> Explanation:
    return Explanation(ts.key, ts.state, "nobody needs its value now; kept because results that were made of it are")


_EXPLAINERS = {
    "released": _released,
    "waiting": _waiting,
    "queued": _queued,
    "no-worker": _no_worker,
    "processing": _processing,
    "memory": _memory,
    "erred": _erred,
}
