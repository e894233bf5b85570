"""The examples run as the README says, and the parts of the demo give what pandas and numpy give."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distributed import Client, LocalCluster
from examples import flights, flights_frame, image_stack

ROOT = Path(__file__).parents[3]
EXPECTED = {
    "map_reduce": "[('the', 400), ('quick', 200)]",
    "frame_groupby": "0      4.5   5000",
    "array_svd": "the squares of the singular values add up: True",
    "delayed_pipeline": "{'values': 180, 'total': 7980}",
    "parameter_search": "best: (5, 37)",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"examples.{name}"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert EXPECTED[name] in done.stdout, done.stdout
    assert f"examples.{name}" in (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client


def test_flights_as_a_frame_equal_pandas(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    paths = flights.split(str(folder), parts=24)[::8]
    found, plain = flights_frame.run(paths), flights_frame.run_plain(paths)
    assert found.keys() == plain.keys()
    for name, expected in plain.items():
        if isinstance(expected, pd.Series):
            got = found[name].sort_index()
            np.testing.assert_allclose(got.to_numpy(), expected.sort_index().to_numpy(), err_msg=name)
        else:
            assert found[name] == expected
    page = flights_frame.write_report(found, tmp_path / "flights.html").read_text()
    assert page.count("<svg") == 3 and "minutes early" in page
    assert "planes" in flights_frame.report(found)


def test_the_decomposition_of_pictures_equals_numpy(client: Client, tmp_path: Path) -> None:
    pictures = image_stack.stack(2_000, 1_000).persist()
    mean, values, directions = client.gather(client.compute(list(image_stack.decompose_lazily(pictures))))
    plain_mean, plain_values, plain_directions = image_stack.decompose(pictures.compute())
    np.testing.assert_allclose(mean, plain_mean)
    np.testing.assert_allclose(values, plain_values)
    np.testing.assert_allclose(np.abs(np.sum(directions * plain_directions, axis=1)), 1)
    assert values[2] > 3 * values[3], "three patterns, and noise"
    assert image_stack.draw(mean, directions, tmp_path / "patterns.png").read_bytes().startswith(b"\x89PNG")
