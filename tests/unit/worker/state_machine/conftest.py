"""The fixture that fails on unclaimed instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.worker.state_machine.env import Env


@pytest.fixture
def make_env() -> Iterator[Callable[..., Env]]:
    """A maker of environments that are checked for unclaimed instructions at the end."""
    envs: list[Env] = []

    def make(*args: Any, **kwargs: Any) -> Env:
        envs.append(Env(*args, **kwargs))
        return envs[-1]

    yield make
    for made in envs:
        made.done()


@pytest.fixture
def env(make_env: Callable[..., Env]) -> Env:
    """A worker with one thread."""
    return make_env()
