"""The invariants of the tables; for tests and for the simulator. Pure.

Each rule names itself when it is broken. O(everything).
"""

from __future__ import annotations

from collections import Counter

from distributed.scheduler.state_machine.entities import NEEDING, NO_TASKS, ClientState, TaskState, WorkerState
from distributed.scheduler.state_machine.groups import TaskGroup
from distributed.scheduler.state_machine.occupancy import level_of
from distributed.scheduler.state_machine.tables import Tables


class InvalidState(AssertionError):
    """The tables contradict themselves; the message names rule, task and worker."""


def require(condition: object, rule: str, *culprits: object) -> None:
    if not condition:
        raise InvalidState(f"{rule}: {', '.join([repr(c) for c in culprits])}")


def validate(state: Tables) -> None:
    """Raise ``InvalidState`` if any rule is broken."""
    require(not NO_TASKS, "the shared empty table stays empty", NO_TASKS)
    for key, ts in state.tasks.items():
        require(ts.key == key, "a task is filed under its key", ts, key)
        _validate_task(state, ts)
    for address, ws in state.workers.items():
        require(ws.address == address, "a worker is filed under its address", ws)
        _validate_worker(state, ws)
    for cs in state.clients.values():
        _validate_client(state, cs)
    _validate_groups(state)
    _validate_tables(state)


def _validate_task(state: Tables, ts: TaskState) -> None:
    name = ts.state
    require(name in ts.group.states and name != "forgotten", "a known task has a state", ts)
    require(len(set(ts.dependencies)) == len(ts.dependencies), "dependencies are unique", ts)
    for dep in ts.dependencies:
        require(state.tasks.get(dep.key) is dep, "dependencies are known", ts, dep)
        require(ts in dep.dependents, "edges go both ways", ts, dep)
    for dependent in ts.dependents:
        require(state.tasks.get(dependent.key) is dependent, "dependents are known", ts, dependent)
        require(ts in dependent.dependencies, "edges go both ways", ts, dependent)
    for cs in ts.who_wants:
        require(ts in cs.wants_what, "who_wants matches wants_what", ts, cs)
    require(
        ts.n_waiters == len(ts.waiters), "n_waiters counts the dependents that need it", ts, ts.n_waiters, ts.waiters
    )
    needed = bool(ts.who_wants or ts.n_waiters)
    if name in NEEDING or name == "memory":
        require(needed, "only what is needed is kept", ts)
    if name == "released":
        require(not needed, "what is needed is not left released", ts)
    if name in ("released", "erred"):
        require(needed or ts.dependents, "what nobody cares for is forgotten", ts)
    require((ts.processing_on is not None) == (name == "processing"), "processing tasks have a worker", ts)
    require(bool(ts.who_has) == (name == "memory"), "tasks in memory have holders", ts)
    require((ts in state.unrunnable) == (name == "no-worker"), "unrunnable are the tasks without worker", ts)
    require((ts.error is not None) == (name == "erred"), "erred tasks have an error", ts)
    if name == "waiting":
        missing = sum([dep.state != "memory" for dep in ts.dependencies]) + (ts in state.announced)
        require(ts.n_waiting == missing, "n_waiting counts the missing dependencies", ts, ts.n_waiting, missing)
        require(ts.n_waiting or ts in state.delayed or ts in state.ready, "a waiting task waits for something", ts)
        for dep in ts.dependencies:
            require(dep.state in NEEDING or dep.state == "memory", "a dependency waited for is on its way", ts, dep)
    if name in ("queued", "no-worker", "processing"):
        require(ts.run_spec is not None, "what runs has a recipe", ts)
        awaited = [dep for dep in ts.dependencies if dep.state != "memory"]
        require(ts.n_waiting == len(awaited), "n_waiting counts the missing dependencies", ts, ts.n_waiting)
        require(not awaited or name == "processing", "every dependency of a ready task has a holder", ts, awaited)
        for dep in awaited:
            require(dep.processing_on is ts.processing_on, "what was sent ahead follows its inputs", ts, dep)
    for ws in ts.who_has:
        require(ts in ws.has_what, "who_has matches has_what", ts, ws)
        require(state.workers.get(ws.address) is ws, "holders are known", ts, ws)
    require((ts in state.replicated) == (len(ts.who_has) > 1), "what has several holders is listed as such", ts)
    if ts.processing_on is not None:
        require(ts in ts.processing_on.processing, "processing_on matches processing", ts, ts.processing_on)
        require(ts.run_id > 0, "an assignment has a run id", ts)


def _validate_worker(state: Tables, ws: WorkerState) -> None:
    for ts in ws.processing:
        require(ts.processing_on is ws and ts.state == "processing", "processing matches processing_on", ws, ts)
    for ts in (*ws.long_running, *ws.executing):
        require(ts in ws.processing, "what runs is assigned", ws, ts)
    for ts in ws.has_what:
        require(ws in ts.who_has, "has_what matches who_has", ws, ts)
    for ts in ws.actors:
        require(ts in ws.has_what and ts.actor, "actors are held", ws, ts)
    nbytes = sum([max(0, ts.nbytes) for ts in ws.has_what])
    require(ws.nbytes == nbytes, "nbytes is the sum of what is held", ws, ws.nbytes, nbytes)
    occupancy = sum(ws.processing.values())
    require(
        abs(ws.occupancy - occupancy) < 1e-6 * (1 + occupancy),
        "occupancy is the sum of charges",
        ws,
        ws.occupancy,
        occupancy,
    )
    require(ws.occupancy > -1e-9, "occupancy is not negative", ws)
    used: Counter[str] = Counter()
    for ts in ws.processing:
        for name, amount in ts.resource_restrictions.items():
            used[name] += amount  # type: ignore[assignment]
    for name, amount in ws.used_resources.items():
        require(abs(used[name] - amount) < 1e-6, "used resources are those of assigned tasks", ws, name)
    require(ws.running == (ws in state.running), "running lists the running workers", ws)
    require(state.aliases.get(ws.info.name) == ws.address, "names lead to workers", ws)
    require(ws in state.hosts.get(ws.host, {}), "hosts list their workers", ws)
    require(ws.alive or ws in state.vanished, "a dead worker is on its way out", ws)
    require(ws not in state.away or (ws.alive and not ws.running), "a worker that is away gets no tasks", ws)
    if ws not in state.touched:
        require((ws.level >= 0) == ws.running, "running workers have a level", ws)
        if ws.level >= 0:
            require(ws in state.levels[ws.level] and ws.level == level_of(ws), "levels are up to date", ws, ws.level)
            require((ws.address in state.idle) == (ws.level <= 1), "idle lists workers with a free thread", ws)


def _validate_client(state: Tables, cs: ClientState) -> None:
    for ts in cs.wants_what:
        require(cs in ts.who_wants, "wants_what matches who_wants", cs, ts)
        require(state.tasks.get(ts.key) is ts, "what is wanted is known", cs, ts)


def _validate_groups(state: Tables) -> None:
    count: Counter[tuple[TaskGroup, str]] = Counter((ts.group, ts.state) for ts in state.tasks.values())
    alive: Counter[TaskGroup] = Counter(ts.group for ts in state.tasks.values())
    for name, group in state.task_groups.items():
        require(group.name == name and group in group.prefix.groups, "groups are filed by name", group)
        require(group.n_alive == alive[group] > 0, "a group counts its tasks", group, group.n_alive)
        require(sum(group.states.values()) == group.n_tasks, "a group counts its tasks by state", group)
        for state_name, n in group.states.items():
            require(
                state_name == "forgotten" or n == count[group, state_name],
                "state counters are right",
                group,
                state_name,
            )
    require(all(group.name in state.task_groups for group in alive), "groups of tasks are known")


def _validate_tables(state: Tables) -> None:
    queued = [ts for ts in state.tasks.values() if ts.state == "queued"]
    listed = list(state.queued)
    require(len(state.queued) == len(queued), "the queue counts its tasks", len(state.queued), len(queued))
    require(set(listed) == set(queued), "the queue holds the queued tasks")
    priorities = [ts.priority for ts in listed]
    require(priorities == sorted(priorities), "the queue is in order")
    by_cause = {ts for cause in state.unrunnable.causes.values() for ts in cause.tasks}
    require(by_cause == state.unrunnable.keys(), "each task without worker has a cause")
    require(state.unrunnable.pending.keys() <= state.unrunnable.causes.keys(), "causes to look at are known")
    for ts in state.unrunnable:
        require(ts.state == "no-worker" and state.tasks.get(ts.key) is ts, "unrunnable tasks are known", ts)
    for ts, steal in state.steals.items():
        require(ts.processing_on is steal.victim and ts.run_id == steal.run_id, "a steal is of a current run", ts)
    for level, workers in enumerate(state.levels):
        for ws in workers:
            require(ws.level == level and state.workers.get(ws.address) is ws, "levels hold known workers", ws)
    known = (*state.running, *state.saturated, *state.idle.values(), *state.retirements, *state.vanished)
    for ws in (*known, *state.away):
        require(state.workers.get(ws.address) is ws, "lists of workers hold known ones", ws)
    delays = {(ts, due) for due, _, ts in state.delays}
    for ts, due in state.delayed.items():
        require(ts.state == "waiting" and not ts.n_waiting and state.tasks.get(ts.key) is ts, "it waits for a time", ts)
        require((ts, due) in delays, "who waits for a time is called", ts)
    for cs in state.absent:
        require(state.clients.get(cs.client_key) is cs and not cs.mute, "absent clients are known", cs)
    for ts in state.replicated:
        require(state.tasks.get(ts.key) is ts, "replicated tasks are known", ts)
    for ts, announcement in state.announced.items():
        require(state.tasks.get(ts.key) is ts, "what is announced is known", ts)
        require(ts.state in ("waiting", "memory", "erred"), "what is announced is not computed", ts)
        require(announcement.places, "somebody is about to place what is announced", ts)
        for cs, _ in announcement.places:
            require(cs in ts.who_wants, "who is about to place a value wants it", ts, cs)
    for ts in state.moves:
        require(ts.state == "memory", "only what is in memory is moved", ts)
