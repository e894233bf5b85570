"""Public exceptions: what they say, what they are, and that they survive a pickle."""

import concurrent.futures
import copy
import pickle

import pytest

from distributed.base import errors as e

DEATHS = (
    e.WorkerDeath("tcp://a:1", "hostA", 11, exit_code=3, log_tail=("first", "last words")),
    e.WorkerDeath("tcp://b:2", "hostB", 12, signal=11, peak_bytes=2**30),
    e.WorkerDeath("tcp://c:3", "hostC", 13, signal=9),
    e.WorkerDeath("tcp://d:4"),
)
SAMPLES = [
    e.Reschedule(),
    e.InvalidState("rule"),
    e.FutureCancelledError("k", "why", "msg"),
    e.FutureCancelledError("k", None),
    e.FuturesCancelledError([e.FutureCancelledError("k", "why"), e.FutureCancelledError("l", "why")]),
    e.DataLostError(("x", 0), "scattered"),
    e.KilledWorker("k", "tcp://d:4", 3, DEATHS),
    e.KilledWorker("k", "tcp://d:4", 3),
    e.NoValidWorkerError("k", {"h"}, {"w"}, {"GPU": 1.0}, 5.0),
    e.NoWorkerError("k", 5.0),
    e.WorkerStartTimeoutError(1, 2, 3.0),
    e.TaskExited("the task called sys.exit(3)", 3),
    e.RemoteError("pkg.Odd", "text", "Traceback ...", "note"),
    e.CommClosedError("closed"),
    e.FatalCommClosedError("closed"),
    e.HandshakeRefused("wrong secret"),
    e.FrameError("bad"),
    e.SerializationError("text", "args[0]"),
    e.DeserializeError("text"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("clone", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy], ids=["pickle", "copy"])
def test_survives_a_pickle(error, clone):
    back = clone(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert {k: str(v) for k, v in vars(back).items()} == {k: str(v) for k, v in vars(error).items()}


def test_killed_worker_names_every_death():
    error = SAMPLES[6]
    text = str(error)
    for part in (
        "'k'",
        "tcp://a:1",
        "hostA",
        "exit code 3",
        "last words",
        "SIGSEGV",
        "1024 MiB",
        "SIGKILL",
        "not known",
    ):
        assert part in text
    assert (error.task, error.last_worker, error.allowed_failures) == ("k", "tcp://d:4", 3)
    assert error.attempts == DEATHS


def test_killed_worker_takes_an_object_with_an_address():
    class Worker:
        address = "tcp://9:9"

    assert "tcp://9:9" in str(e.KilledWorker("k", Worker(), 0))


def test_unknown_signal_number():
    assert "signal 250" in str(e.WorkerDeath("w", signal=250))


def test_families():
    assert e.CancelledError is concurrent.futures.CancelledError
    assert issubclass(e.FutureCancelledError, e.CancelledError)
    assert issubclass(e.DataLostError, e.CancelledError)
    assert issubclass(e.WorkerStartTimeoutError, TimeoutError)
    assert issubclass(e.CommClosedError, OSError)
    assert issubclass(e.HandshakeRefused, e.CommClosedError)
    assert issubclass(e.FrameError, e.CommClosedError)
    assert issubclass(e.SerializationError, TypeError)


def test_texts_of_cancellation():
    assert str(e.FutureCancelledError("k", "gone", "see log")) == "k was cancelled (gone).\nsee log"
    assert e.FutureCancelledError("k").reason == "unknown"
    many = e.FuturesCancelledError([e.FutureCancelledError(i, "gone") for i in range(9)])
    assert "9 Futures" in str(many) and "and 4 more" in str(many)
