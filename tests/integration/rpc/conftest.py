from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def everything_in_private(private_places: None) -> None:
    """All tests of this folder."""
