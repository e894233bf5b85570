"""Arrays in pieces, and the graph of a rechunk."""

from __future__ import annotations

import random
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from distributed.shuffle import rechunk_p2p
from distributed.shuffle._core import P2PBarrierTask, barrier_key, id_from_key
from distributed.shuffle._rechunk import ArrayRechunkSpec
from distributed.shuffle.pieces import Piece


def rechunked(x: Any, new: Any, spec: ArrayRechunkSpec | None = None) -> dict[tuple[int, ...], Any]:
    """The new chunks by index, made by splitting and joining."""
    spec = spec or ArrayRechunkSpec("s", x.chunks, new, x.dtype)
    pieces: dict[int, list[Piece]] = {}
    for source, index in enumerate(spec._rechunk.old):
        for piece in spec.split(x.blocks[index].compute(scheduler="sync"), source):
            pieces.setdefault(piece.partition, []).append(piece)
    return {index: spec.join(p, pieces.get(p, [])) for p, index in enumerate(spec._rechunk.new)}


def check(x: Any, new: Any) -> None:
    expected = x.rechunk(new, method="tasks")
    for index, chunk in rechunked(x, new).items():
        block = expected.blocks[index].compute(scheduler="sync")
        assert type(chunk) is type(block)
        assert chunk.dtype == block.dtype
        np.testing.assert_array_equal(chunk, block)


def random_chunks(rng: random.Random, n: int) -> tuple[int, ...]:
    sizes = []
    while n:
        sizes.append(rng.randint(0 if len(sizes) % 3 == 1 else 1, n))
        n -= sizes[-1]
    return tuple(sizes)


@pytest.mark.parametrize("seed", range(25))
def test_any_chunks_of_any_number_of_dimensions(seed: int) -> None:
    rng = random.Random(seed)
    shape = tuple([rng.randint(1, 12) for _ in range(rng.randint(1, 4))])
    values = np.arange(np.prod(shape)).reshape(shape)
    x = da.from_array(values, chunks=tuple([random_chunks(rng, n) for n in shape]))
    check(x, tuple([random_chunks(rng, n) for n in shape]))


VALUES = np.arange(24).reshape(4, 6)


@pytest.mark.parametrize(
    "values",
    [
        VALUES.astype("f4"),
        VALUES > 5,
        VALUES.astype("c16"),
        VALUES.astype("M8[s]"),
        VALUES.astype("S3"),
        VALUES.astype("U3"),
        VALUES.astype(object),
        np.rec.fromarrays([VALUES, VALUES.astype("f8")], names="a,b").view(np.ndarray),
        np.asfortranarray(VALUES),
        np.ma.masked_greater(VALUES, 7),
    ],
    ids=lambda v: f"{type(v).__name__}-{v.dtype.kind}",
)
def test_types(values: Any) -> None:
    x = da.from_array(values, chunks=(2, 2))
    check(x, ((1, 3), (5, 1)))


def test_zero_size() -> None:
    check(da.ones((0, 4), chunks=((0,), (2, 2))), ((0,), (1, 3)))
    check(da.ones((4,), chunks=((4, 0),)), ((0, 1, 3),))


def test_unknown_sizes_stay_beside_dimensions_that_change() -> None:
    x = da.from_array(VALUES, chunks=(2, 3))
    x = x[da.from_array(np.array([True, False, True, True]), chunks=2)]
    new = (x.chunks[0], (2, 4))
    blocks = rechunked(x, new)
    rows = [np.concatenate([blocks[i, j] for j in range(2)], axis=1) for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(rows), VALUES[[0, 2, 3]])


def test_a_block_that_is_not_what_the_array_says() -> None:
    spec = ArrayRechunkSpec("s", ((4,),), ((2, 2),), np.dtype("i8"))
    with pytest.raises(ValueError, match=r"chunk \(0,\) of the array has shape \(3,\), but the array's chunks say"):
        list(spec.split(np.arange(3), 0))
    (piece, *_) = spec.split(np.arange(4.0), 0)
    assert spec.join(0, [piece]).dtype == "f8", "the type of the data counts, not what was said of it"


def test_a_missing_piece_is_an_error() -> None:
    spec = ArrayRechunkSpec("s", ((2, 2),), ((4,),), np.dtype("i8"))
    with pytest.raises(RuntimeError, match="consists of 2 pieces, but 1 have come"):
        spec.join(0, list(spec.split(np.arange(2), 0)))


def test_the_graph_has_one_shuffle_for_each_independent_part() -> None:
    x = da.ones((4, 4), chunks=(2, 1))
    y = rechunk_p2p(x, ((2, 2), (4,)))
    assert y.chunks == ((2, 2), (4,)) and y.dtype == x.dtype
    assert sum(id_from_key(key) is not None for key in dict(y.dask)) == 2
    some = y.blocks[0, 0]
    (some,) = dask.optimize(some)
    assert sum(id_from_key(key) is not None for key in dict(some.dask)) == 1, "the other part is not needed"


def test_chunks_that_stay_are_not_sent() -> None:
    x = da.ones(6, chunks=((2, 1, 1, 2),))
    graph = dict(rechunk_p2p(x, ((2, 2, 2),)).dask)
    assert sum("transfer" in str(key) for key in graph) == 2
    assert rechunk_p2p(x, x.chunks) is x


def test_unknown_chunks_that_would_change() -> None:
    x = da.ones(6, chunks=3)
    x = x[x > 0]
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        rechunk_p2p(x, ((6,),))


def test_barrier_tasks_keep_their_description() -> None:
    import pickle

    from dask._task_spec import TaskRef

    spec = ArrayRechunkSpec("s", ((2, 2),), ((4,),), np.dtype("i8"))
    task = P2PBarrierTask(barrier_key("s"), print, "s", TaskRef("x"), spec=spec)
    for other in (pickle.loads(pickle.dumps(task)), task.copy(), task.substitute({"x": "y"})):
        assert isinstance(other, P2PBarrierTask)
        assert other.spec == spec
    assert task.substitute({"x": "y"}).dependencies == {"y"}
    assert id_from_key(task.key) == "s"
    assert id_from_key(("x", 1)) is None


def test_outside_of_a_cluster_it_says_so() -> None:
    x = da.ones(6, chunks=3)
    with pytest.raises(RuntimeError, match="on the workers of a cluster only"):
        rechunk_p2p(x, ((6,),)).compute(scheduler="sync")
