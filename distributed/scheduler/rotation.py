"""Changing the cluster's secret: workers and nannies are told, the store and the scheduler file are written anew."""

from __future__ import annotations

import logging
from typing import Any

from distributed.base.settings import parse_timedelta
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.rpc.rotation import hand_out
from distributed.scheduler.event_log import ALL

logger = logging.getLogger("distributed.scheduler")


async def rotate(scheduler: Any, overlap: Any) -> Secret:
    """Make a new secret and let everybody who is entitled have it; returns it.

    Raises ValueError where the secret is not the scheduler's to change.
    """
    if secrets.from_environment() is not None or scheduler.secret is None:
        raise ValueError(
            "the cluster's secret was given by the environment or the settings (distributed.auth): change it there and "
            "start the cluster again"
        )
    overlap_s = float(parse_timedelta(overlap))
    old, new = scheduler.secret, Secret.new()
    scheduler.rotation.change(new)
    streams = scheduler.shell.streams
    kinds = (("worker", streams.workers), ("nanny", streams.nannies))
    members = [(kind, connection) for kind, links in kinds for connection in streams.connections(links).values()]
    missed = await hand_out(members, new, overlap_s)
    scheduler.rotation.end_overlap_in(overlap_s)
    secrets.remove(old)
    scheduler.publish_secret()
    logger.info("The cluster's secret is new; the old one is good for another %g s", overlap_s)
    if missed:
        logger.warning("These have not taken the new secret, and will be shown out: %s", ", ".join(missed))
    scheduler.shell.events.log([ALL], {"action": "rotate-secret", "overlap_s": overlap_s, "missed": missed})
    return new
