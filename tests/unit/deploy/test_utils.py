"""How a number of cores is cut into processes and threads."""

from __future__ import annotations

import pytest

from distributed.deploy.local import nprocesses_nthreads
from distributed.deploy.utils import CPU_COUNT, MEMORY_LIMIT


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (0, (1, 1)), (1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (4, (4, 1)), (5, (5, 1)), (6, (3, 2)), (7, (7, 1)),
        (8, (4, 2)), (9, (3, 3)), (12, (4, 3)), (16, (4, 4)), (24, (6, 4)), (64, (8, 8)), (97, (97, 1)),
    ],
)  # fmt: skip
def test_nprocesses_nthreads(cores: int, expected: tuple[int, int]) -> None:
    assert nprocesses_nthreads(cores) == expected


@pytest.mark.parametrize("cores", range(1, 130))
def test_all_cores_are_used(cores: int) -> None:
    processes, threads = nprocesses_nthreads(cores)
    assert processes * threads == cores
    assert processes >= threads


def test_this_machine() -> None:
    assert CPU_COUNT >= 1
    assert MEMORY_LIMIT > 1 << 20
    processes, threads = nprocesses_nthreads()
    assert processes * threads == CPU_COUNT
