"""How long a lease lasts that nobody renews, as the settings say. Read by both ends."""

from __future__ import annotations

import math

from distributed.base import settings


def lease_timeout_s() -> float | None:
    """Seconds after which a lease that is not renewed ends; None: never. The same setting counts on both ends."""
    value = settings.get("distributed.scheduler.locks.lease-timeout", "30s")
    found = None if value is None else float(settings.parse_timedelta(value))
    return None if found is None or math.isinf(found) or found <= 0 else found
