"""Without memray: one clear error. With it: reports of real processes, by hand (it is no dependency of the tests)."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from distributed.diagnostics import memray

FOUND: dict[str, Any] = {"tcp://a:1": {"name": 0}, "tcp://b:1": {"name": "big"}}


@pytest.mark.parametrize("follow", [memray.memray_workers, memray.memray_scheduler])
def test_without_memray(monkeypatch, tmp_path, follow):
    monkeypatch.setitem(sys.modules, "memray", None)
    with pytest.raises(ImportError, match="pip install memray"), follow(tmp_path / "reports"):
        pytest.fail("this block must not begin")
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("workers", "chosen"),
    [(None, [*FOUND]), (1, ["tcp://a:1"]), ([0], ["tcp://a:1"]), (["big", "tcp://a:1"], [*FOUND]), ([], [])],
)
def test_workers_are_chosen_by_number_name_and_address(workers, chosen):
    assert memray._chosen(FOUND, workers) == chosen


@pytest.mark.parametrize(("workers", "error"), [(["small"], ValueError), ("big", TypeError), (1.5, TypeError)])
def test_workers_that_are_not_there(workers, error):
    with pytest.raises(error, match="workers="):
        memray._chosen(FOUND, workers)
