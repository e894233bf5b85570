"""Base classes of plugins, and the small ready-made ones."""

from __future__ import annotations

import asyncio
import inspect
import pickle

import pytest

from distributed.plugins import Environ, NannyPlugin, SchedulerPlugin, UploadFile, WorkerPlugin, plugin_name


def test_names():
    class Mine(WorkerPlugin):
        pass

    assert plugin_name(Mine()).startswith("Mine-")
    assert plugin_name(Mine()) != plugin_name(Mine())
    assert plugin_name(Mine(), "given") == "given"
    Mine.name = "own"
    assert plugin_name(Mine()) == "own"


def test_hooks_do_nothing():
    plugin = SchedulerPlugin()
    asyncio.run(plugin.start(None))
    asyncio.run(plugin.before_close())
    asyncio.run(plugin.close())
    plugin.update_graph(None, client="", keys=set(), tasks=[], annotations={}, priority={}, stimulus_id="", more=1)
    plugin.transition("x", "a", "b", stimulus_id="s")
    plugin.restart(None)
    plugin.add_worker(None, "w")
    plugin.remove_worker(None, "w", stimulus_id="s", expected=True)
    plugin.add_client(None, "c")
    plugin.remove_client(None, "c")
    plugin.log_event("t", 1)
    assert plugin.valid_workers_downscaling(None, [1]) == [1]
    for base in (WorkerPlugin(), NannyPlugin()):
        assert base.setup(None) is base.teardown(None) is None
    assert not NannyPlugin().restart
    assert not any(inspect.isabstract(cls) for cls in (SchedulerPlugin, WorkerPlugin, NannyPlugin))


class FakeWorker:
    def __init__(self):
        self.got = []

    def upload_file(self, filename, data, load):
        self.got.append((filename, data, load))


def test_upload_file(tmp_path):
    path = tmp_path / "mod.py"
    path.write_bytes(b"x = 1")
    plugin = pickle.loads(pickle.dumps(UploadFile(path)))
    assert plugin.name == "upload-file-mod.py"
    worker = FakeWorker()
    asyncio.run(plugin.setup(worker))
    assert worker.got == [("mod.py", b"x = 1", True)]
    assert UploadFile.from_bytes("..\\..\\evil/../m.py", b"", False).filename == "m.py"
    for bad in ("", "..", "a/"):
        with pytest.raises(ValueError):
            UploadFile.from_bytes(bad, b"")
    with pytest.raises(FileNotFoundError):
        UploadFile(tmp_path / "absent.py")


def test_environ():
    class Nanny:
        env: dict = {}

    plugin = Environ({"A": 1})
    plugin.setup(Nanny)
    assert Nanny.env == {"A": "1"}
    assert plugin.restart
