"""The file in which a scheduler says where it is, from a client's side: waiting for it. Shell."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from distributed.comm.secrets import read_scheduler_file

POLL_S = 0.05


async def address_from_file(path: Any, deadline: float) -> str:
    """The address in the file at ``path``, as soon as it is there and whole.

    Parameters
    ----------
    deadline
        On the clock ``time.monotonic``; after it a TimeoutError says what was missing.
    """
    began = time.monotonic()
    problem = f"there is no scheduler file {os.fspath(path)!r}"
    while True:
        try:
            document, _ = read_scheduler_file(path)
            return str(document["address"])
        except FileNotFoundError:
            pass
        except (ValueError, json.JSONDecodeError) as e:
            problem = str(e)
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{problem} after {deadline - began:.3g} s")
        await asyncio.sleep(POLL_S)
