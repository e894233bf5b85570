"""Fixtures of the tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distributed import Client
from distributed.base.log_limit import LogLimit
from distributed.comm import secrets, sockets
from distributed.testing import cleanup, loop, loop_in_thread
from tests.integration.faults.small_cluster import small_cluster

__all__ = ["cleanup", "loop", "loop_in_thread"]


@pytest.fixture
def pair(cleanup: None) -> Iterator[Client]:
    """The client of a cluster of two worker processes with a nanny and one thread each, named 0 and 1."""
    with small_cluster() as client:
        yield client


@pytest.fixture
def private_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets and sockets of these tests, and of the programs they start, stay out of the user's own directories."""
    base = tmp_path_factory.mktemp("d")
    monkeypatch.setenv(secrets.ENV_STORE, str(base / "s"))
    monkeypatch.setenv("DASK_DISTRIBUTED__RUNTIME_DIRECTORY", str(base / "r"))
    monkeypatch.delenv(secrets.ENV_TOKEN, raising=False)
    monkeypatch.delenv(secrets.ENV_TOKEN_FILE, raising=False)
    monkeypatch.setattr(secrets, "_known", {})
    monkeypatch.setattr(secrets, "_by_address", {})


@pytest.fixture
def log_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are written once a minute are written once a test."""
    monkeypatch.setattr(sockets, "_log", LogLimit(sockets.logger))
