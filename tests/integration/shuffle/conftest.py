from __future__ import annotations

from tests.integration.scheduler.conftest import private_places

__all__ = ["private_places"]
