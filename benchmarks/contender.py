"""One of several clients that use the same name at once; started and told what to do by ``benchmarks/coordination.py``.

It is run as a file, so that it runs with any ``distributed`` that is installed. Each line of its standard input is
``START KIND NAME ROUNDS INDEX CLIENTS`` (``START`` by the clock on the wall); it answers with the seconds of processor
time that it has used so far.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from distributed import Client, Event, Lock, MultiLock, Queue, Semaphore, Variable


def lock(name: str, n: int, index: int, clients: int) -> None:
    mine = Lock(name)
    for _ in range(n):
        mine.acquire()
        mine.release()


def semaphore(name: str, n: int, index: int, clients: int) -> None:
    mine = Semaphore(2, name)
    for _ in range(n):
        mine.acquire()
        mine.release()


def multi_lock(name: str, n: int, index: int, clients: int) -> None:
    mine = MultiLock([f"{name}-1", f"{name}-2"])
    for _ in range(n):
        mine.acquire()
        mine.release()


def queue(name: str, n: int, index: int, clients: int) -> None:
    """The first half of the clients puts, the other gets: each does one half of a round, twice as often."""
    mine = Queue(name)
    if index < clients // 2:
        for i in range(2 * n):
            mine.put(i)
    else:
        for _ in range(2 * n):
            mine.get()


def variable(name: str, n: int, index: int, clients: int) -> None:
    mine = Variable(name)
    for i in range(n):
        mine.set(i)
        mine.get()


def event(name: str, n: int, index: int, clients: int) -> None:
    """Each waits for its own event, clears it, and sets that of the next one: one of them is on its way."""
    mine, following = Event(f"{name}-{index}"), Event(f"{name}-{(index + 1) % clients}")
    if index == 0:
        mine.set()
    for _ in range(n):
        mine.wait()
        mine.clear()
        following.set()


KINDS: dict[str, Callable[[str, int, int, int], None]] = {
    function.__name__: function for function in (lock, semaphore, multi_lock, queue, variable, event)
}


def main(address: str) -> None:
    with Client(address):
        for line in sys.stdin:
            start, kind, name, *numbers = line.split()
            time.sleep(max(0.0, float(start) - time.time()))
            KINDS[kind](name, *[int(number) for number in numbers])
            print(time.process_time(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
