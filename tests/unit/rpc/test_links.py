"""A codec takes only what may come over its link."""

from __future__ import annotations

import pytest

from distributed.base.errors import FrameError
from distributed.messages.client_to_scheduler import ReleaseKeys
from distributed.messages.control import Reply
from distributed.messages.scheduler_to_client import KeysLost
from distributed.messages.worker_to_scheduler import WorkerStatus
from distributed.rpc.links import codec_for


def test_each_end_takes_its_own_messages():
    segments = codec_for("client", "scheduler").encode([ReleaseKeys(["k"]), Reply(1)])
    assert codec_for("scheduler", "client").decode(segments) == [ReleaseKeys(["k"]), Reply(1)]
    for role, peer in (("scheduler", "worker"), ("worker", "worker"), ("client", "scheduler")):
        with pytest.raises(FrameError):
            codec_for(role, peer).decode(segments)


@pytest.mark.parametrize("message", [KeysLost(["k"]), WorkerStatus("paused")])
def test_a_client_cannot_speak_as_another(message):
    segments = codec_for("client", "scheduler").encode([message])
    with pytest.raises(FrameError):
        codec_for("scheduler", "client").decode(segments)
