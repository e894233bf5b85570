from __future__ import annotations

from distributed.nanny.restart_policy import MAX_FAILED_STARTS, MAX_PAUSE_S, RestartPolicy


def test_worker_that_lived_is_replaced_at_once() -> None:
    policy = RestartPolicy()
    for _ in range(10):
        decision = policy.on_exit(True, 100.0)
        assert decision.restart and decision.delay_s == 0


def test_short_lives_bring_growing_pauses() -> None:
    policy = RestartPolicy()
    pauses = [policy.on_exit(True, 0.1).delay_s for _ in range(30)]
    assert pauses[:3] == [0, 0, 0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_S


def test_a_long_life_makes_good() -> None:
    policy = RestartPolicy()
    for _ in range(10):
        policy.on_exit(True, 0.1)
    policy.on_exit(True, 100.0)
    assert policy.on_exit(True, 0.1).delay_s == 0


def test_one_that_never_starts_is_given_up() -> None:
    policy = RestartPolicy()
    decisions = [policy.on_exit(False, 0.1) for _ in range(MAX_FAILED_STARTS)]
    assert [d.restart for d in decisions] == [True] * (MAX_FAILED_STARTS - 1) + [False]
    assert "failed to start" in decisions[-1].reason
    policy.on_ordered_start()
    assert policy.on_exit(False, 0.1).restart
