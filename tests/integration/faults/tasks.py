"""What the tests here run on workers. Imports the standard library only: new worker processes load it often."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any


def note(path: str, word: str) -> int:
    """Note in a ``Journal`` that this has begun; how often it has now."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{word}\n".encode())
    return count(path, word)


def count(path: str, word: str) -> int:
    """How often that was noted."""
    return Path(path).read_text().split().count(word)


def counted(path: str, word: str, *args: Any) -> str:
    note(path, word)
    return word


def sleep_at_first(path: str) -> int:
    """Runs for ever, but returns at once when it is run again: the pid."""
    if note(path, "begun") == 1:
        time.sleep(600)
    return os.getpid()


def exit_at_first(path: str) -> int:
    if note(path, "begun") == 1:
        raise SystemExit(1)
    return 7


def dies_then_raises_then_succeeds(path: str) -> int:
    n = note(path, "begun")
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if n == 2:
        raise ValueError("second attempt")
    return n


def kill_after_a_while(path: str) -> None:
    note(path, "killer")
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


# -- ends


class Unusual(BaseException):
    pass


def throw(kind: type[BaseException], *args: Any) -> None:
    raise kind(*args)


async def throw_later(kind: type[BaseException], *args: Any) -> None:
    await asyncio.sleep(0)
    raise kind(*args)


def leave(path: str) -> None:
    note(path, "leave")
    os._exit(3)


def crash(path: str) -> None:
    note(path, "crash")
    ctypes.string_at(0)


def abort(path: str) -> None:
    note(path, "abort")
    os.abort()


def kill(path: str) -> None:
    note(path, "kill")
    os.kill(os.getpid(), signal.SIGKILL)


def crash_among_many(path: str) -> None:
    for _ in range(30):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    crash(path)


def fork_and_leave() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def neighbour(path: str) -> str:
    """Does not end so long as another task kills the process, twice."""
    if note(path, "neighbour") <= 2:
        time.sleep(600)
    return "well"


def end_beside_a_neighbour(path: str, end: Any) -> None:
    while count(path, "neighbour") <= count(path, end.__name__):
        time.sleep(0.005)
    end(path)


# -- values that cannot travel


class Model:
    """Holds a lock deep inside."""

    def __init__(self) -> None:
        self.state = {"layers": [1, {"lock": threading.Lock()}]}

    def size(self) -> int:
        return len(self.state["layers"])


def make_model() -> Model:
    return Model()


def make_large_model() -> list[Any]:
    """The lock comes behind more than is pickled to try, of a task as short as this."""
    return [b"x" * 40_000_000, threading.Lock()]


def size_of(model: Any) -> tuple[int, int]:
    """Size, and the process in which it was asked for."""
    return (model.size() if isinstance(model, Model) else len(model)), os.getpid()


class TwoArgumentsError(Exception):
    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} ({code})")
        self.what = what
        self.code = code


class LockedError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def raise_two_arguments() -> None:
    raise TwoArgumentsError("no luck", 42)


def raise_locked() -> None:
    raise LockedError("cannot travel")


def raise_from_worker_only_module() -> None:
    import only_on_workers  # type: ignore[import-not-found]

    only_on_workers.fail()


# -- values that misbehave when they are unpickled


class RaisesWhenOpened:
    def __reduce__(self) -> Any:
        return raise_value_error, ("broken inside",)


class ExitsWhenOpened:
    def __reduce__(self) -> Any:
        return os._exit, (5,)


class LeavesWhenOpened:
    def __reduce__(self) -> Any:
        return throw, (SystemExit, 6)


class HangsWhenOpened:
    """Until a file appears."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return wait_for_file, (self.path,)


def raise_value_error(text: str) -> None:
    raise ValueError(text)


def wait_for_file(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.005)
    return "opened"


def ignore(*args: Any) -> str:
    return "ignored"


# -- memory


def take_memory(path: str, step_bytes: int) -> None:
    """Take much, then more and more in steps, for ever."""
    note(path, "begun")
    held = [b"x" * 200 * step_bytes]
    while True:
        held.append(b"x" * step_bytes)
        time.sleep(0.01)


def hold_memory(nbytes: int, path: str) -> int:
    """Hold so much until a file appears."""
    held = b"x" * nbytes
    wait_for_file(path)
    return len(held)


# -- things left behind

_kept: list[Any] = []


def leak_thread() -> None:
    thread = threading.Thread(target=time.sleep, args=(600,), name="left-alone", daemon=True)
    thread.start()


def leak_file(path: str) -> int:
    _kept.append(open(path, "w"))
    return _kept[-1].fileno()


def leak_connection(address: tuple[str, int]) -> int:
    _kept.append(socket.create_connection(address))
    return _kept[-1].fileno()


def leak_process() -> int:
    _kept.append(subprocess.Popen(["sleep", "600"]))
    return _kept[-1].pid


def leak_directory(path: str) -> None:
    os.chdir(path)


def leak_variable(name: str) -> None:
    os.environ[name] = "secret value"


async def leak_handler() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # possible in the main thread only, where coroutines run


def clean_up_after_itself(directory: str) -> int:
    """Uses everything, for longer than leaks are looked for, and leaves nothing."""
    before = os.getcwd()
    os.environ["TEMPORARY"] = "1"
    os.chdir(directory)
    thread = threading.Thread(target=time.sleep, args=(0.3,))
    thread.start()
    with open("file", "w"), subprocess.Popen(["sleep", "0.3"]):
        thread.join()
    os.chdir(before)
    del os.environ["TEMPORARY"]
    return 1
