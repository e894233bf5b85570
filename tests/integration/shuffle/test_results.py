"""Peer-to-peer gives what the method ``tasks`` gives: shuffles, joins, groupbys and rechunks of every kind of data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from distributed import Client
from distributed.shuffle._arrow import check_dtype_support

N = 300


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(processes=False, n_workers=3, threads_per_worker=2, dashboard_address=None) as client:
        yield client


@pytest.fixture(autouse=True)
def _client(client: Client) -> Client:
    return client


def a_frame(seed: int) -> pd.DataFrame:
    """Columns of every kind, with holes."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 40, N)
    holes = rng.random(N) < 0.1

    def holed(values: Any) -> pd.Series[Any]:
        return pd.Series(values).mask(holes)

    return pd.DataFrame(
        {
            "key": numbers,
            "float": holed(rng.random(N)),
            "small": numbers.astype("i1"),
            "text": holed([f"text {i}" for i in rng.integers(0, 99, N)]),
            "cat": pd.Categorical([f"c{i % 4}" for i in numbers]),
            "ordered": pd.Categorical(numbers % 3, categories=[2, 1, 0], ordered=True),
            "when": holed(pd.Timestamp("2020") + pd.to_timedelta(rng.integers(0, 9999, N), unit="min")),
            "zone": pd.to_datetime(rng.integers(0, 10**9, N), unit="s", utc=True).tz_convert("Asia/Tokyo"),
            "masked": pd.Series(numbers, dtype="Int64").mask(holes),
            "flag": rng.random(N) < 0.5,
            "id": rng.permutation(N),
        }
    )


def both(make: Any, *sort: str) -> tuple[Any, Any]:
    """What ``make()`` computes by peer-to-peer and by tasks, in one order."""
    results = []
    for method in ("p2p", "tasks"):
        with dask.config.set({"dataframe.shuffle.method": method, "array.rechunk.method": method}):
            result = make().compute()
        results.append(result.sort_values(list(sort)) if sort else result.sort_index())
    return results[0], results[1]


def same(pair: tuple[Any, Any], **options: Any) -> None:
    check = pd.testing.assert_frame_equal if isinstance(pair[0], pd.DataFrame) else pd.testing.assert_series_equal
    check(*pair, **options)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("npartitions", [1, 20])
def test_shuffle(seed: int, npartitions: int) -> None:
    frame = a_frame(seed)
    if seed % 2:
        frame = frame.set_index(pd.Index(frame["text"].fillna("none"), name="index"))
    df = dd.from_pandas(frame, npartitions=7, sort=False)
    same(both(lambda: df.shuffle("key", npartitions=npartitions), "id"))


def test_shuffle_on_several_columns_and_on_the_index() -> None:
    frame = a_frame(1)
    df = dd.from_pandas(frame, npartitions=5)
    same(both(lambda: df.shuffle(["key", "text"]), "id"))
    same(both(lambda: df.shuffle(on_index=True), "id"))


def test_each_partition_has_what_belongs_there() -> None:
    df = dd.from_pandas(a_frame(2), npartitions=6)
    out = df.shuffle("key", npartitions=5, shuffle_method="p2p")
    keys = dask.compute(*[out.partitions[i].key.unique() for i in range(5)])
    seen = [int(key) for part in keys for key in part]
    assert len(seen) == len(set(seen)) == a_frame(2)["key"].nunique()


def test_some_partitions_only() -> None:
    df = dd.from_pandas(a_frame(2), npartitions=6)

    def some() -> Any:
        return df.shuffle("key", npartitions=5).partitions[[1, 4]]

    same(both(some, "id"))


def test_empty_partitions() -> None:
    frame = a_frame(3)
    df = dd.from_pandas(frame, npartitions=6)
    df = df[df["id"] < 10]
    same(both(lambda: df.shuffle("key"), "id"))
    nothing = df[df["id"] < 0]
    out = nothing.shuffle("key", shuffle_method="p2p").compute()
    assert len(out) == 0
    assert dict(out.dtypes) == dict(nothing.compute().dtypes)


@pytest.mark.parametrize("column", ["key", "float", "text", "when", "zone", "id"])
def test_set_index(column: str) -> None:
    df = dd.from_pandas(a_frame(4).dropna(), npartitions=6)
    p2p, tasks = both(lambda: df.set_index(column))
    if column == "id":
        same((p2p, tasks))
    # Rows of one index value may come in any order.
    same((p2p.index.to_frame(), tasks.index.to_frame()))
    left = "key" if column != "key" else "id"
    assert sorted(p2p[left]) == sorted(tasks[left])


def test_sort_values() -> None:
    df = dd.from_pandas(a_frame(5), npartitions=6)
    with dask.config.set({"dataframe.shuffle.method": "p2p"}):
        out = df.sort_values("id").compute()
    assert list(out["id"]) == list(range(N))


def test_groupby() -> None:
    df = dd.from_pandas(a_frame(6), npartitions=6)
    same(both(lambda: df.groupby("key").float.sum(split_out=4)))
    same(both(lambda: df.groupby("key").text.nunique(split_out=3)))
    same(both(lambda: df.groupby("key")[["float", "id"]].apply(_spread, meta={"float": "f8"})))
    keys = both(lambda: df.drop_duplicates(subset=["key"], split_out=3)["key"])
    assert sorted(keys[0]) == sorted(keys[1])


def _spread(part: Any) -> Any:
    return pd.DataFrame({"float": [part["float"].max() - part["float"].min()]})


@pytest.mark.parametrize("how", ["inner", "left", "right", "outer", "leftsemi"])
@pytest.mark.parametrize("on", ["text", "cat"])
def test_merge(how: str, on: str) -> None:
    left, right = a_frame(7), a_frame(8)[["key", "text", "cat", "id"]].head(60)
    right = right.rename(columns={"id": "right_id"}).drop_duplicates(subset=[on])
    right = right[[on, "right_id"]]
    a, b = dd.from_pandas(left, npartitions=5), dd.from_pandas(right, npartitions=4)
    order = ["id", on] if how == "leftsemi" else ["id", "right_id"]
    p2p, tasks = both(lambda: a.merge(b, on=on, how=how, broadcast=False), *order)
    same((p2p.reset_index(drop=True), tasks.reset_index(drop=True)))


def test_merge_on_indices_and_with_an_indicator() -> None:
    left, right = a_frame(9).set_index("id"), a_frame(10)[["id", "key"]].head(100)
    a, b = dd.from_pandas(left, npartitions=5, sort=False), dd.from_pandas(right, npartitions=3)

    def make() -> Any:
        return a.merge(
            b, left_index=True, right_on="id", how="outer", indicator=True, broadcast=False, suffixes=("", "_r")
        )

    p2p, tasks = both(make, "id")
    same((p2p.reset_index(drop=True), tasks.reset_index(drop=True)))


def test_joins_of_joins() -> None:
    frame = a_frame(11)[["key", "id"]]
    df = dd.from_pandas(frame, npartitions=5)

    def make() -> Any:
        first = df.merge(df.rename(columns={"id": "id2"}), on="key", broadcast=False)
        return first.merge(df.rename(columns={"key": "id2", "id": "id3"}), on="id2", broadcast=False)

    p2p, tasks = both(make, "id", "id2", "id3")
    same((p2p.reset_index(drop=True), tasks.reset_index(drop=True)))


def test_objects_travel_too() -> None:
    frame = pd.DataFrame({"key": range(50), "x": [{"n": i} if i % 3 else [i] for i in range(50)]})
    with dask.config.set({"dataframe.convert-string": False}):
        df = dd.from_pandas(frame, npartitions=4)
        same(both(lambda: df.shuffle("key"), "key"))


def test_categories_that_are_not_known_before() -> None:
    df = dd.from_pandas(a_frame(12), npartitions=5)
    df["text"] = df["text"].astype("category")
    assert not df["text"].cat.known
    p2p, tasks = both(lambda: df.shuffle("key"), "id")
    assert list(p2p["text"].astype(object).fillna("")) == list(tasks["text"].astype(object).fillna(""))
    assert set(p2p["text"].cat.categories) == set(tasks["text"].cat.categories)


def test_what_is_not_supported_says_so() -> None:
    with pytest.raises(TypeError, match=r"p2p does not support data of type 'complex64' \(column 'z'\)"):
        check_dtype_support(pd.DataFrame({"a": [1], "z": np.zeros(1, "c8")}))
    df = dd.from_pandas(pd.DataFrame({1: [1, 2]}), npartitions=2)
    with pytest.raises(TypeError, match="column names to be str"):
        df.shuffle(1, shuffle_method="p2p")


@pytest.mark.parametrize(
    ("shape", "old", "new"),
    [
        ((60,), (7,), (13,)),
        ((60,), (60,), (1,)),
        ((20, 30), (3, 30), (20, 4)),
        ((20, 30), ((1, 0, 9, 10), (30,)), ((20,), (11, 19))),
        ((6, 7, 8), (2, 7, 3), (6, 2, 8)),
        ((4, 4, 4, 4), (1, 4, 4, 1), (4, 1, 1, 4)),
        ((0, 6), (0, 2), (0, 3)),
    ],
)
@pytest.mark.parametrize("dtype", ["f8", "?", "M8[s]", "O", "U5"])
def test_rechunk(shape: Any, old: Any, new: Any, dtype: str) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    x = da.from_array(values, chunks=old)
    y = x.rechunk(new, method="p2p")
    assert y.chunks == x.rechunk(new, method="tasks").chunks
    np.testing.assert_array_equal(y.compute(), values)
    if values.size:
        block = y.blocks[(-1,) * len(shape)].compute()
        np.testing.assert_array_equal(block, x.rechunk(new, method="tasks").blocks[(-1,) * len(shape)].compute())


def test_rechunk_balance_auto_and_what_follows() -> None:
    values = np.random.default_rng(0).random((100, 90))
    x = da.from_array(values, chunks=(10, 90))
    np.testing.assert_array_equal(x.rechunk((33, 7), balance=True, method="p2p").compute(), values)
    y = x.rechunk((100, 10), method="p2p").sum(axis=0).rechunk(45, method="p2p")
    np.testing.assert_allclose((y + 1).compute(), values.sum(axis=0) + 1)


def test_rechunk_of_unknown_sizes() -> None:
    x = da.from_array(np.arange(40).reshape(10, 4), chunks=(5, 2))
    x = x[da.from_array(np.arange(10) % 2 == 0, chunks=5)]
    np.testing.assert_array_equal(x.rechunk({1: 4}, method="p2p").compute(), np.arange(40).reshape(10, 4)[::2])
    with pytest.raises(ValueError, match="unknown"):
        x.rechunk({0: 3}, method="p2p")


def test_the_settings_choose_the_method() -> None:
    x = da.ones((10, 10), chunks=(1, 10))
    with dask.config.set({"array.rechunk.method": "p2p"}):
        assert any("rechunk-transfer" in str(key) for key in dict(x.rechunk((10, 1)).dask))
    df = dd.from_pandas(a_frame(0), npartitions=2)
    with dask.config.set({"dataframe.shuffle.method": "p2p"}):
        assert any("shuffle-transfer" in str(key) for key in df.shuffle("key").optimize().dask)
