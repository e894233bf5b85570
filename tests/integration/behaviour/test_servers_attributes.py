"""What plugins and users read from live servers: the attributes, and that sets compare as sets."""

from __future__ import annotations

from typing import Any

import pytest

from distributed import Client, Nanny, Scheduler, SchedulerPlugin, Status, Worker, WorkerPlugin
from distributed.rpc.pool import rpc
from distributed.testing import gen_test
from tests.integration.comm.loops import until


def add_one(x: int) -> int:
    return x + 1


@gen_test()
async def test_scheduler_attributes() -> None:
    async with Scheduler(port=0) as s, Worker(s.address, nthreads=2, name="one") as w:
        async with Client(s.address, asynchronous=True) as c:
            await c.submit(add_one, 1, key="x")
            assert s.n_tasks == len(s.tasks)
            assert s.transition_counter > 0
            assert s.workers_list(["one"]) == s.workers_list(None) == [w.address]
            assert s.coerce_hostname("one") == s.workers[w.address].host
            assert s.get_worker_service_addr(w.address, "nothing") is None
            assert s.memory.process == s.workers[w.address].memory.process
            assert s.bandwidth > 0
            assert [len(step) for step in s.story("x")] and all(len(step) == 6 for step in s.story("x"))


@gen_test()
async def test_task_and_worker_states_compare_like_sets() -> None:
    async with Scheduler(port=0) as s, Worker(s.address, name="one") as w:
        async with Client(s.address, asynchronous=True) as c:
            x = c.submit(add_one, 1, key="x", workers=["one"], retries=2)
            y = c.submit(add_one, x, key="y")
            await y
            ws, tx, ty = s.workers[w.address], s.tasks["x"], s.tasks["y"]
            assert tx.who_has == {ws} and {ws} == tx.who_has and tx.who_has != set()
            assert tx.who_wants == {s.clients[c.id]}
            assert ty.dependencies == {tx} and tx.dependencies == set()
            assert tx.exception_text is None and tx.traceback_text is None
            assert tx.annotations["retries"] == 2 and list(tx.annotations["workers"]) == ["one"]
            assert ws.status == Status.running and ws.status.name == "running"
            assert len(ws.clean().has_what) == 0
            assert repr(tx.group) == repr(tx.prefix) == "<x: memory: 1>"


@gen_test()
async def test_worker_state_attributes() -> None:
    async with Scheduler(port=0) as s, Worker(s.address, name="one", resources={"A": 1}, memory_limit="1GB") as w:
        async with Client(s.address, asynchronous=True) as c:
            await c.submit(add_one, 1, key="x", resources={"A": 1})
            assert w.state.total_resources == w.state.available_resources == {"A": 1}
            assert w.state.running and not w.state.waiting and not w.state.long_running
            assert not w.state.all_running_tasks and not w.state.in_flight_tasks and w.state.executing_count == 0
            assert w.memory_manager.memory_limit == 10**9
            assert "waiting: 0" in repr(w)
            await w.set_resources(B=2)
            assert s.workers[w.address].resources == {"A": 1, "B": 2}


@gen_test()
async def test_logs_of_all_kinds_of_servers() -> None:
    async with Scheduler(port=0) as s, Worker(s.address) as w, Nanny(s.address, nthreads=1) as n:
        assert any(w.address in line for _, line in s.get_logs())
        async with rpc(w.address) as worker, rpc(n.address) as nanny:
            assert any(w.address in line for _, line in await worker.get_logs())
            assert any(n.address in line for _, line in await nanny.get_logs())
        answers = await s.broadcast(msg={"op": "get_logs"})
        assert set(answers) == set(s.workers) and all(answers.values())


@gen_test()
async def test_event_of_a_worker_names_it() -> None:
    async with Scheduler(port=0) as s, Worker(s.address) as w:
        w.log_event("topic", {"a": 1})
        await until(lambda: s.get_events("topic"))
        assert s.get_events("topic")[0][1] == {"a": 1, "worker": w.address}


class Broken(WorkerPlugin):
    name = "broken"

    def setup(self, worker: Any) -> None:
        raise ZeroDivisionError("in setup")


class BrokenInScheduler(SchedulerPlugin):
    name = "broken-too"

    def start(self, scheduler: Any) -> None:
        raise ZeroDivisionError("in start")


@gen_test()
async def test_plugin_that_fails_is_an_error_of_who_registers_it() -> None:
    async with Scheduler(port=0) as s, Worker(s.address), Client(s.address, asynchronous=True) as c:
        with pytest.raises(ZeroDivisionError, match="in setup"):
            await c.register_plugin(Broken())
        with pytest.raises(ZeroDivisionError, match="in start"):
            await c.register_plugin(BrokenInScheduler())
        assert "broken-too" not in s.plugins
        with pytest.raises(TypeError):
            await c.register_plugin(Broken)


@gen_test()
async def test_server_that_cannot_start_says_why() -> None:
    async with Scheduler(port=0) as s:
        with pytest.raises(RuntimeError, match="failed to start") as caught:
            await Worker(s.address, plugins=[Broken()])
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        async with Worker(s.address, name="one"):
            with pytest.raises(RuntimeError, match="failed to start") as caught:
                await Worker(s.address, name="one")
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(RuntimeError, match="failed to start") as caught:
            await Scheduler(port=s.port)
        assert isinstance(caught.value.__cause__, OSError)


class Details(SchedulerPlugin):
    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **kwargs: Any) -> None:
        self.seen[finish] = kwargs


@gen_test()
async def test_details_of_transitions() -> None:
    plugin = Details()
    async with Scheduler(port=0, plugins=[plugin]) as s, Worker(s.address), Client(s.address, asynchronous=True) as c:
        await c.submit(add_one, 1)
        assert plugin.seen["memory"]["status"] == "OK" and plugin.seen["memory"]["typename"]
        with pytest.raises(TypeError):
            await c.submit(add_one, "a", key="wrong")
        assert plugin.seen["erred"]["status"] == "error" and plugin.seen["erred"]["cause"] == "wrong"
        assert "TypeError" in plugin.seen["erred"]["exception_text"]


@gen_test()
async def test_settings_are_shown() -> None:
    async with Scheduler(port=0, worker_ttl="60s", idle_timeout="1h") as s:
        assert (s.worker_ttl, s.idle_timeout) == (60, 3600)
        assert s.WORKER_SATURATION > 1 and s.UNKNOWN_TASK_DURATION > 0
    assert Status.lookup["running"] is Status.running  # type: ignore[attr-defined]
