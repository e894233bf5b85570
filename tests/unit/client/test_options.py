from __future__ import annotations

import pytest

from distributed.client.options import make_options, worker_names
from distributed.messages.client_to_scheduler import TaskOptions


def test_default_options_are_none():
    assert make_options() is None
    assert make_options(0, None, None, False, None, False, {}) is None
    assert make_options(0, 0) is None


def test_options():
    made = make_options(1, 2, ["w", 3], True, {"GPU": 1})
    assert made == TaskOptions(1.0, 2, ("w", "3"), True, {"GPU": 1.0})
    made = make_options(5, annotations={"priority": 1, "retries": 3, "custom": "x", "executor": "gpu"})
    assert made == TaskOptions(5.0, 3, executor="gpu", annotations={"custom": "x"})


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"priority": "high"}, TypeError),
        ({"retries": "x"}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"workers": object()}, TypeError),
        ({"workers": [None]}, TypeError),
        ({"allow_other_workers": "x", "workers": "a"}, TypeError),
        ({"resources": 5}, TypeError),
        ({"resources": {"GPU": "one"}}, TypeError),
        ({"resources": {"GPU": -1}}, ValueError),
        ({"resources": {1: 1}}, TypeError),
        ({"annotations": {"executor": 5}}, TypeError),
    ],
)
def test_bad_options(keywords, error):
    with pytest.raises(error) as info:
        make_options(**keywords)
    name = next(iter(keywords))
    assert name.rstrip("s") in str(info.value) or "executor" in str(info.value)


def test_worker_names():
    assert worker_names(None) is None
    assert worker_names("a") == ("a",)
    assert worker_names(3) == ("3",)
    assert worker_names({"a"}) == ("a",)
    assert worker_names(iter(["a"])) == ("a",)
