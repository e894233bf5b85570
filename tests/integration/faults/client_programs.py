"""Programs with a client, run in processes of their own by the tests of client sessions.

``python -m ... NAME ADDRESS``. They say on standard output how far they are, one line for each step.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import time

from distributed import CancelledError, Client, wait
from distributed.testing import inc


def say(*words: object) -> None:
    print(*words, flush=True)


def twenty(address: str) -> None:
    """Hold 20 results, and one that others want too; then sit there."""
    client = Client(address)
    futures = [client.submit(inc, i, key=f"mine-{i}") for i in range(20)]
    shared = client.submit(inc, 100, key="shared")
    wait([*futures, shared])
    say("holds", client.id)
    time.sleep(600)


def ends_without_close(address: str) -> None:
    """The script's last line; it never heard of close()."""
    client = Client(address)
    future = client.submit(inc, 1, key="mine-1")
    future.result()
    say("ends", client.id)


def ends_by_an_error(address: str) -> None:
    ends_without_close.__globals__["kept"] = client = Client(address)
    client.submit(inc, 1, key="mine-1").result()
    say("ends", client.id)
    raise SystemExit(3)


def ends_with_its_loop(address: str) -> None:
    """asyncio.run() is over and so is the client's loop."""

    async def main() -> None:
        client = await Client(address, asynchronous=True)
        kept = [client, client.submit(inc, 1, key="mine-1")]
        globals()["kept"] = kept
        await kept[1]
        say("ends", client.id)

    asyncio.run(main())


def noise(i: int, nbytes: int) -> bytes:
    return random.Random(i).randbytes(nbytes)


def slow_noise(i: int, nbytes: int) -> bytes:
    time.sleep(0.001)
    return noise(i, nbytes)


def many_results(address: str, n_tasks: str, nbytes: str) -> None:
    """Submit, say so, and then collect all; say a digest."""
    client = Client(address)
    futures = client.map(slow_noise, range(int(n_tasks)), nbytes=int(nbytes), pure=False)
    say("submitted", client.id)
    sys.stdin.readline()
    try:
        values = client.gather(futures)
    except CancelledError as e:
        say("cancelled", " ".join(str(e).split()))
    else:
        say("digest", hashlib.sha256(b"".join(values)).hexdigest(), client.session.link.counts["resumed"])
    client.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
