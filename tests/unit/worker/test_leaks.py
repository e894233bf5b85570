"""What is told to be left behind by tasks, and by which."""

from __future__ import annotations

from distributed.worker.leaks import LeakFinder

THREAD = ("threads", 7)
FILE = ("files", (5, "/x"))


def test_what_was_there_before_is_no_leak() -> None:
    finder = LeakFinder([THREAD])
    for _ in range(3):
        assert finder.look({THREAD: "t"}, {}, ["a"], 1) == []


def test_what_outlives_its_task_is_told_once() -> None:
    finder = LeakFinder([])
    assert finder.look({THREAD: "t"}, {}, ["a"], 1) == []  # it may be on its way out
    (leak,) = finder.look({THREAD: "t"}, {}, ["b"], 1)
    assert leak == ("threads", ["t"], ["a"], 1)
    assert finder.look({THREAD: "t"}, {}, ["c"], 1) == []
    assert not finder.suspects


def test_what_goes_with_its_task_is_no_leak() -> None:
    finder = LeakFinder([])
    assert finder.look({THREAD: "t", FILE: "f"}, {1: "a"}, [], 0) == []
    assert finder.look({THREAD: "t", FILE: "f"}, {1: "a"}, ["b"], 1) == []
    assert finder.look({}, {}, ["a"], 1) == []
    assert not finder.suspects and not finder.known


def test_every_task_that_ran_is_suspected() -> None:
    finder = LeakFinder([])
    finder.look({THREAD: "t"}, {1: "a", 2: "b"}, ["c"], 30)
    assert finder.look({THREAD: "t"}, {2: "b"}, ["a"], 1) == []  # b may still use it
    (leak,) = finder.look({THREAD: "t"}, {3: "d"}, ["b"], 1)
    assert leak == ("threads", ["t"], ["c", "a", "b"], 32)


def test_what_cannot_be_told_apart_waits_for_a_quiet_moment() -> None:
    finder = LeakFinder([])
    finder.look({FILE: "f"}, {1: "a"}, [], 0)
    assert finder.look({FILE: "f"}, {2: "b"}, ["a"], 1) == []  # b may have opened it anew
    (leak,) = finder.look({FILE: "f"}, {}, ["b"], 1)
    assert leak.keys == ["a"]


def test_what_appears_while_no_task_runs_is_ours() -> None:
    finder = LeakFinder([])
    assert finder.look({THREAD: "t"}, {}, [], 0) == []
    assert finder.look({THREAD: "t"}, {}, ["a"], 1) == []


def test_leaks_of_one_kind_are_told_together() -> None:
    finder = LeakFinder([])
    sample = {("threads", n): f"t{n}" for n in range(3)} | {FILE: "f"}
    finder.look(sample, {}, ["a"], 1)
    assert [(leak.kind, leak.items) for leak in finder.look(sample, {}, [], 0)] == [
        ("threads", ["t0", "t1", "t2"]),
        ("files", ["f"]),
    ]


def test_what_comes_back_is_told_again() -> None:
    finder = LeakFinder([])
    for _ in range(2):
        finder.look({THREAD: "t"}, {}, ["a"], 1)
        assert len(finder.look({THREAD: "t"}, {}, [], 0)) == 1
        finder.look({}, {}, ["b"], 1)
