"""Numbers in messages, with the limits that decoding checks: a peer that has gone bad cannot put a NaN or a negative
size into the scheduler's tables. The connection of one that tries ends."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Nbytes = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
"""A time that has passed: no NaN, no infinity."""
Amount = Annotated[float, Meta(ge=0)]
"""Of a resource; may be without end."""
LEAST = -1.7e308
Number = Annotated[float, Meta(ge=LEAST)]
"""Neither NaN nor minus infinity."""
