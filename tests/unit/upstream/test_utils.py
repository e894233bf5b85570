"""``distributed.utils`` and its neighbours: what each small tool does."""

from __future__ import annotations

import asyncio
import io
import logging
import multiprocessing
import pickle
import sys
import threading
import zipfile
from pathlib import Path

import click
import dask
import pytest
from dask.context import thread_state

from distributed import collections, itertools, objects, proctitle, utils, utils_comm, versions


async def late(x: int) -> int:
    await asyncio.sleep(x / 100)
    return x


async def bad() -> None:
    raise ValueError("bad")


def test_all_and_any() -> None:
    async def main() -> None:
        assert await utils.All([late(2), late(1)]) == [2, 1]
        assert await utils.All([]) == []
        assert await utils.Any([late(50), late(0)]) == [None, 0]
        with pytest.raises(ValueError, match="bad"):
            await utils.All([late(50), bad()])
        with pytest.raises(ValueError, match="bad"):
            await utils.Any([late(50), bad()])

    asyncio.run(main())


def test_offload_runs_elsewhere_in_the_same_context() -> None:
    async def main() -> None:
        assert await utils.offload(threading.get_ident) != threading.get_ident()
        assert await utils.run_in_executor_with_context(None, max, 1, 2) == 2
        with pytest.raises(TimeoutError):
            await utils.wait_for(asyncio.sleep(60), 0.01)

    asyncio.run(main())


def test_questions_about_callables() -> None:
    assert utils.has_arg(lambda a, *, b: 0, "b") and not utils.has_arg(lambda **k: 0, "b")
    assert utils.has_keyword(print, "sep") and not utils.has_keyword(5, "x")
    assert utils.iscoroutinefunction(bad) and utils.is_coroutine_function(bad)

    @click.command()
    @click.option("--memory-limit")
    def command(memory_limit: str) -> None: ...

    assert utils.command_has_keyword(command, "memory_limit") and not utils.command_has_keyword(command, "x")
    assert utils.command_has_keyword("distributed.cli.dask_worker", "nthreads")
    assert utils.cli_keywords({"memory_limit": 5}, cmd=command) == ["--memory-limit", "5"]
    with pytest.raises(ValueError, match="--other"):
        utils.cli_keywords({"other": 5}, cmd=command)
    assert utils.import_term("dask.utils.key_split") is utils.key_split


def test_import_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # worker processes of other tests get it, too
    (tmp_path / "upstream_test_one.py").write_text("x = 1")
    assert [m.x for m in utils.import_file(str(tmp_path / "upstream_test_one.py"))] == [1]
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("upstream_test_two/__init__.py", "x = 2")
    assert [m.x for m in utils.import_file(str(tmp_path / "two.zip"))] == [2]
    with pytest.raises(FileNotFoundError, match="none"):
        utils.import_file(str(tmp_path / "none.py"))


@pytest.mark.parametrize(
    ("key", "group"),
    [("x", "x"), ("x-1", "x"), (("x-2", 1), "x-2"), ("('x-2',1)", "x-2"), (b"hello-world-1", "hello-world")],
)
def test_key_split_group(key: object, group: str) -> None:
    assert utils.key_split_group(key) == group


def test_conversions() -> None:
    assert utils.ensure_memoryview(memoryview(b"abcd")[::2]).tobytes() == b"ac"
    assert utils.clean_dashboard_address("0.0.0.0:8787") == [{"address": "0.0.0.0", "port": 8787}]
    assert utils.clean_dashboard_address([":1", 2]) == [{"address": "", "port": 1}, {"address": "", "port": 2}]
    assert utils.recursive_to_dict({1: [2, {3}], "a": (1,)}) == {1: [2, [3]], "a": [1]}
    cyclic: list[object] = [1]
    cyclic.append(cyclic)
    assert utils.recursive_to_dict(cyclic)[0] == 1
    assert utils.url_escape("tcp://a:1") == "tcp%3A%2F%2Fa%3A1"
    assert utils.TupleComparable((1, 2)) < utils.TupleComparable((1, 3))
    assert utils.read_block(io.BytesIO(b"a\nb\nc"), 0, 3, b"\n") == b"a\nb\n"
    assert utils.is_valid_xml("<a/>")
    with pytest.raises(SyntaxError):
        utils.is_valid_xml("<a>")
    with utils.tmp_text("x.json", '{"a": 1}') as name:
        assert utils.json_load_robust(name) == {"a": 1}
    with pytest.raises(TimeoutError, match="x"):
        utils.json_load_robust(name, timeout=0)


def test_settings_at_the_point_of_use() -> None:
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        assert utils.get_mp_context() is multiprocessing.get_context("forkserver")
    assert utils.get_fileno_limit() > 10


def test_set_thread_state() -> None:
    with utils.set_thread_state(colour="red"):
        assert thread_state.colour == "red" and utils.thread_state is thread_state
    assert not hasattr(thread_state, "colour")


def test_errors_and_logs() -> None:
    assert str(utils.truncate_exception(ValueError("a"), 10)) == "a"
    short = utils.truncate_exception(ValueError("a" * 100), 10)
    assert isinstance(short, ValueError) and "a" * 10 in str(short) and "a" * 11 not in str(short)
    limit = utils.RateLimiterFilter("slow", rate="1h")
    records = [logging.LogRecord("n", 20, "p", 1, text, (), None) for text in ("slow", "slow", "other", "other")]
    assert [limit.filter(record) for record in records] == [True, False, True, True]
    limit.reset_timer()
    assert limit.filter(records[0])
    root = logging.getLogger("upstream-test")
    handler = logging.StreamHandler(stream := io.StringIO())
    root.addHandler(handler)
    with utils.silence_logging_cmgr(logging.ERROR, "upstream-test"):
        root.warning("unseen")
    root.warning("seen")
    assert stream.getvalue() == "seen\n"


def test_retry_operation_honours_the_settings() -> None:
    tries = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return "done"

    fast = {"distributed.comm.retry.delay.min": 0, "distributed.comm.retry.delay.max": 0}
    with dask.config.set({"distributed.comm.retry.count": 1, **fast}), pytest.raises(OSError, match="not yet"):
        asyncio.run(utils_comm.retry_operation(flaky))
    tries.clear()
    with dask.config.set({"distributed.comm.retry.count": 2, **fast}):
        assert asyncio.run(utils_comm.retry_operation(flaky)) == "done"


def test_pack_data() -> None:
    assert utils_comm.pack_data({"a": [1, ("x", {"k": "x"})]}, {"x": 100}) == {"a": [1, (100, {"k": 100})]}
    assert utils_comm.subs_multiple({"x": ["x", 1]}, {"x": 5}) == {"x": [5, 1]}


def test_containers() -> None:
    lru: collections.LRU[str, int] = collections.LRU(2)
    lru["a"], lru["b"] = 1, 2
    assert lru["a"] == 1
    lru["c"] = 3
    assert list(lru) == ["a", "c"]
    heap = collections.HeapSet(key=len)
    for name in ("ccc", "a", "bb", "a"):
        heap.add(name)
    heap.discard("bb")
    assert len(heap) == 2 and "bb" not in heap and list(heap.sorted()) == ["a", "ccc"]
    assert heap.pop() == "a" and heap.peek() == "ccc" and heap.pop() == "ccc" and not heap
    with pytest.raises(KeyError):
        heap.pop()
    assert collections.sum_mappings([{"a": 1}, [("a", 2), ("b", 3)]]) == {"a": 3, "b": 3}
    assert list(itertools.ffill([0.5, 1, 1.5, 3], [1, 2], ["a", "b"], left="L")) == ["L", "a", "a", "b"]


def test_views() -> None:
    info = objects.SchedulerInfo({"address": "<x>", "workers": {"tcp://a": {"name": 1, "memory_limit": 1}}})
    assert "&lt;x&gt;" in info._repr_html_() and isinstance(info, dict)
    assert "tcp://a" in objects.WhoHas({"k": ["tcp://a"]})._repr_html_()
    proctitle.setproctitle("unseen")
    assert versions.get_package_info(["no-such-package"])["no-such-package"] is None
    own = versions.get_versions()
    other = {"packages": {**own["packages"], "dask": "0.1"}}
    assert versions.error_message(own, {}, own)["warning"] == ""
    assert "dask" in versions.error_message(own, {"w": other}, own)["warning"]


def test_functions_as_bytes_and_a_sign_of_life():
    from distributed.core import pingpong

    from distributed.worker import dumps_function

    assert pickle.loads(dumps_function(lambda x: x + 1))(1) == 2
    assert pingpong(None) == b"pong"
