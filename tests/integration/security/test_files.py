"""Files that are trusted for what is in them: scheduler files, values and pieces of shuffles on disk."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distributed import Client, Worker, wait
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.shuffle.limiter import MemoryLimiter
from distributed.shuffle.pieces import Piece
from distributed.shuffle.store import PieceStore, read
from distributed.testing import async_poll_for, gen_cluster

MIB = 1 << 20
STRANGER = 12345
"""A uid that is nobody's here."""
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


# ---------------------------------------------------------------- row 16: scheduler files


def spoil(path: Path, how: str) -> tuple[Path, str]:
    """Make a good scheduler file bad; its path, and what is said about it."""
    if how == "readable by others":
        path.chmod(0o644)
        return path, f"chmod go-rwx '{path}'"
    if how == "a symbolic link":
        link = path.with_name("link.json")
        link.symlink_to(path)
        return link, "name the file itself"
    if how == "of another user":
        os.chown(path, STRANGER, STRANGER)
        return path, f"belongs to another user (uid {STRANGER})"
    path.write_text(path.read_text()[:40])
    return path, "not complete"


@pytest.mark.parametrize(
    "how", ["readable by others", "a symbolic link", pytest.param("of another user", marks=only_root), "cut short"]
)
def test_c4_16_scheduler_files(how: str, tmp_path: Path, private_places: None) -> None:
    """Refused with the remedy, in a program by one line, and the secret is not in it."""
    secret = Secret.new()
    good = tmp_path / "s.json"
    secrets.write_scheduler_file(good, {"address": "tcp://127.0.0.1:1", "id": "x"}, secret)
    path, words = spoil(good, how)
    timeout = "2s" if how == "cut short" else "20s"  # it may be written yet: waited for
    with pytest.raises(OSError if how != "cut short" else (OSError, ValueError)) as caught:
        Client(scheduler_file=str(path), timeout=timeout)
    assert words in str(caught.value) or "not a complete" in str(caught.value), caught.value
    args = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(path), "--no-nanny"]
    done = subprocess.run([*args, "--death-timeout", timeout], capture_output=True, text=True, timeout=60)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 1 and words in line and "Traceback" not in done.stderr, done.stderr
    for text in (str(caught.value), done.stderr, done.stdout):
        assert secret.reveal()[5:] not in text


# ---------------------------------------------------------------- row 19: files with pickles


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def replace(path: Path, content: bytes) -> None:
    """What the owner of a directory further up can do: move ours away, and put another one there with a file in it."""
    folder = path.parent
    folder.rename(folder.with_name("moved away"))
    shutil.copytree(folder.with_name("moved away"), folder)
    path.write_bytes(content)
    if os.getuid() == 0:
        os.chown(path, STRANGER, STRANGER)
        path.chmod(0o644)


@gen_cluster(
    client=True,
    nthreads=[("127.0.0.1", 1)],
    worker_kwargs={"memory_limit": 64 * MIB},
    config={"distributed.worker.memory.spill-compression": False},
)
async def test_c4_19_a_value_on_disk_that_was_replaced(c: Client, s: Any, a: Worker) -> None:
    marker = Path(a.local_directory) / "marker"
    values = c.map(lambda i: [i, bytes(4 * MIB)], range(20), pure=False)
    await wait(values)
    await async_poll_for(lambda: not a.state.spilling.leaving and len(a.data.slow) > 4, 20)
    first, second, *_ = a.data.slow.values()
    bomb = pickle.dumps(Bomb(marker))
    for file in (first, second):
        with open(file.path, "rb") as f:
            content = bytearray(f.read())
        content[: len(bomb)] = bomb
        if file is first:
            replace(Path(file.path), bytes(content))
            with pytest.raises(PermissionError, match="somebody has put another file"):
                file.open()
            by_key = {future.key: i for i, future in enumerate(values)}
            (of_disk,) = [future for future in values if future.key == file.key]
            # Nothing is lost by it: the value is made again.
            size = await asyncio.wait_for(c.submit(lambda value: value[0], of_disk, pure=False), 30)
            assert size == by_key[file.key]
            assert (await asyncio.wait_for(c.gather(of_disk), 30))[0] == by_key[file.key]
            assert not marker.exists()
            shutil.rmtree(Path(file.path).parent, ignore_errors=True)  # the worker deletes files there meanwhile
            Path(file.path).parent.with_name("moved away").rename(Path(file.path).parent)
        else:  # the same bytes written into our own file would have worked: the test attacks what it says
            Path(file.path).write_bytes(content)
            file.open()
            assert marker.exists()


@pytest.mark.parametrize("way", ["replaced", "linked"])
def test_c4_19_a_shuffles_file_that_was_replaced(way: str, tmp_path: Path) -> None:
    async def go() -> None:
        marker = tmp_path / "marker"
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            store = PieceStore(str(tmp_path / "run" / "x"), MemoryLimiter(1000), pool)
            for number in range(3):
                await store.add([Piece(0, number, 0, 0, memoryview(b"p" * 900))], 900)
                store.write_out()
                await store.settle()
            share = await store.share(0)
            assert len(read(share)) == 3
            path = Path(share.path)
            if way == "replaced":
                bomb = pickle.dumps(Bomb(marker))
                replace(path, bomb + bytes(share.nbytes - len(bomb)))
            else:
                path.rename(tmp_path / "kept")
                path.symlink_to(tmp_path / "kept")
            with pytest.raises(PermissionError, match="somebody has put another file"):
                read(share)
            await store.add([Piece(0, 3, 0, 0, memoryview(b"p" * 900))], 900)
            store.write_out()
            with pytest.raises(Exception, match="somebody has put another file"):
                await store.settle()
            assert not marker.exists()
            await store.close()

    asyncio.run(go())
