"""``distributed._signals``: a program of one's own waits for its end."""

from __future__ import annotations

import asyncio
import logging
import signal

logger = logging.getLogger("distributed._signals")


async def wait_for_signals() -> int:
    """Wait for SIGINT or SIGTERM, which then end nothing by themselves; the number of the one that came."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[int] = loop.create_future()

    def note(number: int) -> None:
        logger.info("Received signal %s (%d)", signal.Signals(number).name, number)
        if not came.done():
            came.set_result(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, note, number)
    try:
        return await came
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)
