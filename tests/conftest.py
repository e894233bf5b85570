"""Fixtures of all tests."""

from __future__ import annotations

import fcntl
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed.comm import secrets


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would the programs that tests end by it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def default_ports() -> Iterator[None]:
    """The ports 8786 and 8787 are this test's: tests that need them take turns, also those of another process."""
    with (Path(tempfile.gettempdir()) / "distributed-tests-default-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
