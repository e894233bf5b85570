"""Chains of short tasks, whose links are handed over behind one another (``docs/decisions/0013-chains.md``)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, Future
from tests.integration.tasks.bodies import note, noted, waits_for_file

N = 2_000


def link(before: Any, i: int, place: str) -> int:
    """One more; which it was is noted."""
    file = os.open(os.path.join(place, "links"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{i}\n".encode())
    os.close(file)
    return (before or 0) + 1


def broken_link(before: int) -> int:
    raise ValueError(f"after {before}")


def runs(place: Path) -> Counter[int]:
    """How often each link has run."""
    return Counter([int(line) for line in (place / "links").read_text().split()])


def chain(client: Client, before: Any, numbers: range, place: Path) -> list[Future]:
    futures: list[Future] = []
    for i in numbers:
        before = client.submit(link, before, i, str(place), pure=False)
        futures.append(before)
    return futures


def n_behind(client: Client) -> int:
    """How many tasks were handed over behind another one, as far as the workers remember."""

    def count(dask_worker: Any) -> int:
        return sum([step[1:3] == ("waiting", "executing") for step in dask_worker.state.log])

    return sum(client.run(count).values())


@pytest.fixture
def first(client: Client, tmp_path: Path) -> Future:
    """What waits until ``go`` is noted; how long a link takes is known by then."""
    client.gather(chain(client, None, range(-10, 0), tmp_path))
    future = client.submit(waits_for_file, str(tmp_path), pure=False)
    noted(tmp_path, "begun")
    return future


def test_each_link_runs_once_with_the_value_of_the_one_before(client: Client, first: Future, tmp_path: Path) -> None:
    before = n_behind(client)
    last = chain(client, first, range(N), tmp_path)[-1]
    note(str(tmp_path), "go")
    assert last.result(60) == N
    assert runs(tmp_path) == Counter(range(-10, N))
    assert n_behind(client) - before > N // 2


def test_all_values_that_are_wanted_are_kept(client: Client, first: Future, tmp_path: Path) -> None:
    futures = chain(client, first, range(300), tmp_path)
    note(str(tmp_path), "go")
    assert client.gather(futures) == list(range(1, 301))


def test_the_error_of_a_link_is_that_of_all_behind_it(client: Client, first: Future, tmp_path: Path) -> None:
    good = chain(client, first, range(N // 2), tmp_path)
    broken = client.submit(broken_link, good[-1], key="broken-link")
    behind = chain(client, broken, range(N // 2, N), tmp_path)
    beside = chain(client, good[10], range(N, N + 50), tmp_path)
    note(str(tmp_path), "go")
    with pytest.raises(ValueError, match=f"after {N // 2}"):
        behind[-1].result(60)
    assert isinstance(behind[0].exception(60), ValueError)
    assert client.gather([good[-1], beside[-1]]) == [N // 2, 61]
    assert runs(tmp_path) == Counter([*range(-10, N // 2), *range(N, N + 50)])


def test_given_up_on_the_way_and_submitted_anew(client: Client, first: Future, tmp_path: Path) -> None:
    futures = chain(client, first, range(N), tmp_path)
    note(str(tmp_path), "go")
    futures[100].result(60)
    client.cancel(futures[150:])
    again = chain(client, futures[149], range(N, N + 500), tmp_path)
    assert again[-1].result(60) == 650
    assert client.gather(futures[:150]) == list(range(1, 151))
    assert max(runs(tmp_path).values()) == 1


def test_two_that_come_together(client: Client, first: Future, tmp_path: Path) -> None:
    one, other = (chain(client, first, range(start, start + 200), tmp_path)[-1] for start in (0, 1000))
    both = client.submit(sum, [one, other])
    note(str(tmp_path), "go")
    assert both.result(60) == 400
