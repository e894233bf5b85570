"""What is loaded when first used, and what is there already."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from distributed.base.lazy import lazy_module, loaded


def test_lazy_module() -> None:
    fractions = lazy_module("fractions")
    assert fractions.Fraction(2, 4) == 0.5
    with pytest.raises(AttributeError):
        assert fractions.nothing


def test_loaded_does_not_load() -> None:
    assert loaded("this.is.not.there", "name") is None
    assert loaded("threading", "Thread") is threading.Thread
    assert loaded("threading", "nothing") is None


def test_a_module_that_another_thread_is_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names may be missing so far: then it has none to tell of."""
    (tmp_path / "half_loaded.py").write_text(
        "import threading\nthreading.half.set(), threading.go.wait(30)\nvalue = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    half, go = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "half", half, raising=False)
    monkeypatch.setattr(threading, "go", go, raising=False)
    thread = threading.Thread(target=__import__, args=("half_loaded",))
    thread.start()
    try:
        assert half.wait(30)
        assert "half_loaded" in sys.modules
        assert loaded("half_loaded", "value") is None
    finally:
        go.set()
        thread.join()
        done = loaded("half_loaded", "value")
        sys.modules.pop("half_loaded", None)
    assert done == 1
