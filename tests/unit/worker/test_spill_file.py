"""One value in one file: real files, no loop."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distributed.protocol import serialize
from distributed.worker import spill_file
from distributed.worker.data_store import DataStore, Sealed


def write(value: Any, path: Path, method: str | None = None, remove: Callable[[str], None] = os.unlink) -> Any:
    return spill_file.write("k", serialize.dumps(value), str(path), method, "", remove)


@pytest.mark.parametrize("method", [None, "lz4", "zlib"])
@pytest.mark.parametrize(
    "value",
    [
        1,
        b"",
        "x" * 100_000,
        b"y" * 1_000_000,
        np.arange(200_000),
        [np.arange(n) for n in range(3000, 3700)],  # more segments than one call writes
        {"a": np.zeros(10), "b": [np.ones((300, 300)), "t" * 50_000]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_comes_back_the_same(value: Any, method: str | None, tmp_path: Path) -> None:
    file = write(value, tmp_path / "f", method)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    assert file.nbytes == (tmp_path / "f").stat().st_size
    back = file.open()
    assert repr(serialize.dumps(back).nbytes) == repr(serialize.dumps(value).nbytes)
    np.testing.assert_equal(back, value)


def test_frames_come_back_aligned_writable_and_apart_from_the_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(100_000), "y": np.random.default_rng(0).random(100_000), "z": "text"})
    file = write(frame, tmp_path / "f")
    back = file.open()
    pd.testing.assert_frame_equal(back, frame)
    back.loc[0, "x"] = -1
    pd.testing.assert_frame_equal(file.open(), frame)
    array = write(np.arange(1_000_000), tmp_path / "g").open()
    assert array.flags.writeable and array.flags.aligned and array.ctypes.data % spill_file.ALIGNMENT == 0


def test_the_file_goes_with_the_last_reference_and_mapped_values_stay(tmp_path: Path) -> None:
    file = write(np.arange(1_000_000), tmp_path / "f")
    back = file.open()
    descriptors = len(os.listdir("/proc/self/fd"))
    more = [file.open() for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == descriptors
    del file
    gc.collect()
    assert not (tmp_path / "f").exists()
    assert back.sum() == more[-1].sum() == 499_999_500_000


@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 100)])
def test_a_file_that_is_gone_or_too_short_is_an_os_error(damage: Any, tmp_path: Path) -> None:
    file = write(np.arange(1_000_000), tmp_path / "f", remove=lambda path: None)
    damage(tmp_path / "f")
    with pytest.raises(OSError):
        file.open()


def test_nothing_is_left_of_what_could_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        (tmp_path / "f").touch()
        write(1, tmp_path / "f")
    with pytest.raises(FileNotFoundError):
        write(1, tmp_path / "no" / "f")


def test_the_store_between_memory_and_disk(tmp_path: Path) -> None:
    store = DataStore()
    store["k"] = value = [1, 2]
    file = write(value, tmp_path / "f")
    assert store.replace_by_file(value, file)
    assert dict(store.fast) == {} and dict(store.slow) == {"k": file}
    assert store["k"] == [1, 2] and store.hold("k") is file  # a look leaves it there
    back = store.opened(file)
    assert store.hold("k") is back and store.opened(file) is back
    store.unload("k")
    assert store.hold("k") is file
    store["k"] = 3
    assert not store.replace_by_file(value, file) and store.hold("k") == 3 and not store.files


def test_a_sealed_value_that_was_opened_while_it_was_written(tmp_path: Path) -> None:
    store = DataStore()
    store.seal("k", serialize.dumps([1]), "peer")
    sealed = store.hold("k")
    assert type(sealed) is Sealed and store["k"] == [1]
    file = write([1], tmp_path / "f")
    assert store.replace_by_file(sealed, file)
    assert store.hold("k") is file
