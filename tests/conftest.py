"""Fixtures of all tests."""

from __future__ import annotations

import pytest

from distributed.comm import secrets


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
