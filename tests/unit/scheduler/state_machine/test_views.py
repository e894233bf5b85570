"""What plugins, pages and users see of the tables: names and values of attributes, texts, the story."""

from __future__ import annotations

import pytest

from distributed.base.status import Status
from distributed.messages.client_to_scheduler import TaskOptions
from distributed.messages.nanny import WorkerProcessExited
from distributed.scheduler.state_machine import DeathRecord
from distributed.scheduler.state_machine.entities import Members
from distributed.scheduler.state_machine.groups import GroupTable
from distributed.scheduler.state_machine.memory_state import MemoryState
from tests.unit.scheduler.state_machine.environment import BOOM, TestEnv, a_task


@pytest.fixture
def env():
    return TestEnv({"a": 1, "b": 2})


class TestTask:
    def test_options_are_annotations(self, env):
        options = TaskOptions(2, 3, ("a", "host-x"), True, {"GPU": 1.0}, annotations={"span": "s"})
        env.submit(a_task("x"), options=[options])
        ts = env.task("x")
        assert ts.annotations == {
            "priority": 2,
            "retries": 3,
            "workers": ("a", "host-x"),
            "allow_other_workers": True,
            "resources": {"GPU": 1.0},
            "span": "s",
        }
        assert ts.resource_restrictions == {"GPU": 1.0}
        assert ts.loose_restrictions
        assert not ts.actor
        assert ts.retries == 3

    def test_names_of_workers_are_told_from_hosts(self, env):
        env.submit(a_task("x"), options=[TaskOptions(workers=("a", "host-x", "tcp://far:1"))])
        ts = env.task("x")
        assert ts.worker_restrictions == {"tcp://a:1", "tcp://far:1"}
        assert ts.host_restrictions == {"host-x"}

    def test_waiters_and_what_is_waited_for(self, env):
        env.submit(a_task("x"), a_task("y", "x"))
        x, y = env.task("x"), env.task("y")
        assert y.waiting_on == {x}
        assert x.waiters == {y}
        assert x.waiting_on == y.waiters == set()
        assert (x.group_key, x.prefix.name) == ("x", "x")
        assert repr(y) == "<TaskState 'y' waiting>"

    def test_error(self, env):
        env.submit(a_task("x"), a_task("y", "x"))
        env.raise_("x")
        x, y = env.task("x"), env.task("y")
        assert (x.exception, x.traceback, x.traceback_text) == (None, None, "")
        assert y.exception_text == x.exception_text == "ValueError('boom')"
        assert y.exception_blame is x
        assert x.erred_on == ["tcp://a:1"]
        assert x.error is BOOM

    def test_a_healthy_task_has_none_of_it(self, env):
        env.submit(a_task("x"))
        ts = env.task("x")
        assert (ts.suspicious, ts.erred_on, ts.metadata, ts.unshippable, ts.traceback_text) == (0, [], None, None, None)
        assert ts.get_nbytes() == 0

    def test_metadata_of_a_run(self, env):
        env.submit(a_task("x"))
        env.finish("x", metadata={"rows": 3})
        assert env.task("x").metadata == {"rows": 3}


class TestWorker:
    def test_attributes(self, env):
        env.submit(a_task("x"))
        env.finish("x", nbytes=30)
        ws = env.worker("a")
        assert ws.status is Status.running
        assert ws.server_id == "tcp://a:1"
        assert repr(ws) == "<WorkerState 'tcp://a:1', name: a, status: running, memory: 1, processing: 0>"
        copy = ws.clean()
        assert (copy.address, len(copy.has_what)) == ("tcp://a:1", 0)

    def test_memory_without_a_heartbeat_is_what_tasks_left(self, env):
        env.submit(a_task("x"))
        env.finish("x", nbytes=30)
        assert env.worker("a").memory.managed == 30

    def test_a_number_as_a_name_stays_a_number(self, env):
        assert env.join("7", name_is_int=True).name == 7

    def test_death_record(self):
        death = DeathRecord("tcp://a:1", "", "killed by signal 9", signal=9, peak_bytes=2**21, log_tail=("last words",))
        text = death.describe()
        assert text.split("\n") == [
            "worker tcp://a:1 on unknown host: killed by signal 9, signal 9, peak memory 2 MiB",
            "    last words",
        ]
        assert "exit code 3" in DeathRecord("tcp://a:1", "h", "gone", exit_code=3).describe()

    @pytest.mark.parametrize(
        ("report", "cause"),
        [({"exit_code": 3}, "exited with code 3"), ({"signal": 11}, "killed by signal 11"), ({}, "process ended")],
    )
    def test_cause_of_an_exit(self, env, report, cause):
        env.event(WorkerProcessExited("tcp://a:1", 0, **report), "nanny")
        (removed,) = env.instructed()
        assert removed.cause == cause

    def test_a_report_on_an_earlier_process_is_ignored(self, env):
        env.join("d", pid=100)
        env.event(WorkerProcessExited("tcp://d:1", 99, signal=9), "nanny")
        assert "tcp://d:1" in env.state.workers


class TestMemory:
    def test_parts_add_up(self):
        memory = MemoryState(100, 50, 20, 10)
        assert (memory.managed, memory.unmanaged, memory.unmanaged_recent, memory.optimistic) == (30, 70, 60, 40)

    def test_nothing_is_negative(self):
        memory = MemoryState(10, 50, 60, 100)
        assert (memory.managed, memory.unmanaged, memory.unmanaged_recent) == (0, 10, 0)

    def test_sum(self):
        total = MemoryState.sum(MemoryState(1, 2, 3, 4), MemoryState(10, 20, 30, 40))
        assert total == MemoryState(11, 22, 33, 44)


class TestGroups:
    @pytest.mark.parametrize(
        ("key", "group", "prefix"),
        [
            ("inc-12", "inc", "inc"),
            ("inc-0123456789abcdef0123456789abcdef", "inc", "inc"),
            ("inc-z123456789abcdef0123456789abcdef", "inc-z123456789abcdef0123456789abcdef", None),
            (("x-0123456789abcdef0123456789abcdef", 3), "x-0123456789abcdef0123456789abcdef", "x"),
            ("plain", "plain", "plain"),
        ],
    )
    def test_names(self, key, group, prefix):
        table = GroupTable(0.5, {})
        found = table.group_of(key)
        assert found.name == group
        assert prefix is None or found.prefix.name == prefix
        assert table.group_of(key) is found

    def test_a_known_duration_counts_at_once(self):
        prefix = GroupTable(0.5, {"load": 2.0}).group_of("load-1").prefix
        assert (prefix.expected_s, prefix.duration_average) == (2.0, 2.0)

    def test_counters(self, env):
        for i in range(3):
            env.submit(a_task(("x-1", i)))
        env.finish(("x-1", 0), nbytes=5, duration_s=0.5, type_name="int")
        group = env.state.task_groups["x-1"]
        prefix = env.state.task_prefixes["x"]
        assert (len(group), len(prefix)) == (3, 3)
        assert group.types == prefix.types == {"int"}
        assert (prefix.nbytes_total, prefix.duration, prefix.all_durations) == (5, 0.5, {"compute": 0.5})
        assert group.all_durations == {"compute": 0.5}
        assert not group.done
        assert prefix.state_counts["memory"] == 1
        assert repr(prefix) == "<x: processing: 2 memory: 1>"
        env.finish(("x-1", 1))
        env.finish(("x-1", 2))
        assert group.done

    def test_a_prefix_remembers_what_is_forgotten(self, env):
        env.submit(a_task("x-1"))
        env.finish("x-1", nbytes=5, duration_s=0.5)
        env.release("x-1")
        prefix = env.state.task_prefixes["x"]
        assert (prefix.nbytes_total, prefix.duration, prefix.states["forgotten"]) == (5, 0.5, 1)
        assert not env.state.task_groups


class TestTables:
    def test_totals(self, env):
        env.join("g", 4, resources={"GPU": 2.0})
        assert env.state.total_nthreads == 7
        assert env.state.total_occupancy == 0
        assert env.state.resources == {"GPU": {"tcp://g:1": 2.0}}
        env.submit(a_task("x"))
        assert env.state.total_occupancy > 0
        assert env.state.transition_counter > 0

    def test_story_by_key_and_by_stimulus(self, env):
        env.submit(a_task("x"), a_task("y"))
        env.finish("x")
        story = env.state.story("x")
        assert [(step.start, step.finish) for step in story] == [
            ("released", "waiting"),
            ("waiting", "processing"),
            ("processing", "memory"),
        ]
        same_event = env.state.story(story[0].stimulus_id)
        assert {step.key for step in same_event} == {"x", "y"}
        assert len(env.state.story()) > len(story)

    def test_without_a_log_there_is_no_story(self):
        env = TestEnv({"a": 1}, story_length=0)
        env.submit(a_task("x"))
        env.finish("x")
        env.release("x")
        assert env.state.story() == []
        assert env.state.explain("x").since == -1

    def test_recording_begins_with_the_first_plugin(self, env):
        env.submit(a_task("x"))
        assert not env.transitions
        env.state.set_recording(True)
        env.finish("x")
        (step,) = env.transitions
        assert (step.key, step.start, step.finish, step.worker) == ("x", "processing", "memory", "tcp://a:1")
        env.state.set_recording(False)
        env.release("x")
        assert len(env.transitions) == 1

    def test_a_batch_is_handled_in_order(self, env):
        from distributed.messages.client_to_scheduler import ReleaseKeys

        env.submit(a_task("x"))
        env.state.handle_batch([ReleaseKeys(["x"]), ReleaseKeys(["x"])], "c", env.now)
        env.flush()
        assert not env.state.tasks
        assert env.state.outbox.take().closed_workers == []
        assert not env.state.outbox

    def test_members_equal_sets_and_tuples(self):
        both = Members((1, 2))
        assert both == {2, 1}
        assert both == (1, 2)
        assert both != {1}
        assert both != (2, 1)
        assert hash(both) == hash((1, 2))
