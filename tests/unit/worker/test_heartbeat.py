"""Signs of life, as a nanny sees them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from distributed.worker.executing_page import ExecutingPage
from distributed.worker.heartbeat import Heart


def test_every_beat_is_on_the_page_also_while_there_is_no_scheduler() -> None:
    page = ExecutingPage.create()
    beats = []

    async def run() -> None:
        third = asyncio.Event()

        def beat() -> None:
            beats.append(page.beats)
            if len(beats) == 3:
                third.set()

        worker = SimpleNamespace(
            heartbeat_interval=0.001,
            user_metrics={},
            link=SimpleNamespace(beat=beat, stands=False),
            rpc=SimpleNamespace(look=lambda: None),
        )
        heart = Heart(worker)
        heart.start(page)
        assert page.beats == 1
        await asyncio.wait_for(third.wait(), 30)
        heart.stop()

    asyncio.run(run())
    assert beats == [2, 3, 4]
    page.close()
