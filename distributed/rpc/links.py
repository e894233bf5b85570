"""Which messages may come over which link: what a codec accepts depends on who the two ends are.

Pure. A message that does not belong to the link fails in decoding, and the connection with it: a worker cannot speak
as a client.
"""

from __future__ import annotations

import functools
from typing import Any

from distributed.messages.client_to_scheduler import ClientToScheduler
from distributed.messages.control import Control
from distributed.messages.nanny import NannyToScheduler
from distributed.messages.scheduler_to_client import SchedulerToClient
from distributed.messages.scheduler_to_worker import SchedulerToWorker
from distributed.messages.worker_to_scheduler import WorkerToScheduler
from distributed.protocol.codec import Codec

# (who receives, who has sent) -> messages. Every other pair has questions and answers only.
_LINKS: dict[tuple[str, str], Any] = {
    ("scheduler", "client"): Control | ClientToScheduler,
    ("scheduler", "worker"): Control | WorkerToScheduler,
    ("scheduler", "nanny"): Control | NannyToScheduler,
    ("client", "scheduler"): Control | SchedulerToClient,
    ("worker", "scheduler"): Control | SchedulerToWorker,
}


@functools.cache
def codec_for(role: str, peer_role: str) -> Codec:
    """The codec of one end of a link: decodes what ``peer_role`` may send to ``role``."""
    return Codec(_LINKS.get((role, peer_role), Control))
