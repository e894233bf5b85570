"""Frames in pieces: what comes out is what went in, whatever the types."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from distributed.shuffle.frames import FrameCodec
from distributed.shuffle.pieces import ARROW, PICKLE, Piece

N = 200
RNG = np.random.default_rng(5)
SOME = RNG.integers(0, 50, N)


def with_holes(values: Any, hole: Any) -> list[Any]:
    return [hole if i % 7 == 3 else value for i, value in enumerate(values)]


EXACT: dict[str, Any] = {
    **{kind: SOME.astype(kind) for kind in ("i1", "i2", "i4", "i8", "u1", "u8", "f2", "f4", "f8", "?")},
    "f8 with nan": with_holes(SOME.astype("f8"), np.nan),
    "datetime": pd.to_datetime(SOME, unit="h"),
    "datetime[s] with NaT": pd.Series(with_holes(pd.to_datetime(SOME, unit="h"), pd.NaT)).astype("M8[s]"),
    "timedelta": pd.to_timedelta(SOME, unit="min"),
    "tz": pd.to_datetime(SOME, unit="h").tz_localize("Europe/Berlin", ambiguous=True, nonexistent="shift_forward"),
    "tz with NaT": pd.DatetimeIndex(with_holes(pd.to_datetime(SOME, unit="h", utc=True), pd.NaT)),
    "tz[ms]": pd.to_datetime(SOME, unit="h", utc=True).as_unit("ms"),
    "str": pd.array(with_holes([f"s{i}" for i in SOME], None), dtype="str"),
    "string[pyarrow]": pd.array(with_holes([f"ä{i}" for i in SOME], None), dtype="string[pyarrow]"),
    "string[python]": pd.array(with_holes([f"s{i}" for i in SOME], None), dtype="string[python]"),
    "Int64": pd.array(with_holes(SOME, None), dtype="Int64"),
    "UInt8": pd.array(SOME, dtype="UInt8"),
    "Float32": pd.array(with_holes(SOME, None), dtype="Float32"),
    "boolean": pd.array(with_holes(SOME > 9, None), dtype="boolean"),
    "category": pd.Categorical(with_holes([f"c{i % 5}" for i in SOME], None), categories=[f"c{i}" for i in range(9)]),
    "ordered": pd.Categorical(SOME % 3, categories=[2, 0, 1, 7], ordered=True),
    "arrow string": pd.array([f"s{i}" for i in SOME], dtype=pd.ArrowDtype(pa.string())),
    "arrow list": pd.array([[i, i + 1] for i in SOME], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "arrow date": pd.array([datetime.date(2000, 1, 1 + i % 28) for i in SOME], dtype=pd.ArrowDtype(pa.date32())),
}
BY_PICKLE: dict[str, Any] = {
    "object": pd.Series(with_holes([{i} for i in SOME], None), dtype=object),
    "mixed": pd.Series([i if i % 2 else str(i) for i in SOME], dtype=object),
    "decimal": pd.Series([decimal.Decimal(int(i)) for i in SOME], dtype=object),
    "period": pd.period_range("2000", periods=N, freq="M"),
    "interval": pd.interval_range(0, N),
    "complex": SOME.astype("c16"),
    "arrow dictionary": pd.array([f"s{i}" for i in SOME], dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
}


def parts_of(frame: pd.DataFrame, n: int) -> list[pd.DataFrame]:
    size = -(-len(frame) // n)
    return [frame.iloc[i : i + size] for i in range(0, len(frame), size)]


def shuffled(codec: FrameCodec, inputs: list[pd.DataFrame], npartitions: int) -> tuple[list[pd.DataFrame], set[int]]:
    pieces: dict[int, list[Piece]] = {p: [] for p in range(npartitions)}
    for source, frame in enumerate(inputs):
        for piece in codec.split(frame, source):
            pieces[piece.partition].append(piece)
    return [codec.join(pieces[p]) for p in range(npartitions)], {p.kind for found in pieces.values() for p in found}


def check(frame: pd.DataFrame, npartitions: int = 6) -> set[int]:
    """Shuffle ``frame`` and compare each partition with what pandas selects."""
    frame = frame.assign(_partitions=RNG.integers(0, npartitions - 1, len(frame)))
    codec = FrameCodec(frame.iloc[:0], "_partitions", npartitions)
    outputs, kinds = shuffled(codec, parts_of(frame, 5), npartitions)
    for p, output in enumerate(outputs):
        expected = frame[frame["_partitions"] == p].drop(columns="_partitions")
        if not len(expected):
            assert not len(output) and list(output.dtypes) == list(expected.dtypes)
        else:
            pd.testing.assert_frame_equal(output, expected, check_freq=False)
    return kinds


@pytest.mark.parametrize("name", EXACT)
def test_types_with_an_arrow_form(name: str) -> None:
    assert check(pd.DataFrame({"x": EXACT[name], "y": SOME})) == {ARROW}


@pytest.mark.parametrize("name", BY_PICKLE)
def test_types_without_one(name: str) -> None:
    assert check(pd.DataFrame({"x": BY_PICKLE[name], "y": SOME})) == {PICKLE}


@pytest.mark.parametrize("name", [name for name in EXACT if name != "f2"])  # pandas has no index of half floats
@pytest.mark.parametrize("index_name", [None, "i"])
def test_the_same_types_as_index(name: str, index_name: str | None) -> None:
    assert check(pd.DataFrame({"y": SOME}, index=pd.Index(EXACT[name], name=index_name))) == {ARROW}


def test_two_columns_of_one_name_and_no_column_at_all() -> None:
    frame = pd.DataFrame(np.arange(3 * N).reshape(N, 3), columns=["x", "y", "x"])
    check(frame)
    check(frame[[]])


def test_a_multiindex_goes_by_pickle() -> None:
    frame = pd.DataFrame({"x": SOME, "y": SOME + 1, "z": SOME}).set_index(["x", "y"])
    assert check(frame) == {PICKLE}


def test_the_column_can_stay() -> None:
    frame = pd.DataFrame({"p": [1, 0, 1]})
    outputs, _ = shuffled(FrameCodec(frame.iloc[:0], "p", 2, drop_column=False), [frame], 2)
    assert [list(output["p"]) for output in outputs] == [[0], [1, 1]]


def test_outputs_are_writable_and_of_their_own() -> None:
    frame = pd.DataFrame({"x": [1, 2, 3], "p": [0, 0, 0]})
    (output,), _ = shuffled(FrameCodec(frame.iloc[:0], "p", 1), [frame], 1)
    output.loc[0, "x"] = 9
    assert list(frame["x"]) == [1, 2, 3]


def test_an_input_of_other_types_than_the_meta_keeps_its_values() -> None:
    """A meta is often a guess: integers that have got holes, text where nothing was known."""
    meta = pd.DataFrame({"x": np.array([], "i8"), "p": np.array([], "i8")})
    inputs = [pd.DataFrame({"x": [1, 2], "p": [0, 1]}), pd.DataFrame({"x": [1.5, np.nan], "p": [0, 1]})]
    outputs, kinds = shuffled(FrameCodec(meta, "p", 2), inputs, 2)
    assert kinds == {ARROW, PICKLE}
    assert list(outputs[0]["x"]) == [1.0, 1.5]
    assert outputs[1]["x"].isna().sum() == 1


def test_categories_that_differ_from_input_to_input() -> None:
    meta = pd.DataFrame({"x": pd.Categorical(["__UNKNOWN_CATEGORIES__"][:0]), "p": np.array([], "i8")})
    inputs = [pd.DataFrame({"x": pd.Categorical([c, "z"]), "p": [0, 0]}) for c in "ab"]
    (output,), _ = shuffled(FrameCodec(meta, "p", 1), inputs, 1)
    assert list(output["x"]) == ["a", "z", "b", "z"]
    assert isinstance(output["x"].dtype, pd.CategoricalDtype)


def test_only_wanted_partitions_leave() -> None:
    frame = pd.DataFrame({"p": [0, 1, 2, 3]})
    codec = FrameCodec(frame.iloc[:0], "p", 4)
    assert [piece.partition for piece in codec.split(frame, 0, frozenset([1, 3]))] == [1, 3]


@pytest.mark.parametrize(
    ("partitions", "text"),
    [([0, 9], "names partitions 0 to 9, but there are only 4"), ([-1, 0], "-1"), ([0.0, None], "nulls")],
)
def test_rows_without_a_partition_are_not_lost_silently(partitions: Any, text: str) -> None:
    frame = pd.DataFrame({"p": partitions})
    with pytest.raises(ValueError, match=text):
        list(FrameCodec(frame.iloc[:0], "p", 4).split(frame, 0))
