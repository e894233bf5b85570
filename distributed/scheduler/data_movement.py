"""Moving values about: gather and scatter through the scheduler, retire, replicate, rebalance. Shell.

Values pass through unopened, as payloads. Who shall hold what the core decides; here is the asking and the waiting.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from distributed.base.errors import CommClosedError, RemoteError
from distributed.base.keys import Key, UserKey, as_key, user_key
from distributed.messages.client_to_scheduler import (
    DataAnnounced,
    DataScattered,
    DataWithdrawn,
    ReleaseKeys,
    ReplicaOnWorkers,
)
from distributed.messages.payload import ErrorInfo, Payload
from distributed.messages.worker_to_scheduler import WorkerClosing
from distributed.scheduler import queries
from distributed.scheduler.fleet_admin import FleetAdmin
from distributed.scheduler.opening import as_payload
from distributed.scheduler.shell import Shell
from distributed.scheduler.state_machine import WorkerState
from distributed.scheduler.state_machine.data_plans import plan_rebalance, plan_replicate
from distributed.scheduler.state_machine.events import MoveReplicas, RetireWorkers
from distributed.scheduler.state_machine.instructions import RetirementEnded

logger = logging.getLogger("distributed.scheduler")

REMOVAL_S = 10.0
MOVES_S = 300.0


class DataMovement:
    """What clients ask of the scheduler about where values lie."""

    def __init__(self, shell: Shell, fleet: FleetAdmin) -> None:
        self._shell = shell
        self._fleet = fleet
        self._turn = itertools.count()
        self._numbers = itertools.count()

    # ---------------------------------------------------------------- gather

    async def gather(self, keys: Iterable[Any]) -> dict[str, Any]:
        """The values of ``keys``, fetched from the workers that hold them.

        Returns
        -------
        dict
            ``status`` (``"OK"``, or ``"error"`` when some could not be had), ``data`` (by key a Payload, or an
            ErrorInfo for a value that cannot be shipped) and ``keys`` (those that could not be had).
        """
        todo: dict[Key, set[str]] = {as_key(key): set() for key in keys}
        data: dict[UserKey, Payload | ErrorInfo] = {}
        while todo:
            by_worker: dict[str, list[Key]] = {}
            for key, tried in todo.items():
                ts = self._shell.state.tasks.get(key)
                left = [ws for ws in ts.who_has if ws.address not in tried] if ts else []
                # Those that are away are asked last: that waits until they are back.
                holder = min(left, key=self._shell.state.away.__contains__).address if left else None
                if holder is not None:
                    tried.add(holder)
                    by_worker.setdefault(holder, []).append(key)
            if not by_worker:
                break
            answers = await asyncio.gather(*[self._get_data(worker, wanted) for worker, wanted in by_worker.items()])
            for answer in answers:
                for key, value in answer.items():
                    if todo.pop(as_key(key), None) is not None:
                        data[user_key(as_key(key))] = value
        missing = [user_key(key) for key in todo]
        return {"status": "error" if missing else "OK", "data": data, "keys": missing}

    async def relay(self, worker: str, keys: list[Key]) -> Any:
        """What ``worker`` answers when it is asked for these values, for one that cannot reach it. Raises
        CommClosedError when it is not connected."""
        if self._shell.state.workers.get(worker) is None:
            raise CommClosedError(f"there is no worker at {worker}")
        return await self._fleet.ask_worker(worker, "get_data", {"keys": keys, "who": "scheduler"})

    async def _get_data(self, worker: str, keys: list[Key]) -> Mapping[Any, Any]:
        try:
            answer = await self._fleet.ask_worker(worker, "get_data", {"keys": keys, "who": "scheduler"})
        except (OSError, TimeoutError, RemoteError) as e:
            logger.info("Could not fetch %d keys from %s: %s", len(keys), worker, e)
            return {}
        if isinstance(answer, Mapping) and isinstance(answer.get("data"), Mapping):
            answer = answer["data"]
        if not isinstance(answer, Mapping):
            return {}
        return {k: v for k, v in answer.items() if isinstance(v, (Payload, ErrorInfo))}

    # ---------------------------------------------------------------- scatter

    async def targets(
        self, workers: queries.WorkerNames = None, timeout: float | None = 30.0
    ) -> dict[str, tuple[int, int | None]]:
        """``{address: (threads, messages)}`` of the workers that may be given data; waits for the first one.

        ``messages``: of these that the scheduler has sent to the worker the last one is to be there before the data is:
        it may be an order to forget an older value of the same key. None: all that it has sent.

        Raises TimeoutError when there is none in time.
        """
        found: list[WorkerState] = []

        def look() -> bool:
            found[:] = [ws for ws in queries.find_workers(self._shell.state, workers) if ws.status_name == "running"]
            return bool(found)

        if not await self._shell.conditions.wait(look, timeout):
            raise TimeoutError(f"No valid workers found within {timeout:g} s")
        self._shell.beat()  # what was decided so far has a number
        return {ws.address: (ws.nthreads, self._shell.streams.n_sent(ws.address)) for ws in found}

    async def scatter(
        self,
        client: str | None,
        data: Mapping[Any, Any],
        workers: queries.WorkerNames = None,
        broadcast: bool | int = False,
        timeout: float | None = 30.0,
    ) -> list[UserKey]:
        """Give values to workers in the name of ``client``, who will want them. Returns their keys.

        Parameters
        ----------
        data
            ``{key: Payload}``.
        broadcast
            True: to every worker; a number: to that many.
        """
        payloads = {as_key(key): as_payload(value) for key, value in data.items()}
        if client is None:
            await self._place(payloads, workers, broadcast, timeout)
            return [user_key(key) for key in payloads]
        # (The client's own numbers are small.)
        number = (1 << 40) + next(self._numbers)
        tasks = self._shell.state.tasks
        wanted = self._shell.state.clients[client].wants_what if client in self._shell.state.clients else {}
        new = [key for key in payloads if key not in tasks or tasks[key] not in wanted]
        self._shell.apply(DataAnnounced(number, list(payloads)), source=client)
        try:
            replicas = await self._place(payloads, workers, broadcast, timeout)
        except BaseException:
            self._shell.apply(ReleaseKeys(new), DataWithdrawn(number, list(payloads)), source=client)
            raise
        self._shell.apply(DataScattered(replicas, number), source=client)
        return [user_key(key) for key in payloads]

    async def _place(
        self, payloads: dict[Key, Payload], workers: queries.WorkerNames, broadcast: bool | int, timeout: float | None
    ) -> list[ReplicaOnWorkers]:
        targets = list(await self.targets(workers, timeout))
        count = len(targets) if broadcast is True else min(len(targets), max(1, int(broadcast)))
        plan: dict[str, dict[Key, Payload]] = {}
        replicas = []
        for key, payload in payloads.items():
            start = next(self._turn)
            holders = tuple([targets[(start + i) % len(targets)] for i in range(count)])
            replicas.append(ReplicaOnWorkers(key, holders, payload.nbytes))
            for holder in holders:
                plan.setdefault(holder, {})[key] = payload
        # It takes the same way as what was sent before.
        await asyncio.gather(
            *[
                self._fleet.ask_worker(worker, "update_data", {"data": part, "after": 0, "placed": True})
                for worker, part in plan.items()
            ]
        )
        return replicas

    # ---------------------------------------------------------------- retire

    async def retire(
        self, workers: list[WorkerState], close: bool, reason: str, timeout: float | None
    ) -> dict[str, dict[str, Any]]:
        """Empty these workers, and close them if ``close``. Returns the identities of those that could be emptied."""
        shell = self._shell
        now = shell.now()
        views = queries.worker_list(shell.state, now, now)
        waiting: dict[str, asyncio.Future[RetirementEnded]] = {}
        loop = asyncio.get_running_loop()
        for ws in workers:
            known = shell.effects.retirements.get(ws.address)
            waiting[ws.address] = known if known is not None else loop.create_future()
            shell.effects.retirements[ws.address] = waiting[ws.address]
        if not waiting:
            return {}
        shell.events.log("all", {"action": "retire-workers", "workers": list(waiting), "reason": reason})
        shell.apply(RetireWorkers(list(waiting), close, timeout, reason))
        ended = await asyncio.gather(*[asyncio.shield(future) for future in waiting.values()])
        retired = [end.address for end in ended if end.retired]
        if close:
            await self._until_gone(retired, reason)
        return {address: views[address] for address in retired if address in views}

    async def _until_gone(self, addresses: list[str], reason: str) -> None:
        table = self._shell.state.workers
        if not await self._shell.conditions.wait(lambda: not any(a in table for a in addresses), REMOVAL_S):
            for address in addresses:
                if address in table:
                    self._shell.apply_now(WorkerClosing(reason), source=address)

    # ---------------------------------------------------------------- replicate, rebalance

    async def replicate(
        self,
        keys: Iterable[Any] | None,
        n: int | None,
        workers: queries.WorkerNames,
        delete: bool = True,
        branching_factor: int = 2,
    ) -> None:
        """Have ``n`` copies of each key (None: one on each worker).

        In rounds: each holder is asked by at most ``branching_factor`` others, which are holders in the next round.
        """
        state = self._shell.state
        own = list(state.tasks) if keys is None else queries.as_keys(keys)
        reach = 1
        while True:
            moves = plan_replicate(state, own, n, self._addresses(workers), delete, branching_factor)
            await self._move(moves)
            reach *= 1 + branching_factor
            if reach >= len(state.workers) or not any(move.to for move in moves):
                return

    async def rebalance(self, keys: Iterable[Any] | None, workers: queries.WorkerNames) -> dict[str, Any]:
        """Even out the memory of workers. The ``status`` is ``OK``, or ``partial-fail`` with keys that nobody holds."""
        state = self._shell.state
        own = None if keys is None else queries.as_keys(keys)
        missing = [] if own is None else [key for key in own if key not in state.tasks or not state.tasks[key].who_has]
        await self._move(plan_rebalance(state, own, self._addresses(workers)))
        if missing:
            return {"status": "partial-fail", "keys": [user_key(key) for key in missing]}
        return {"status": "OK"}

    def _addresses(self, workers: queries.WorkerNames) -> list[str] | None:
        if workers is None:
            return None
        return [ws.address for ws in queries.find_workers(self._shell.state, workers)]

    async def _move(self, moves: list[MoveReplicas]) -> None:
        if not moves:
            return
        state = self._shell.state
        tasks = [state.tasks[move.key] for move in moves]
        self._shell.apply(*moves)
        if not await self._shell.conditions.wait(lambda: not any(ts in state.moves for ts in tasks), MOVES_S):
            raise TimeoutError(f"{len(moves)} copies have not all arrived within {MOVES_S:g} s")
