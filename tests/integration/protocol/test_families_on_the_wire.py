"""Serialisers of other packages between real processes, and a client that names the ones it allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distributed import Client
from distributed.protocol import dask_deserialize, dask_serialize
from distributed.testing import cluster, inc


class Grid:
    """Pickle refuses it; its family does not."""

    def __init__(self, cells: bytes) -> None:
        self.cells = cells

    def __reduce__(self) -> Any:
        raise TypeError("a Grid is never pickled")


@dask_serialize.register(Grid)
def _dumps(grid: Grid) -> tuple[dict[str, Any], list[Any]]:
    return {"by": "family"}, [grid.cells]


@dask_deserialize.register(Grid)
def _loads(header: dict[str, Any], frames: list[Any]) -> Grid:
    assert header == {"by": "family"}
    return Grid(bytes(frames[0]))


def make(n: int) -> Grid:
    return Grid(b"x" * n)


def sizes(*grids: Any) -> list[int]:
    return [len(grid.cells) for grid in grids]


@pytest.fixture(scope="module")
def address() -> Any:
    with cluster(nworkers=2) as (scheduler, _):
        yield scheduler["address"]


def test_registered_types_go_everywhere(address: str) -> None:
    with Client(address) as client:
        small, large = client.submit(make, 10), client.submit(make, 10**6)
        scattered = client.scatter(Grid(b"y" * 100_000), broadcast=True)
        assert client.submit(sizes, small, large, scattered, Grid(b"z")).result() == [10, 10**6, 100_000, 1]
        assert len(large.result().cells) == 10**6
        assert [len(g.cells) for g in client.gather([small, scattered])] == [10, 100_000]


def test_a_client_without_pickle(address: str) -> None:
    allowed = ["dask", "msgpack"]
    with Client(address, serializers=allowed, deserializers=allowed) as client:
        assert client.submit(inc, 1).result() == 2
        assert client.submit(np.arange, 5).result().sum() == 10
        data = {"a": [1, (2.5, "x")], "b": np.arange(5), "c": Grid(b"abc")}
        futures = client.scatter(data)
        assert client.gather(futures["a"]) == data["a"] and client.gather(futures["b"]).sum() == 10
        assert client.submit(sizes, futures["c"]).result() == [3]
        with pytest.raises(TypeError, match="ValueError by dask, msgpack"):
            client.scatter([ValueError("x")])
        with pytest.raises(TypeError, match="deserializers="):
            client.submit(ValueError, "x").result()
    with pytest.raises(ValueError, match="'pikle'"):
        Client(address, serializers=["pikle"])
