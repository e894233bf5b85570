"""What tasks leave behind in the worker's process: threads, open files, child processes, and changes of its directory,
environment and signal handlers.

Found by comparing the process with what it was, a few times a second at most and only after tasks have ended, never on
the way of a task. What appears is suspected of the tasks that ran since the last look; if it is still there when all of
these have ended it is a leak, of one of them. :class:`LeakFinder` decides and is pure; :class:`ProcessSampler` looks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from distributed.base.keys import Key
from distributed.comm.sockets import OPEN_FDS

Item = tuple[str, Any]
"""A kind and what tells the item from others of its kind."""
Sample = dict[Item, str]
"""What there is now: item -> description."""

OUR_MEMORY = "/memfd:distributed-"
"""How the files begin that the house maps."""
OUR_THREADS = ("Dask-", "IO loop", "Future-callbacks", "nanny-line", "Profile", "asyncio_")
"""How the names of the house's own threads begin."""
_SIGNALS = sorted(signal.valid_signals())


class Leak(NamedTuple):
    """Things of one kind that one of ``n_tasks`` tasks, or some, have left behind; ``keys`` names the last of them."""

    kind: str
    items: list[str]
    keys: list[Key]
    n_tasks: int


class LeakFinder:
    """Tells leaks from what belongs to running tasks. Pure.

    Parameters
    ----------
    baseline :
        What is there before the first task.
    """

    def __init__(self, baseline: Iterable[Item]) -> None:
        self.known: dict[Item, None] = dict.fromkeys(baseline)
        self.suspects: dict[Item, tuple[frozenset[int], Leak]] = {}

    def look(self, sample: Sample, running: Mapping[int, Key], ended: Iterable[Key], n_ended: int) -> list[Leak]:
        """What has turned out to be a leak.

        Parameters
        ----------
        sample :
            What there is now.
        running :
            The runs of now, and their keys.
        ended, n_ended :
            Keys of the last runs that have ended since the last look, and how many have.
        """
        self.known = {item: None for item in self.known if item in sample}
        self.suspects = {item: found for item, found in self.suspects.items() if item in sample}
        keys = list(dict.fromkeys([*ended, *running.values()]))
        by_kind: dict[str, Leak] = {}
        leaks: dict[int, Leak] = {}
        for item, description in sample.items():
            if item in self.known:
                continue
            suspected = self.suspects.get(item)
            if suspected is None and keys:
                leak = by_kind.setdefault(item[0], Leak(item[0], [], keys, n_ended + len(running)))
                self.suspects[item] = (frozenset(running), leak)
            elif suspected is None:
                self.known[item] = None  # no task has done it
            elif self._is_over(item, suspected[0], running):
                del self.suspects[item]
                self.known[item] = None
                suspected[1].items.append(description)
                leaks[id(suspected[1])] = suspected[1]
        return list(leaks.values())

    @staticmethod
    def _is_over(item: Item, suspects: frozenset[int], running: Mapping[int, Key]) -> bool:
        """Nobody who could have made it runs any more. Some things cannot be told from others that look the same: a
        later task may have opened the same file."""
        if item[0] in ("threads", "children", "connections"):
            return suspects.isdisjoint(running)
        return not running


class ProcessSampler:
    """Looks at this process. Shell: asks the operating system.

    Parameters
    ----------
    excepted :
        Idents of further threads, and ids of further processes, that belong there (those of executors).
    """

    def __init__(self, excepted: Callable[[], tuple[set[int], set[int]]] = lambda: (set(), set())) -> None:
        self._excepted = excepted
        self._directory = _directory()
        self._environment = dict(os.environ)
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._accepted: dict[Item, bool] = {}

    def take(self) -> Sample:
        """What there is now that can be left behind."""
        threads, processes = self._excepted()
        sample: Sample = {}
        for thread in threading.enumerate():
            if not thread.name.startswith(OUR_THREADS) and thread.ident not in threads:
                sample[("threads", thread.native_id)] = thread.name
        self._add_files(sample)
        for pid in _children():
            if pid not in processes:
                sample[("children", pid)] = f"process {pid}"
        directory = _directory()
        if directory != self._directory:
            sample[("directory", directory)] = directory
        if os.environ != self._environment:
            for name in {**self._environment, **os.environ}:
                value = os.environ.get(name)
                if value != self._environment.get(name):
                    sample[("environment", (name, value))] = name  # never the value: it may be a secret
        for number, handler in self._handlers.items():
            now = signal.getsignal(number)
            if now is not handler and now != handler:
                sample[("signal handlers", (number, id(now)))] = signal.Signals(number).name
        return sample

    def _add_files(self, sample: Sample) -> None:
        try:
            fds = os.listdir("/proc/self/fd")
        except OSError:  # no such thing here
            return
        for text in fds:
            fd = int(text)
            if fd in OPEN_FDS:
                continue
            try:
                target = os.readlink(f"/proc/self/fd/{text}")
            except OSError:  # that of the list itself
                continue
            if target.startswith(OUR_MEMORY):
                continue
            kind = "connections" if target.startswith(("socket:", "pipe:")) else "files"
            item = (kind, (fd, target))
            if not target.startswith("socket:") or not self._is_accepted(item, fd, fds):
                sample[item] = f"{fd} ({target})"

    def _is_accepted(self, item: Item, fd: int, fds: list[str]) -> bool:
        """Somebody has connected to a server of this process."""
        known = self._accepted.get(item)
        if known is None:
            if len(self._accepted) > 1000:
                self._accepted.clear()
            own = _local(fd)
            known = own is not None and any(own == _local(int(other), listening=True) for other in fds)
            self._accepted[item] = known
        return known


def _local(fd: int, listening: bool = False) -> Any:
    """The local port (or path) of a socket; None when it has none, is none, or does not listen though it should."""
    copy = -1
    try:
        copy = os.dup(fd)
        sock = socket.socket(fileno=copy)
    except OSError:
        if copy >= 0:
            os.close(copy)
        return None
    with sock, contextlib.suppress(OSError):
        if listening and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return None
        name = sock.getsockname()
        return (name[1] if isinstance(name, tuple) and len(name) > 1 else name) or None
    return None


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        return f"none ({error.strerror})"


def _children() -> list[int]:
    """Processes that this one, or a thread of it, has started and that have not been waited for."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found
