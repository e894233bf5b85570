"""Pickles opened by several threads while their modules are being imported."""

from __future__ import annotations

import pickle
import sys
import threading

import numpy as np
import pytest

from distributed.messages.payload import Attached, Payload
from distributed.protocol import payloads
from distributed.protocol.opening import forget_names, open_in_turn

SLOW_PACKAGE = """
import threading, {name}.early
threading.current_thread().reached.set()
threading.current_thread().go_on.wait(10)
{name}.early.REGISTERED.append("late")
"""


class Importer(threading.Thread):
    def __init__(self, target):
        super().__init__(target=target)
        self.reached = threading.Event()
        self.go_on = threading.Event()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that has its submodule long before it is complete."""
    name = "half_imported"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(SLOW_PACKAGE.format(name=name))
    (tmp_path / name / "early.py").write_text("REGISTERED = []\ndef seen():\n    return list(REGISTERED)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]
    forget_names()


@pytest.mark.parametrize("first", ["by a pickle", "by a task"])
def test_a_name_is_there_only_when_the_packages_above_it_are_complete(package, first):
    by_name = Payload(b"\x80\x05\x8c" + bytes([len(package) + 6]) + package.encode() + b".early\x8c\x04seen\x93.")
    importer = Importer((lambda: open_in_turn(by_name)) if first == "by a pickle" else (lambda: __import__(package)))
    importer.start()
    assert importer.reached.wait(10)
    found = []
    started = threading.Event()

    def second():
        started.set()
        found.append(open_in_turn(by_name)())

    thread = threading.Thread(target=second)
    thread.start()
    assert started.wait(10)
    importer.go_on.set()
    thread.join(10)
    importer.join(10)
    assert found == [["late"]]


class Outer:
    class Inner:
        pass


@pytest.mark.parametrize(
    "obj",
    [1, {"a": [1, 2]}, Outer.Inner, threading.Thread, np.float32, b"x" * 100_000, "y" * 100_000],
    ids=lambda o: str(o)[:20],
)
def test_opens_what_the_plain_opener_opens(obj):
    assert open_in_turn(payloads.dumps(obj)) == obj


def test_buffers_beside_the_pickle():
    array = np.arange(100_000)
    payload = payloads.dumps({"a": array})
    assert payload.attached is not None
    assert (open_in_turn(payload)["a"] == array).all()
    assert open_in_turn(payloads.live(array)) is array
    large = payloads.dumps(["z" * 50_000, array])
    assert not large.data
    assert (open_in_turn(large)[1] == array).all()


def test_errors_are_those_of_the_pickle():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        open_in_turn(Payload(b"\x80\x05\x8c\x0eno_such_module\x8c\x01f\x93."))
    with pytest.raises(AttributeError, match="no_such_name"):
        open_in_turn(Payload(b"\x80\x05\x8c\x04math\x8c\x0cno_such_name\x93."))
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        open_in_turn(Payload(b"", Attached(())))
