"""Results and exceptions that cannot be pickled, and values that misbehave when they are unpickled."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed import (
    Client,
    DeserializeError,
    KilledWorker,
    RemoteError,
    SerializationError,
    TaskExited,
    as_completed,
    wait,
)
from tests.integration.faults.small_cluster import SHORT_S, addresses, events, pids, poll, small_cluster
from tests.integration.faults.tasks import (
    ExitsWhenOpened,
    HangsWhenOpened,
    LeavesWhenOpened,
    Model,
    RaisesWhenOpened,
    TwoArgumentsError,
    ignore,
    make_large_model,
    make_model,
    raise_from_worker_only_module,
    raise_locked,
    raise_two_arguments,
    size_of,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    """The client of two worker processes that outlive all tests that use them."""
    with small_cluster() as client:
        yield client
        assert events(client, "worker-lost") == []


PATH = r"result.state['layers'][1]['lock']"


# -- results that cannot be pickled


def test_unpicklable_result_is_an_error_on_every_route(shared: Client) -> None:
    """At once, with the path to the member at fault; tasks that need it run where it lies."""
    holder = addresses(shared)[0]
    begun = time.monotonic()
    future = shared.submit(make_model, workers=[0])
    wait(future)
    assert future.status == "error"
    assert time.monotonic() - begun < 5  # measured: 0.01 s
    for ask in (
        lambda: future.result(SHORT_S),
        lambda: shared.gather([future]),
        lambda: shared.gather([future], direct=False),
        lambda: next(iter(as_completed([future], with_results=True))),
    ):
        with pytest.raises(SerializationError) as caught:
            ask()
        assert caught.value.path == PATH and PATH in str(caught.value) and "Model" in str(caught.value)
    assert isinstance(future.exception(SHORT_S), SerializationError)
    # Wherever they are wanted, dependents run at the holder.
    at_holder = (2, pids(shared)[holder])
    assert shared.submit(size_of, future).result(SHORT_S) == at_holder
    assert shared.submit(size_of, future, workers=[1], pure=False).result(SHORT_S) == at_holder
    shared.replicate(future, 2)
    assert list(shared.who_has(future)[future.key]) == [holder]


def test_unpicklable_value_cannot_be_sent_by_a_client(shared: Client) -> None:
    with pytest.raises(SerializationError, match=r"state\['layers'\]\[1\]\['lock'\]"):
        shared.scatter(Model())
    with pytest.raises(SerializationError, match=r"args\[0\].state\['layers'\]\[1\]\['lock'\]"):
        shared.submit(size_of, Model()).result(SHORT_S)


def test_large_unpicklable_result(shared: Client) -> None:
    """Only a first part of a large one is tried when it is made: the error comes when somebody needs it elsewhere."""
    future = shared.submit(make_large_model, workers=[0])
    with pytest.raises(SerializationError, match=r"\[1\].*lock"):
        future.result(SHORT_S)
    with pytest.raises(SerializationError, match=r"\[1\].*lock"):
        shared.gather([future], direct=False)
    elsewhere = shared.submit(size_of, future, workers=[1])
    error = elsewhere.exception(SHORT_S)
    assert error is not None and future.key in str(error) and "lock" in str(error)
    assert shared.submit(size_of, future, workers=[0], pure=False).result(SHORT_S)[0] == 2


# -- exceptions that cannot be pickled


def test_exception_with_arguments_of_its_own(shared: Client) -> None:
    """Pickle cannot make it again from what ``args`` holds; it is the original all the same."""
    future = shared.submit(raise_two_arguments)
    with pytest.raises(TwoArgumentsError, match=r"no luck \(42\)") as caught:
        future.result(SHORT_S)
    assert (caught.value.what, caught.value.code) == ("no luck", 42)
    assert "raise_two_arguments" in "".join(traceback.format_tb(future.traceback(SHORT_S)))


def test_exception_that_holds_a_lock(shared: Client) -> None:
    error = shared.submit(raise_locked).exception(SHORT_S)
    assert type(error) is RemoteError
    assert (error.type_name, error.message) == ("LockedError", "cannot travel")
    assert "raise_locked" in error.traceback_text
    for part in ("LockedError: cannot travel", "exception.lock", "raise_locked"):
        assert part in str(error)
    assert "_Bare" not in str(error)


def test_exception_of_a_type_that_the_client_does_not_have(shared: Client, tmp_path: Path) -> None:
    module = tmp_path / "only_on_workers.py"
    module.write_text("class RareError(Exception):\n    pass\n\n\ndef fail():\n    raise RareError('from afar')\n")
    shared.upload_file(str(module))
    future = shared.submit(raise_from_worker_only_module)
    error = future.exception(SHORT_S)
    assert type(error) is RemoteError
    assert (error.type_name, error.message) == ("RareError", "from afar")
    assert "only_on_workers" in str(error) and "in fail" in error.traceback_text
    # A task that needs it fails for the same reason.
    dependent = shared.submit(ignore, future).exception(SHORT_S)
    assert type(dependent) is RemoteError and dependent.type_name == "RareError"


# -- values that misbehave when they are unpickled


@pytest.mark.parametrize(
    ("kind", "cause", "text"),
    [(RaisesWhenOpened, ValueError, "broken inside"), (LeavesWhenOpened, SystemExit, "6")],
    ids=["raises", "exits"],
)
def test_unpickling_raises(shared: Client, kind: Any, cause: type[BaseException], text: str) -> None:
    """Who needs the value gets an error that names it and its producer; nothing else is touched."""
    before = pids(shared)
    producer, consumer = addresses(shared)[0], addresses(shared)[1]
    future = shared.submit(kind, workers=[0])
    wait(future)
    for worker in (1, 1):  # the second time it is here already
        error = shared.submit(ignore, future, workers=[worker], pure=False, retries=3).exception(SHORT_S)
        assert type(error) is DeserializeError
        assert (error.key, error.producer) == (future.key, producer)
        for part in (repr(future.key), producer, consumer, cause.__name__, text):
            assert part in str(error)
    assert shared.submit(ignore, future, workers=[0], pure=False).result(SHORT_S) == "ignored"  # not unpickled there
    for ask in (
        lambda: future.result(SHORT_S),
        lambda: shared.gather([future]),
        lambda: shared.gather([future], direct=False),
    ):
        with pytest.raises(DeserializeError) as caught:
            ask()
        assert (caught.value.key, caught.value.producer) == (future.key, producer)
        assert isinstance(caught.value.__cause__, cause)
    assert shared.gather([future], errors="skip") == []
    assert pids(shared) == before


def test_unpickling_ends_the_process(cleanup: None) -> None:
    """The task that needs the value is to blame, and the report shows what it was doing."""
    with small_cluster(scheduler_kwargs={"allowed_failures": 0}) as client:
        future = client.submit(ExitsWhenOpened, workers=[0])
        wait(future)
        producer = addresses(client)[0]
        consumer = client.submit(ignore, future, workers=[1], retries=3)
        error = consumer.exception(SHORT_S)
        assert type(error) is KilledWorker and error.task == consumer.key
        (attempt,) = error.attempts
        assert attempt.exit_code == 5
        assert "os._exit(5) was called here" in str(error) and "data_store.py" in str(error)
        assert list(client.who_has(future)[future.key]) == [producer]
        assert len(events(client, "worker-lost")) == 1


def test_unpickling_hangs(tmp_path: Path, cleanup: None) -> None:
    """One slot is held up and says by what; loop, other slots and fetches of that worker go on."""
    gate = tmp_path / "gate"
    with small_cluster(2, 2) as client:
        bad = client.submit(HangsWhenOpened, str(gate), workers=[0])
        wait(bad)
        consumer = client.submit(ignore, bad, workers=[1])
        found = poll(lambda: text if "unpickling its input" in (text := client.why(consumer)["text"]) else None)
        assert bad.key in found and addresses(client)[0] in found
        # A fetch from the other worker, a task, and the loop of this one.
        large = client.submit(os.urandom, 300_000, workers=[0])
        assert client.submit(len, large, workers=[1]).result(SHORT_S) == 300_000
        assert client.run(os.getpid, workers=[addresses(client)[1]])
        assert not consumer.done()
        gate.touch()
        assert consumer.result(SHORT_S) == "ignored"
        assert bad.result(SHORT_S) == "opened"


def test_an_exit_of_the_exception_itself(shared: Client) -> None:
    """``TaskExited`` carries what was raised, so long as that can travel."""
    error = shared.submit(exec, "raise SystemExit(RuntimeError('inner'))").exception(SHORT_S)
    assert type(error) is TaskExited and "inner" in str(error)


def test_unpickling_into_a_mapping_of_the_user(tmp_path: Path, cleanup: None) -> None:
    """Such a mapping holds open values, so they are opened as they arrive: not on the worker's loop either."""
    gate = tmp_path / "gate"
    with small_cluster(2, 1, data=dict) as client:
        bad = client.submit(HangsWhenOpened, str(gate), workers=[0])
        broken = client.submit(RaisesWhenOpened, workers=[0])
        consumer = client.submit(ignore, bad, workers=[1])
        poll(lambda: "asked from" in client.why(consumer)["text"])
        assert client.submit(ignore, workers=[1], pure=False).result(SHORT_S) == "ignored"
        gate.touch()
        assert consumer.result(SHORT_S) == "ignored"
        assert type(client.submit(ignore, broken, workers=[1], pure=False).exception(SHORT_S)) is DeserializeError
