"""The plugins that come with the package, on real worker processes."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
import warnings

import pytest

import distributed
from distributed import Client, LocalCluster, WorkerPlugin, get_worker, wait
from distributed.plugins import (
    CondaInstall,
    ForwardOutput,
    InstallPlugin,
    KillWorker,
    PipInstall,
    SchedulerUploadFile,
    UploadDirectory,
)
from tests.integration.facts import until


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


class Mark:
    """Leaves a file for each process that it is called in."""

    def __init__(self, directory):
        self.directory = str(directory)

    def __call__(self):
        with open(os.path.join(self.directory, str(os.getpid())), "a") as file:
            file.write("x")


class Seen(Mark):
    """Whether this process has left its file."""

    def __call__(self):
        return os.path.exists(os.path.join(self.directory, str(os.getpid())))


def pids(client):
    return sorted(client.run(os.getpid).values())


def test_install_once_in_each_worker_and_in_those_that_join(client, cluster, tmp_path):
    plugin = InstallPlugin(Mark(tmp_path), restart_workers=False)
    client.register_plugin(plugin)
    client.register_plugin(plugin)  # idempotent by its name
    assert sorted(map(int, os.listdir(tmp_path))) == pids(client)
    known = set(client.scheduler_info()["workers"])
    cluster.scale(3)
    client.wait_for_workers(3)
    new = list(set(client.scheduler_info()["workers"]) - known)
    assert client.submit(Seen(tmp_path), workers=new, pure=False).result()  # no task runs before the plugin's setup
    assert sorted(map(int, os.listdir(tmp_path))) == pids(client)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"x"}
    cluster.scale(2)
    client.unregister_scheduler_plugin(plugin.name)
    until(lambda: len(client.nthreads()) == 2)
    with pytest.raises(ValueError, match=plugin.name):
        client.unregister_worker_plugin(plugin.name)


def nannies(dask_scheduler):
    return len(dask_scheduler.shell.streams.nannies)


def test_install_in_nannies_restarts_the_workers(client, tmp_path):
    until(lambda: client.run_on_scheduler(nannies) == 2)  # one that leaves still takes the plugin
    before = pids(client)
    plugin = InstallPlugin(Mark(tmp_path), restart_workers=True)
    client.register_plugin(plugin)
    client.wait_for_workers(2)
    assert not set(before) & set(pids(client))
    # The nannies of a local cluster are in this process, and each has called it.
    assert [len(path.read_text()) for path in tmp_path.iterdir()] == [len(before)]
    client.unregister_scheduler_plugin(plugin.name)


def make_package(directory, name):
    (directory / name).mkdir()
    (directory / name / "pyproject.toml").write_text(
        f'[build-system]\nrequires=[]\nbuild-backend="backend"\nbackend-path=["."]\n[project]\nname="{name}"\nversion="1"\n'
    )
    (directory / name / "backend.py").write_text(
        textwrap.dedent(f"""
        import zipfile
        def build_wheel(where, *args, **kwargs):
            name = "{name}-1-py3-none-any.whl"
            with zipfile.ZipFile(where + "/" + name, "w") as wheel:
                wheel.writestr("{name}.py", "answer = 42")
                wheel.writestr("{name}-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n")
                wheel.writestr("{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
                wheel.writestr("{name}-1.dist-info/RECORD", "")
            return name
        """)
    )
    return str(directory / name)


def test_pip_install(client, tmp_path):
    package = make_package(tmp_path, "made_for_this_test")
    target = tmp_path / "target"
    options = ["--target", str(target), "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    plugin = PipInstall([package], pip_options=[*options, "--upgrade"])
    assert plugin.name == PipInstall([package], pip_options=[*options, "--upgrade"]).name
    assert plugin.name != PipInstall([package], pip_options=options).name
    client.register_plugin(plugin)
    assert (target / "made_for_this_test.py").read_text() == "answer = 42"
    client.unregister_scheduler_plugin(plugin.name)


def test_what_cannot_be_installed_is_said_and_leaves_no_plugin(client, tmp_path):
    nowhere = str(tmp_path / "nowhere")
    plugin = PipInstall([nowhere], pip_options=["--no-index", "--quiet"])
    with pytest.raises(RuntimeError, match=r"pip could not install .*nowhere.*exit code"):
        client.register_plugin(plugin)
    with pytest.raises(ValueError, match=plugin.name):
        client.unregister_worker_plugin(plugin.name)
    with pytest.raises(ValueError, match=plugin.name):
        client.unregister_scheduler_plugin(plugin.name)


def test_conda_that_is_not_there(client, monkeypatch):
    client.run(os.environ.__setitem__, "CONDA_EXE", "no-such-conda")
    with pytest.raises(RuntimeError, match=r"no-such-conda|conda is not on this machine"):
        client.register_plugin(CondaInstall(["numpy"]))


@pytest.mark.parametrize("make", [PipInstall, CondaInstall])
def test_bad_packages(make):
    with pytest.raises(TypeError, match="list of strings"):
        make("numpy")
    with pytest.raises(TypeError, match="list of strings"):
        make(["numpy"], [1])
    with pytest.raises(ValueError, match="at least one"):
        make([])
    with pytest.raises(TypeError, match="install_fn"):
        InstallPlugin("not a function", False)


def make_tree(directory):
    root = directory / "uploaded_tree"
    (root / "tests").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "inner_module.py").write_text("where = __file__")
    (root / "old.pyc").write_bytes(b"")
    (root / "tests" / "test_it.py").write_text("")
    return root


def files_here(dask_worker):
    directory = os.path.join(dask_worker.local_directory, "uploaded_tree")
    return sorted(os.listdir(directory))


def test_upload_directory(client, cluster, tmp_path):
    client.register_plugin(UploadDirectory(make_tree(tmp_path), update_path=True))
    cluster.scale(3)
    client.wait_for_workers(3)
    assert set(map(tuple, client.run(files_here).values())) == {("__init__.py", "inner_module.py")}

    def both(dask_worker):
        import inner_module
        import uploaded_tree.inner_module

        return inner_module.where, uploaded_tree.inner_module.where, dask_worker.local_directory

    for one, other, directory in client.run(both).values():
        assert one == other == os.path.join(directory, "uploaded_tree", "inner_module.py")
    cluster.scale(2)
    until(lambda: len(client.nthreads()) == 2)


def test_upload_directory_to_the_scheduler_and_restart(client, tmp_path):
    before = pids(client)
    plugin = UploadDirectory(make_tree(tmp_path), mode="all", restart_workers=True)
    client.register_plugin(plugin)
    client.wait_for_workers(2)
    assert not set(before) & set(pids(client))
    assert "inner_module.py" in next(iter(client.run(files_here).values()))

    def at_scheduler():
        import uploaded_tree.inner_module

        return uploaded_tree.inner_module.where

    place = client.run_on_scheduler(at_scheduler)
    assert os.path.exists(place)
    client.unregister_scheduler_plugin(plugin.name)
    assert not os.path.exists(place)
    for module in ("uploaded_tree", "uploaded_tree.inner_module"):
        sys.modules.pop(module, None)


def test_bad_directories(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        UploadDirectory(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="mode must be one of"):
        UploadDirectory(tmp_path, mode="clients")


def test_upload_a_file_to_the_scheduler(client, tmp_path):
    (tmp_path / "for_the_scheduler.py").write_text("answer = 43")
    plugin = SchedulerUploadFile(tmp_path / "for_the_scheduler.py")
    client.register_plugin(plugin)
    assert client.run_on_scheduler(lambda: __import__("for_the_scheduler").answer) == 43
    client.unregister_scheduler_plugin(plugin.name)
    sys.modules.pop("for_the_scheduler")


def test_a_file_uploaded_again_replaces_functions_named_in_it(client, tmp_path, monkeypatch):
    path = tmp_path / "uploaded_twice.py"
    monkeypatch.syspath_prepend(tmp_path)
    for version in (1, 2):
        path.write_text(f"def f():\n    return {version}\n")
        sys.modules.pop("uploaded_twice", None)
        import uploaded_twice

        client.upload_file(path)
        assert client.submit(uploaded_twice.f, pure=False).result() == version
    sys.modules.pop("uploaded_twice")


def test_print_and_warn_from_tasks(client, capfd):
    class Special(UserWarning):
        pass

    def speak():
        distributed.print("some", "words", sep="-", end="!\n")
        distributed.print("to stderr", file=sys.stderr)
        distributed.warn("be careful", DeprecationWarning)
        distributed.warn(Special("not known elsewhere"))
        return os.getpid()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        future = client.submit(speak, pure=False)
        assert future.result() != os.getpid()
        said = []
        until(lambda: said.append(capfd.readouterr()) or len(caught) >= 2)
        out = "".join(part.out for part in said)
        assert "some-words!" in out
        assert "to stderr" in "".join(part.err for part in said)
    assert [(w.category, str(w.message)) for w in caught] == [
        (DeprecationWarning, "be careful"),
        (UserWarning, "not known elsewhere"),
    ]
    event = client.get_events("print")[-2][1]
    assert event["key"] == future.key
    assert event["worker"] in client.scheduler_info()["workers"]


def test_print_outside_of_tasks_is_the_built_in(capsys):
    distributed.print(1, 2, sep="/")
    assert capsys.readouterr().out == "1/2\n"
    with pytest.warns(UserWarning, match="here"):
        distributed.warn("here")
    with pytest.raises(TypeError, match="sep="):
        distributed.print(1, sep=2)
    with pytest.raises(TypeError, match="category"):
        distributed.warn("x", int)


def test_forward_output(client):
    texts = []
    client.subscribe_topic("print", lambda event: texts.append((event[1]["file"], event[1]["text"])))
    client.register_plugin(ForwardOutput())

    def chatter():
        sys.stdout.write("one ")
        print("line")
        print("and this", file=sys.stderr)

    client.submit(chatter, pure=False).result()
    until(lambda: len(texts) == 2)
    assert texts == [("stdout", "one line\n"), ("stderr", "and this\n")]
    client.unregister_worker_plugin("forward-output")
    assert set(client.run(lambda: type(sys.stdout).__name__).values()) == {"TextIOWrapper"}


def test_forward_logging(client, caplog):
    def log():
        logging.getLogger("users.own").warning("%s of %s", "one", 2)
        logging.getLogger("users.own").info("too low")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.getLogger("users.own").exception("with a traceback")

    client.forward_logging("users.own", level=logging.WARNING)
    client.submit(log, pure=False).result()
    until(lambda: len(caplog.records) >= 2)
    assert [record.getMessage() for record in caplog.records] == ["one of 2", "with a traceback"]
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()
    client.unforward_logging("users.own")
    client.submit(log, pure=False).result()
    client.log_event("mark", 1)
    until(lambda: client.get_events("mark"))
    assert not caplog.records
    with pytest.raises(ValueError, match=r"users\.own"):
        client.unforward_logging("users.own")
    with pytest.raises(ValueError, match="LOUD"):
        client.forward_logging("users.own", level="LOUD")


@pytest.mark.parametrize("mode", ["sys.exit", "graceful", "segfault"])
def test_kill_worker(mode):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):
        address = next(iter(client.scheduler_info()["workers"]))
        client.register_plugin(KillWorker(delay="10 ms", mode=mode), name="killer")

        def gone():
            return address not in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.workers))

        until(gone)
    with pytest.raises(ValueError, match="mode must be one of"):
        KillWorker(mode="gently")


class Raising(WorkerPlugin):
    name = "raising"

    def setup(self, worker):
        raise RuntimeError("in setup")


def test_a_plugin_that_raises_in_setup_is_said_and_work_goes_on(client):
    with pytest.raises(RuntimeError, match="in setup"):
        client.register_plugin(Raising())
    future = client.submit(lambda: get_worker().address, pure=False)
    wait(future)
    assert future.status == "finished"
