"""The scheduler's environment is its own (S85): tasks on numpy arrays, of the user's modules and of functions without
a module run through a scheduler that can import neither numpy nor pandas nor pyarrow nor any module of the user; so do
the graphs of dask's arrays and frames, whose nodes are full of them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, wait
from tests.integration.cli.test_programs import running

ABSENT = ("numpy", "pandas", "pyarrow", "user_jobs", "user_models", "user_by_value")

# As `dask-scheduler`, where these packages are not installed. `-I` keeps this directory and PYTHONPATH out.
SCHEDULER = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

assert not set(sys.modules) & set({ABSENT!r})
sys.meta_path.insert(0, Absent())
from distributed.cli.dask_scheduler import main
sys.argv = ["dask-scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
main()
"""

USER_JOBS = """
import user_models

class Refused(Exception):
    def __init__(self, reason, array):
        super().__init__(reason, array)
        self.array = array

def double(array):
    return array * 2

def total(arrays):
    return sum(float(array.sum()) for array in arrays)

def model(x):
    return user_models.Model(x)

def evaluate(model, array):
    return model.factor * array

def refuse(array):
    raise Refused("not this one", array)
"""

USER_MODELS = """
class Model:
    def __init__(self, factor):
        self.factor = factor
    def __eq__(self, other):
        return type(other) is Model and other.factor == self.factor
    __hash__ = None
"""

# Only the client has this one: cloudpickle takes it along by value.
USER_BY_VALUE = """
import numpy as np

STEP = 10

class Step:
    def __init__(self, array):
        self.array = array + STEP

def step(array):
    return Step(np.asarray(array)).array
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client and two workers with the user's packages, a scheduler without."""
    modules: Path = tmp_path_factory.mktemp("modules")
    modules.joinpath("user_jobs.py").write_text(USER_JOBS)
    modules.joinpath("user_models.py").write_text(USER_MODELS)
    own: Path = tmp_path_factory.mktemp("own")
    own.joinpath("user_by_value.py").write_text(USER_BY_VALUE)
    environment = {**os.environ, "PYTHONPATH": str(modules)}
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard", "--host", "127.0.0.1"]
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(running([sys.executable, "-I", "-c", SCHEDULER]))
        address = scheduler.line(r"Start scheduler at: +(\S+)")
        options = [address, "--no-nanny", "--nthreads", "1"]
        workers = [stack.enter_context(running([*command, *options], env=environment)) for _ in range(2)]
        for worker in workers:
            worker.line(r"Registered to: +(\S+)")
        for directory in (str(modules), str(own)):
            sys.path.insert(0, directory)
            stack.callback(sys.path.remove, directory)
        for name in ("user_jobs", "user_models", "user_by_value"):
            stack.callback(sys.modules.pop, name, None)
        yield stack.enter_context(Client(address))


def on_the_scheduler(client: Client) -> list[str]:
    """Which of the absent packages the scheduler has loaded. The question itself names functions of builtins only."""
    loaded: Any = client.run_on_scheduler(eval, "sorted(__import__('sys').modules)")
    assert "distributed.scheduler.server" in loaded
    return [name for name in loaded if name.partition(".")[0] in ABSENT]


@pytest.fixture(autouse=True)
def nothing_is_loaded_there(client: Client) -> Iterator[None]:
    assert on_the_scheduler(client) == []
    yield
    assert on_the_scheduler(client) == []


def test_the_scheduler_really_has_none_of_them(client: Client) -> None:
    for name in ABSENT:
        with pytest.raises(ModuleNotFoundError, match=name):
            client.run_on_scheduler(__import__, name)


def test_s85_numpy_arrays(client: Client) -> None:
    import numpy as np
    import user_jobs

    arrays = [np.arange(1000.0) + i for i in range(8)]
    doubled = client.map(user_jobs.double, arrays)
    assert client.submit(user_jobs.total, doubled).result(timeout=20) == 2 * sum(map(np.sum, arrays))
    for future, array in zip(doubled, arrays, strict=True):
        np.testing.assert_array_equal(future.result(timeout=20), array * 2)
    big = client.scatter(np.ones(1_000_000), broadcast=True)
    assert client.submit(np.sum, big).result(timeout=20) == 1_000_000
    big_result = client.submit(np.zeros, 2_000_000)
    assert client.gather(big_result).nbytes == 16_000_000
    assert client.gather(big_result, direct=False).nbytes == 16_000_000


def test_dataframes(client: Client) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": range(10), "b": list("abcdefghij")})
    future = client.submit(pd.DataFrame.sum, client.scatter(frame), numeric_only=True)
    assert future.result(timeout=20)["a"] == 45


def test_s85_objects_and_functions_of_the_users_modules(client: Client) -> None:
    import user_jobs
    import user_models

    model = client.submit(user_jobs.model, 3)
    assert model.result(timeout=20) == user_models.Model(3)
    assert client.submit(user_jobs.evaluate, model, user_models.Model(1).factor).result(timeout=20) == 3
    assert model.type is user_models.Model


def test_functions_by_value(client: Client) -> None:
    import numpy as np

    base = np.arange(3)
    futures = client.map(lambda x: (base + x).tolist(), range(3))
    assert client.gather(futures) == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_a_module_by_value(client: Client) -> None:
    import cloudpickle
    import user_by_value

    cloudpickle.register_pickle_by_value(user_by_value)
    try:
        assert client.submit(user_by_value.step, [1, 2]).result(timeout=20).tolist() == [11, 12]
        stepped = client.submit(user_by_value.Step, 1)
        assert client.submit(lambda step: int(step.array), stepped).result(timeout=20) == 11
    finally:
        cloudpickle.unregister_pickle_by_value(user_by_value)


def test_exceptions_of_the_users_modules(client: Client) -> None:
    import numpy as np
    import user_jobs

    future = client.submit(user_jobs.refuse, np.arange(3), retries=1)
    dependent = client.submit(user_jobs.double, future)
    wait([future, dependent], timeout=20)
    error = future.exception()
    assert type(error) is user_jobs.Refused
    assert error.array.tolist() == [0, 1, 2]
    with pytest.raises(user_jobs.Refused, match="not this one"):
        dependent.result()


def test_graphs(client: Client) -> None:
    import user_jobs

    graph = {("x", i): (user_jobs.evaluate, (user_jobs.model, i), 2) for i in range(4)}
    assert client.get({**graph, "sum": (sum, list(graph))}, "sum") == 12


def test_arrays_of_dask(client: Client) -> None:
    import dask.array as da
    import numpy as np

    rng = np.random.default_rng(1)
    values = rng.random((120, 90))
    x = da.from_array(values, chunks=(40, 30))
    np.testing.assert_allclose((x @ x.T).mean(axis=0).compute(), (values @ values.T).mean(axis=0))
    np.testing.assert_array_equal(x.rechunk((7, 90), method="p2p").T.compute(), values.T)
    kept = x.persist()
    np.testing.assert_allclose(da.linalg.svd(kept.rechunk((40, 90)))[1].compute(), np.linalg.svd(values)[1])
    assert float((kept + 1).sum().compute()) == pytest.approx(float(values.sum()) + values.size)


def test_frames_of_dask(client: Client) -> None:
    pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    table = pd.DataFrame(
        {"k": [i % 7 for i in range(500)], "x": range(500), "t": [f"name-{i % 9}" for i in range(500)]}
    )
    frame = dd.from_pandas(table, npartitions=6)
    found = frame.groupby("t").x.sum().compute()
    assert found.sort_index().to_dict() == table.groupby("t").x.sum().to_dict()
    for method in ("p2p", "tasks"):
        shuffled = frame.shuffle("k", shuffle_method=method, npartitions=4)
        assert shuffled.map_partitions(lambda part: part.k.nunique()).sum().compute() == 7
        other = dd.from_pandas(pd.DataFrame({"k": range(7), "y": range(7)}), npartitions=3)
        joined = frame.merge(other, on="k", shuffle_method=method, broadcast=False).compute()
        assert len(joined) == 500 and (joined.k == joined.y).all()
    kept = frame.persist()
    assert len(kept.set_index("x").loc[100:199].compute()) == 100


def test_questions_to_the_scheduler(client: Client) -> None:
    import user_jobs

    future = client.submit(user_jobs.model, 5)
    wait(future, timeout=20)
    assert client.who_has(future)[future.key]
    assert client.nbytes(summary=False)[future.key] > 0
    assert set(client.run(os.getpid)) == set(client.nthreads())
    client.story(future)
    client.get_versions()
