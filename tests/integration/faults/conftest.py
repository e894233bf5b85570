"""Fixtures of the tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distributed import Client
from distributed.base.log_limit import LogLimit
from distributed.comm import bad_streams
from distributed.testing import cleanup, loop, loop_in_thread
from tests.integration.faults.small_cluster import small_cluster

__all__ = ["cleanup", "loop", "loop_in_thread"]


@pytest.fixture
def pair(cleanup: None) -> Iterator[Client]:
    """The client of a cluster of two worker processes with a nanny and one thread each, named 0 and 1."""
    with small_cluster() as client:
        yield client


@pytest.fixture
def log_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are written once a minute are written once a test."""
    monkeypatch.setattr(bad_streams, "_log", LogLimit(bad_streams.logger))
