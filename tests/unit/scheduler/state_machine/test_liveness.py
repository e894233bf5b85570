"""Silent workers: suspected, vouched for, given up, welcomed back."""

from __future__ import annotations

from typing import Any

from distributed.messages.nanny import WorkerVouched
from distributed.messages.scheduler_to_worker import CloseWorkerOrder, PeerLost
from distributed.messages.worker_to_scheduler import Heartbeat, TaskFinished
from distributed.scheduler.state_machine.instructions import WorkerAnswered, WorkerRemoved, WorkerSuspected
from tests.unit.scheduler.state_machine.environment import TestEnv, a_task

WATCHED = {"suspect_s": 5.0, "lost_s": 15.0, "lost_alone_s": 60.0, "worker_ttl_s": 300.0}


def beat(env: TestEnv, *names: str) -> None:
    for name in names:
        env.event(Heartbeat({}), f"tcp://{name}:1")


def vouch(
    env: TestEnv, name: str, process_state: str = "sleeping", executing: tuple[int, ...] = (), held_s: float = 5.0
) -> None:
    env.event(WorkerVouched(f"tcp://{name}:1", 0, held_s, process_state, executing), "nanny")


def pass_time(env: TestEnv, seconds: int, alive: str = "", vouched: str = "", **kwargs: Any) -> None:
    """Second by second, with the signs of life of the workers in ``alive``, and the nanny's word for ``vouched``."""
    for _ in range(seconds):
        env.wait(1.0)
        beat(env, *alive)
        for name in vouched:
            vouch(env, name, **kwargs)


def kinds(things: list[Any]) -> list[str]:
    return [type(thing).__name__ for thing in things]


def test_suspect_gets_no_new_tasks_and_is_welcomed_back() -> None:
    with TestEnv({"a": 1, "b": 1}, **WATCHED) as env:
        pass_time(env, 4, alive="b")
        assert env.worker("a").running
        pass_time(env, 2, alive="b")
        (suspected,) = env.instructed()
        assert isinstance(suspected, WorkerSuspected) and suspected.name == "a" and 5 < suspected.silent_s < 7
        assert not env.worker("a").running
        env.submit(*[a_task(f"x-{i}") for i in range(4)])
        assert env.computes("b") and not env.sent("a")
        beat(env, "a")
        (answered,) = env.instructed()
        assert isinstance(answered, WorkerAnswered) and not answered.holders
        assert env.computes("a")


def test_task_of_a_suspect_says_so() -> None:
    with TestEnv({"a": 1}, **WATCHED) as env:
        env.submit(a_task("x"))
        env.ignore_all()
        pass_time(env, 6)
        assert "suspect: no heartbeat for 6 s" in env.state.explain("x").text
        env.submit(a_task("y", "x"), a_task("z"))
        assert "suspect" in env.state.explain("z").text
        env.ignore_all()


def test_worker_and_nanny_are_cut_off_for_too_long_so_it_is_lost_and_fenced() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        env.join("b")
        env.submit(a_task("x"))
        (order,) = env.computes("a")
        old = order.run_id
        pass_time(env, 29, alive="b")
        assert kinds(env.instructed()) == ["WorkerSuspected"]
        pass_time(env, 2, alive="b")
        (removed,) = env.instructed()
        assert isinstance(removed, WorkerRemoved) and removed.n_rerun == 1
        assert removed.cause.startswith("no sign of life for 3")
        (close,) = env.sent("a")
        assert isinstance(close, CloseWorkerOrder) and close.restart
        lost, again = env.sent("b")
        assert isinstance(lost, PeerLost) and lost.worker == "tcp://a:1"
        assert again.key == "x" and again.run_id != old
        assert kinds(env.told()) == ["PeerLost"]
        # It comes back, and its old run is worth nothing.
        env.event(TaskFinished("x", old, 10, 0.1), "tcp://a:1")
        assert env.states() == {"x": "processing"} and env.where("x") == "b"


def test_a_word_of_the_nanny_before_both_were_cut_off_is_no_reason_to_hurry() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        env.submit(a_task("x"))
        env.ignore_all()
        pass_time(env, 6, vouched="a")
        pass_time(env, 29)
        assert kinds(env.instructed()) == ["WorkerSuspected"]
        pass_time(env, 2)
        assert env.instructed()[-1].cause.startswith("no sign of life for 3")
        env.ignore_all()


def test_stopped_process_is_not_vouched_for() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        env.submit(a_task("x"))
        env.ignore_all()
        pass_time(env, 16, vouched="a", process_state="stopped")
        assert "(its process is stopped)" in env.instructed()[-1].cause
        assert not env.state.workers
        env.ignore_all()


def test_busy_process_is_kept_until_the_last_limit() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        env.submit(a_task("x"))
        (order,) = env.computes("a")
        pass_time(env, 100, vouched="a", executing=(order.run_id,))
        assert kinds(env.instructed()) == ["WorkerSuspected"]
        assert "its event loop does not move, while it runs 'x'" in env.state.explain("x").text
        beat(env, "a")
        (answered,) = env.instructed()
        assert answered.holders == ("x",) and 99 < answered.silent_s < 101
        pass_time(env, 310, vouched="a", executing=(order.run_id,))
        assert env.instructed()[-1].cause.startswith("no heartbeat for 30")
        assert not env.state.workers
        env.ignore_all()


def test_process_that_goes_on_after_a_stop_accuses_nobody() -> None:
    """Before it was stopped, and until its loop moves again, the nanny finds a process that is not stopped, and whose
    loop is silent."""
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        env.submit(a_task("x"))
        (order,) = env.computes("a")
        pass_time(env, 3, vouched="a", executing=(order.run_id,), held_s=3.0)
        pass_time(env, 3, vouched="a", process_state="stopped", executing=(order.run_id,), held_s=0.0)
        assert kinds(env.instructed()) == ["WorkerSuspected"]
        vouch(env, "a", "running", (order.run_id,), held_s=1.0)
        beat(env, "a")
        (answered,) = env.instructed()
        assert isinstance(answered, WorkerAnswered) and answered.holders == ()


def test_silent_process_that_executes_nothing_accuses_nobody() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        pass_time(env, 6, vouched="a", held_s=6.0)
        beat(env, "a")
        assert [answered.holders for answered in env.instructed() if isinstance(answered, WorkerAnswered)] == [()]


def test_task_that_held_the_loop_is_named_though_it_has_ended_before_the_loop_spoke() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        env.submit(a_task("x"))
        (order,) = env.computes("a")
        pass_time(env, 6, vouched="a", executing=(order.run_id,))
        vouch(env, "a", "running", (), held_s=7.0)
        beat(env, "a")
        assert [answered.holders for answered in env.instructed() if isinstance(answered, WorkerAnswered)] == [("x",)]
        # The next silence is another matter.
        pass_time(env, 6, vouched="a", process_state="stopped", held_s=0.0)
        beat(env, "a")
        assert [answered.holders for answered in env.instructed() if isinstance(answered, WorkerAnswered)] == [()]


def test_worker_that_was_busy_and_then_stopped_has_the_full_time() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        pass_time(env, 20, vouched="a")
        pass_time(env, 14, vouched="a", process_state="stopped")
        assert kinds(env.instructed()) == ["WorkerSuspected"]
        pass_time(env, 3, vouched="a", process_state="stopped")
        assert kinds(env.instructed()) == ["WorkerRemoved"]
        env.ignore_all()


def test_worker_without_nanny_has_longer() -> None:
    with TestEnv({"a": 1}, **WATCHED) as env:
        pass_time(env, 59)
        assert kinds(env.instructed()) == ["WorkerSuspected"]
        pass_time(env, 3)
        assert kinds(env.instructed()) == ["WorkerRemoved"]
        env.ignore_all()


def test_scheduler_that_stood_still_blames_nobody() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1")
        pass_time(env, 2, alive="a")
        env.now += 60.0  # stopped, or busy with something else: deadlines come late
        beat(env, "a")  # read before the deadline is seen to be late
        env.wait(1.0)
        assert env.worker("a").last_seen <= env.now, "nobody was seen in the future"
        pass_time(env, 2, alive="a")
        assert not env.instructed()
        assert env.worker("a").running


def test_limits_that_are_switched_off() -> None:
    with TestEnv({"a": 1}) as env:
        pass_time(env, 1000)
        assert env.state.next_deadline() is None


def test_word_about_another_process_does_not_count() -> None:
    with TestEnv({}, **WATCHED) as env:
        env.join("a", nanny="tcp://n:1", pid=5)
        env.event(WorkerVouched("tcp://a:1", 4, 3.0, "running", ()), "nanny")
        assert env.worker("a").vouch is None
        env.event(WorkerVouched("tcp://nobody:1", 4, 3.0, "running", ()), "nanny")


def test_silent_worker_is_given_up_by_the_last_limit_alone() -> None:
    with TestEnv({"a": 1}, worker_ttl_s=10) as env:
        env.submit(a_task("x"))
        env.ignore_all()
        env.wait(20)
        assert not env.state.workers and env.states() == {"x": "queued"}
        (order,) = env.sent("a")
        assert "no heartbeat" in order.reason
        env.ignore_all()
