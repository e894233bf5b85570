"""A cluster in memory: scheduler, workers and clients, and what each record of a script does to them. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from distributed.base.keys import Key
from distributed.messages.client_to_scheduler import TaskOptions, TaskSpec, UpdateGraph, shared_dependencies
from distributed.messages.payload import FunctionBlob, Payload
from distributed.scheduler.state_machine.data_plans import plan_rebalance, plan_replicate
from distributed.scheduler.state_machine.events import PinTasks, RecomputeTasks, Restart, RetireWorkers
from distributed.scheduler.state_machine.events import SetResources as ResourcesSet
from distributed.scheduler.state_machine.settings import SchedulerSettings
from distributed.simulation import script as acts
from distributed.simulation.client import SimClient
from distributed.simulation.host import Host
from distributed.simulation.ledger import RunLedger
from distributed.simulation.network import Network
from distributed.simulation.node import Node
from distributed.simulation.process import Process, Surroundings
from distributed.simulation.script import Script, as_key
from distributed.simulation.shuffle_host import ShuffleHost
from distributed.simulation.simulator import Simulator
from distributed.worker.state_machine import WorkerSettings
from distributed.worker.state_machine.events import DataLost

SHARED_FROM = 3
"""Few are enough here to be sent once for several tasks, since the graphs are small."""
FUNCTION = FunctionBlob(b"f", Payload(b"function"))


class Cluster:
    """All nodes of one episode.

    Parameters
    ----------
    script
        Its settings; its acts are applied by ``do``.
    expect, check_scheduler, check_worker
        Called before and after each event of the scheduler's core, and after each of a worker's.
    """

    def __init__(
        self,
        script: Script,
        digest: bool,
        expect: Callable[[Any, str], None],
        check_scheduler: Callable[[Any, str], None],
        check_worker: Callable[[Process, Any], None],
    ) -> None:
        self.sim = sim = Simulator(script.seed, digest)
        settings = SchedulerSettings(**{"shared_from": SHARED_FROM, **script.scheduler})
        if settings.saturation > 1e9:
            settings.saturation = float("inf")
        self.host = Host(sim, settings, script.lazy, expect, check_scheduler, script.delays_s)
        self.network = Network(sim, script.delays_s)
        self.runs = RunLedger()
        self._needs: dict[tuple[Key, ...], tuple[Key, ...]] = {}
        self.nodes: dict[str, Node] = {}
        self.around = Surroundings(
            sim, self.host, self.network, self.runs, WorkerSettings(**script.worker), script.delays_s,
            script.heartbeat_s, check_worker,
        )  # fmt: skip
        self.clients = {name: SimClient(sim, name, script.delays_s, self.host.accept) for name in script.clients}
        self.host.on_retired = self._retired
        self.shuffles = ShuffleHost(self.host)
        self._numbers = 0
        self._leaving: dict[str, None] = {}
        self._scattered: dict[Key, None] = {}
        self._pinned: dict[Key, None] = {}

    @property
    def core(self) -> Any:
        """The scheduler's."""
        return self.host.core

    def processes(self) -> list[Process]:
        """Those that live."""
        return [node.process for node in self.nodes.values() if node.process is not None]

    def outlived(self, process: Process) -> set[Key]:
        """Values that a client put into an earlier process at the same address, which died before the scheduler heard
        of them: it believes that they are there until somebody asks for them."""
        if not any(node.process is process and node.plan.same_port for node in self.nodes.values()):
            return set()
        ws = self.core.workers.get(process.address)
        held = {ts.key for ts in ws.has_what} if ws is not None else set()
        return {key for key in held if key in self._scattered and key not in process.store}

    def do(self, act: acts.Act) -> None:
        """Apply a record of the script."""
        self.sim.note("script", act)
        _DO[type(act)](self, act)

    # clients

    def _submit(self, act: acts.Submit) -> None:
        client = self.clients[act.client]
        specs = [self._spec(task) for task in act.tasks]
        number = client.next_submission()
        wanted = None if act.wanted is None else {as_key(name): None for name in act.wanted}
        size = max(1, -(-len(specs) // act.parts))
        for start in range(0, len(specs), size):
            part = specs[start : start + size]
            last = start + size >= len(specs)
            chosen = None if wanted is None else [spec.key for spec in part if spec.key in wanted]
            options = [TaskOptions(), act.options]
            shared = shared_dependencies(part, SHARED_FROM)
            update = UpdateGraph(number, part, [FUNCTION], options, chosen, start, last=last, shared=shared)
            client.submit(update, [spec.key for spec in part] if chosen is None else chosen)

    def _spec(self, task: acts.TaskPlan) -> TaskSpec:
        key = as_key(task.key)
        self.runs.plans[key] = task
        needs = tuple([as_key(name) for name in task.needs])
        needs = self._needs.setdefault(needs, needs)
        partition = task.part if task.behaviour == "unpack" else -1
        if task.alias:
            return TaskSpec(key, dependencies=needs, options=1)
        return TaskSpec(key, b"f", b"args", needs, 1, partition)

    def _scatter(self, act: acts.Scatter) -> None:
        client = self.clients[act.client]
        key = as_key(act.key)
        self._scattered[key] = None
        number = client.announce(key)
        self.host.when_announced(client.name, number, lambda plan: self._place(act, key, number, plan))

    def _place(self, act: acts.Scatter, key: Key, number: int, plan: dict[str, tuple[str, int]]) -> None:
        """The client has been told of the workers: it sends the data to those that the script names."""
        client = self.clients[act.client]
        addresses = [
            process.address
            for name in act.workers
            if (process := self._process(name)) is not None and process.address in plan
        ]
        held: list[str] = []
        left = list(addresses)

        def done(address: str, taken: bool) -> None:
            left.remove(address)
            if taken:
                held.append(address)
            if not left:
                client.scattered(number, key, tuple(held), act.nbytes)

        def take_in(peer: Process, reply: Callable[[Any], None]) -> None:
            def act_on() -> None:
                peer.take_in({key: act.nbytes})
                reply(None)

            peer.when_caught_up(*plan[peer.address], act_on)

        def ask(address: str) -> None:
            self.network.ask(
                client.name, address, lambda peer: peer, lambda _: done(address, True), lambda: done(address, False),
                joined=True, serve_later=take_in,
            )  # fmt: skip

        for address in addresses:  # the client connects now: it may reach a successor
            self.sim.after(self.network.delay(), functools.partial(ask, address))
        if not addresses:
            client.scattered(number, key, (), act.nbytes)

    def _replicate(self, act: acts.Replicate) -> None:
        self.host.apply(list(plan_replicate(self.core, [as_key(name) for name in act.keys], act.n)), "")

    def _rebalance(self, act: acts.Rebalance) -> None:
        self.host.apply(list(plan_rebalance(self.core)), "")

    def _pin(self, act: acts.Pin) -> None:
        process = self._process(act.worker) if act.worker is not None else None
        address = process.address if process is not None else None
        keys = _keys(act.keys)
        self._pinned.update(dict.fromkeys(keys))
        self.host.apply([PinTasks([(key, address) for key in keys])], "")

    def unpin_all(self) -> None:
        """Nothing is bound to a worker any more."""
        self.host.apply([PinTasks([(key, None) for key in self._pinned])], "")

    # workers

    def _process(self, worker: str) -> Process | None:
        node = self.nodes.get(worker)
        return node.process if node is not None else None

    def _start_worker(self, act: acts.StartWorker) -> None:
        node = self.nodes.get(act.worker)
        if node is None or (node.ended and node.process is None):
            self._numbers += 1
            self.nodes[act.worker] = Node(self.around, act, self._numbers)

    def _with_node(self, worker: str, do: Callable[[Node], None]) -> None:
        node = self.nodes.get(worker)
        if node is not None:
            do(node)

    def _lose_data(self, act: acts.LoseData) -> None:
        process = self._process(act.worker)
        if process is not None and not process.frozen:
            # (What a client is only just putting there stays: the scheduler takes the client's word for it.)
            placed = {ts.key for ts in self.core.announced}
            keys: list[Key] = [key for key in process.store if key not in placed]
            del keys[act.n :]
            for key in keys:
                process.lose(key)
            if keys:
                process.event(DataLost(keys, "damaged"))

    def _set_resources(self, act: acts.SetResources) -> None:
        process = self._process(act.worker)
        if process is not None and process.registered and process.address in self.core.workers and not process.frozen:
            process.core.set_resources(dict(act.resources))
            process.settle()
            self.host.apply([ResourcesSet(process.address, dict(act.resources))], "")

    def _retire(self, act: acts.Retire) -> None:
        addresses = [process.address for name in act.workers if (process := self._process(name)) is not None]
        if addresses:
            if not act.close:
                self._leaving.update(dict.fromkeys(addresses))
            self.host.apply([RetireWorkers(addresses, act.close, act.timeout_s)], "")

    def _retired(self, address: str) -> None:
        """A worker that has asked for its own retirement closes when it hears that this has ended."""
        process = self.network.peers.get(address)
        if address in self._leaving and isinstance(process, Process):
            self.sim.after(0.001, lambda: process.awake(lambda: process.close("closes gracefully", False)))
        self._leaving.pop(address, None)

    def _restart(self, act: acts.RestartCluster) -> None:
        self.host.apply([Restart()], "")

    # connections

    def _cut(self, act: acts.CutLink) -> None:
        connection = self._connection(act.peer)
        if connection is not None:
            connection.cut(act.kept_up, act.kept_down)
        process = self._process(act.peer)
        if process is not None:
            process.cut_off(act.for_s)

    def _connection(self, peer: str) -> Any:
        if peer in self.clients:
            return self.clients[peer].connection
        process = self._process(peer)
        return process.connection if process is not None else None

    def _stall(self, act: acts.StallLink) -> None:
        connection = self._connection(act.peer)
        if connection is None:
            return
        link = connection.up if act.up else connection.down
        link.stall()

        def over() -> None:
            if link.stalled:
                if act.breaks:
                    connection.give_up()
                else:
                    link.go_on()

        self.sim.after(act.for_s, over)

    def _partition(self, act: acts.Partition) -> None:
        one, other = self._process(act.worker), self._process(act.other)
        if one is not None and other is not None:
            self.network.partition(one.address, other.address, act.for_s)


def _keys(names: tuple[str, ...]) -> list[Key]:
    return [as_key(name) for name in names]


_DO: dict[type, Callable[[Cluster, Any], None]] = {
    acts.Submit: Cluster._submit,
    acts.Release: lambda cluster, act: cluster.clients[act.client].release(_keys(act.keys)),
    acts.Cancel: lambda cluster, act: cluster.clients[act.client].cancel(_keys(act.keys), act.force),
    acts.Want: lambda cluster, act: cluster.clients[act.client].want(_keys(act.keys)),
    acts.Retry: lambda cluster, act: cluster.clients[act.client].retry(_keys(act.keys)),
    acts.Fire: lambda cluster, act: cluster.clients[act.client].fire(_keys(act.keys)),
    acts.Scatter: Cluster._scatter,
    acts.Replicate: Cluster._replicate,
    acts.Rebalance: Cluster._rebalance,
    acts.Pin: Cluster._pin,
    acts.Recompute: lambda cluster, act: cluster.host.apply([RecomputeTasks(_keys(act.keys), "void")], ""),
    acts.StartWorker: Cluster._start_worker,
    acts.StopWorker: lambda cluster, act: cluster._with_node(act.worker, Node.stop),
    acts.Crash: lambda cluster, act: cluster._with_node(act.worker, lambda node: node.crash(act)),
    acts.Freeze: lambda cluster, act: cluster._with_node(act.worker, lambda node: node.freeze(act)),
    acts.PauseWorker: lambda cluster, act: cluster._with_node(act.worker, lambda node: node.pause_for(act.for_s)),
    acts.LoseData: Cluster._lose_data,
    acts.FillDisk: lambda cluster, act: cluster._with_node(act.worker, lambda node: node.fill_disk_for(act.for_s)),
    acts.SetResources: Cluster._set_resources,
    acts.Retire: Cluster._retire,
    acts.RestartCluster: Cluster._restart,
    acts.CutLink: Cluster._cut,
    acts.StallLink: Cluster._stall,
    acts.Partition: Cluster._partition,
}
