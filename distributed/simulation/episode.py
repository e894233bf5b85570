"""One life of a cluster: a script runs, faults stop, everything must come to its end, and nothing may remain. Pure.

The cheap rules are checked after every event; the whole of the tables after every event too while they are small, else
after every few. An episode that fails is run once more with every check after every event, so that the event that
broke a rule is the one that is named.
"""

from __future__ import annotations

from typing import Any

from distributed.simulation import checkers, script
from distributed.simulation.cluster import Cluster
from distributed.simulation.process import Process
from distributed.simulation.script import Script

# Virtual seconds within which everything must have ended once faults have stopped.
LIMIT_S = 300.0
# Nothing moves for so long (longer than every patience in the settings): nothing ever will.
STALLED_S = 40.0
# Up to so many tasks all tables are checked after every event; beyond, the more the rarer.
EVERY_EVENT = 30


class Failure(Exception):
    """An episode has failed: why, when, and what happened before."""

    def __init__(self, episode: Episode, error: BaseException) -> None:
        self.script = episode.script
        self.error = error
        self.text = f"{type(error).__name__}: {error}"
        self.rule = _rule_of(error)
        self.episode = episode
        super().__init__(f"seed {self.script.seed} at {episode.cluster.sim.now:.6f} s: {self.text}")

    def story_of_keys(self, n: int = 40) -> str:
        """What became of the keys that the failure names: in the scheduler, on each worker, and to clients."""
        cluster = self.episode.cluster
        keys = [key for key in cluster.runs.plans if repr(key) in self.text][:2]
        lines: list[str] = []
        for key in keys:
            lines.append(f"story of {key!r}:")
            told = [(entry.time, f"scheduler: {entry.start} -> {entry.finish} ({entry.stimulus_id})")
                    for entry in cluster.core.story(key)]  # fmt: skip
            for process in cluster.processes():
                told += [
                    (when, f"{process.address}: {start} -> {finish} (run {run_id})")
                    for _, start, finish, run_id, when in process.core.story(key)
                ]
            told.sort(key=lambda entry: entry[0])
            lines += [f"  {when:.6f} {text}" for when, text in told[-n:]]
        return "\n".join(lines)


def _rule_of(error: BaseException) -> str:
    """What failures have in common that are of the same kind: the error without its culprits."""
    return f"{type(error).__name__}: {str(error).partition(':')[0][:60]}"


class Episode:
    """Runs one script.

    Parameters
    ----------
    script
        What happens.
    digest
        Whether to make a digest of all that happens.
    thorough
        Every check after every event.
    """

    def __init__(self, script: Script, digest: bool = False, thorough: bool = False) -> None:
        self.script = script
        self.thorough = thorough
        self._rules = checkers.EventRules()
        self._n = 0
        self._n_rescuers = 0
        self.cluster = Cluster(script, digest, self._expect, self._check_scheduler, self._check_worker)

    def run(self) -> Episode:
        """All of it. Raises ``Failure``."""
        try:
            self._play()
            self._settle()
            self._release_all()
        except Exception as error:
            raise Failure(self, error) from error
        return self

    # checks after each event

    def _expect(self, event: Any, source: str) -> None:
        self._rules.expect(self.cluster.core, event, source)

    def _check_scheduler(self, event: Any, source: str) -> None:
        core = self.cluster.core
        self._rules.check(core, event, source)
        self._n += 1
        if self.thorough or self._n % (1 + len(core.tasks) // EVERY_EVENT) == 0:
            checkers.check_tables(core)

    def _check_worker(self, process: Process, event: Any) -> None:
        if event is None or self.thorough:
            n = len(process.core.tasks)
            self._n += 1
            if event is None and (self.thorough or self._n % (1 + n // EVERY_EVENT) == 0):
                checkers.check_process(process)
            elif self.thorough:
                process.core.validate()

    # the three parts

    def _play(self) -> None:
        cluster = self.cluster
        for act in self.script.acts:
            cluster.sim.run_until(max(act.at, cluster.sim.now))
            cluster.do(act)
            checkers.check_reasons(cluster, 5)
        cluster.sim.run_until(cluster.sim.now + 0.05)

    def _settle(self) -> None:
        cluster = self.cluster
        self._make_peace()
        end = cluster.sim.now + LIMIT_S
        progress, stalled_at = self._progress(), cluster.sim.now + STALLED_S
        while cluster.sim.now < min(end, stalled_at):
            cluster.sim.run_until(cluster.sim.now + 0.5)
            checkers.check_reasons(cluster)
            self._rescue()
            if not checkers.pending_keys(cluster) and checkers.is_quiet(cluster):
                break
            before, progress = progress, self._progress()
            if progress != before:
                stalled_at = cluster.sim.now + STALLED_S
        pending = checkers.pending_keys(cluster)
        checkers.require(not pending, "L1 every wanted key ends", *[self._why(key) for _, key in pending[:3]])
        checkers.require(checkers.is_quiet(cluster), "L1 everything comes to rest", *self._restless())
        checkers.check_agreement(cluster)

    def _progress(self) -> tuple[int, ...]:
        """Changes whenever something gets nearer to its end."""
        counts = self.cluster.sim.counts
        ends = ("TaskFinished", "KeyInMemory", "KeyErred", "WorkerRemoved", "GatherDepSuccess", "ReplicasDropped")
        return (self.cluster.core.run_counter, *[counts[kind] for kind in ends])

    def _make_peace(self) -> None:
        cluster = self.cluster
        cluster.sim.note("script", "peace")
        cluster.runs.peace = True
        cluster.network.heal()
        for process in cluster.processes():
            process.thaw()
            process.cut_off_until = 0.0
        connections = [process.connection for process in cluster.processes()]
        for connection in [*connections, *[client.connection for client in cluster.clients.values()]]:
            for link in (connection.up, connection.down):
                if link.stalled:
                    link.go_on()
        cluster.unpin_all()
        for node in cluster.nodes.values():
            node.pause_for(0.0)
        for node in cluster.nodes.values():
            if node.process is not None and node.process.executor.hung:
                node.crash(script.Crash(cluster.sim.now, node.plan.worker))

    def _rescue(self) -> None:
        """One suitable worker lives: an operator starts those that tasks ask for."""
        cluster = self.cluster
        core = cluster.core
        starting = any(node.process is not None and not node.process.registered for node in cluster.nodes.values())
        if not core.unrunnable and not core.running and not starting:
            cluster.do(script.StartWorker(cluster.sim.now, self._rescuer(), 2))
        wishes = {ts.policy: ts for ts in core.unrunnable}
        for policy, ts in wishes.items():
            names = [name for name in policy.workers or () if "://" not in name]
            resources = policy.resources or {}
            host = next((name for name in names if name.startswith("10.")), "10.0.0.0")
            name = next((name for name in names if not name.startswith("10.")), "") or self._rescuer()
            pinned = [ws.name for dep in ts.dependencies if dep.unshippable is not None for ws in dep.who_has]
            for known in [name, *pinned]:
                node = cluster.nodes.get(known)
                if node is not None and node.process is not None:
                    more = {**node.plan.resources, **resources}
                    cluster.do(script.SetResources(cluster.sim.now, known, more))
            cluster.do(script.StartWorker(cluster.sim.now, name, 2, host, dict(resources)))

    def _rescuer(self) -> str:
        self._n_rescuers += 1
        return f"rescuer-{self._n_rescuers}"

    def _release_all(self) -> None:
        cluster = self.cluster
        for client in cluster.clients.values():
            client.release(list(client.states))
        cluster.sim.run_until(cluster.sim.now + 15.0)
        checkers.check_nothing_left(cluster)

    # what to tell of a failure

    def _why(self, key: Any) -> str:
        cluster = self.cluster
        reasons = [f"{key!r}: scheduler: {cluster.core.explain(key).text}"]
        reasons += [
            f"{process.address}: {process.core.explain(key).text}"
            for process in cluster.processes()
            if key in process.core.tasks
        ]
        return " | ".join(reasons)

    def _restless(self) -> list[str]:
        cluster = self.cluster
        core = cluster.core
        tables = {name: list(getattr(core, name)) for name in ("retirements", "moves", "vanished", "away", "steals")}
        found = [f"{name} {left}" for name, left in tables.items() if left]
        found += [
            f"{process.address} {ts}"
            for process in cluster.processes()
            for ts in process.core.tasks.values()
            if ts.state != "memory"
        ]
        found += [f"{node.plan.worker} is starting" for node in cluster.nodes.values()
                  if node.process is None and not node.ended]  # fmt: skip
        return found or ["messages under way"]

    def story(self, n: int = 60) -> str:
        """The last events."""
        return "\n".join([f"{when:.6f} {who} {what}" for when, who, what in list(self.cluster.sim.trace)[-n:]])
