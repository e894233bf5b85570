"""Which jobs of a cluster count as lost."""

from __future__ import annotations

from distributed.deploy.absence import Absence

JOBS = {"one": ["one-0", "one-1"], "two": ["two-0"]}


def test_a_job_is_lost_when_its_workers_stay_away() -> None:
    absence = Absence()
    assert absence.lost(JOBS, {"one-0", "one-1", "two-0"}, 0.0, 5.0) == []
    assert absence.lost(JOBS, {"one-1"}, 1.0, 5.0) == [], "one of its workers is enough, and two has time"
    assert absence.lost(JOBS, {"one-1"}, 6.0, 5.0) == ["two"]
    assert absence.lost(JOBS, {"one-1"}, 20.0, 5.0) == [], "it is told once, and new until it has come again"


def test_a_job_that_comes_back_in_time_has_all_its_time_again() -> None:
    absence = Absence()
    for now, observed in ((0.0, {"two-0"}), (1.0, set()), (4.0, {"two-0"}), (5.0, set()), (9.0, set())):
        assert absence.lost({"two": ["two-0"]}, observed, now, 5.0) == []
    assert absence.lost({"two": ["two-0"]}, set(), 10.0, 5.0) == ["two"]


def test_a_job_that_has_not_come_yet_is_not_lost() -> None:
    absence = Absence()
    assert absence.lost(JOBS, set(), 0.0, 5.0) == []
    assert absence.lost(JOBS, set(), 1000.0, 5.0) == []


def test_a_new_job_of_an_old_name_may_wait() -> None:
    absence = Absence()
    absence.lost({"two": ["two-0"]}, {"two-0"}, 0.0, 5.0)
    absence.lost({}, set(), 1.0, 5.0)  # closed
    absence.forget("two")
    assert absence.lost({"two": ["two-0"]}, set(), 2.0, 5.0) == []
    assert absence.lost({"two": ["two-0"]}, set(), 100.0, 5.0) == []
