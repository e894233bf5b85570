"""Clusters that spill run servers and secrets of their own."""

from __future__ import annotations

import pytest

from distributed.testing import cleanup

__all__ = ["cleanup"]


@pytest.fixture(autouse=True)
def everything_in_private(private_places: None) -> None:
    """All tests of this folder."""
