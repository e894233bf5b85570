"""The directories of workers that were killed: the next worker beside them removes them, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed import Scheduler, Worker
from distributed.testing import async_poll_for, gen_test
from distributed.worker.scratch import find_abandoned, make_directory, remove_abandoned, remove_directory

OWNER = """
import os, sys
from distributed.worker.scratch import make_directory
path = make_directory(sys.argv[1])
os.mkdir(os.path.join(path, "storage"))
with open(os.path.join(path, "storage", "spilled"), "wb") as file:
    file.write(bytes(1000))
print(path, flush=True)
sys.stdin.read()
"""


class Owner:
    """A process that has a directory."""

    def __init__(self, where: Path) -> None:
        command = [sys.executable, "-c", OWNER, str(where)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.path = Path(self.process.stdout.readline().strip())

    def end(self, kill: bool) -> None:
        if kill:
            self.process.kill()
        self.process.communicate(timeout=20)


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[list[Owner]]:
    made = [Owner(tmp_path) for _ in range(2)]
    yield made
    for owner in made:
        owner.end(kill=True)


def test_of_a_killed_process(tmp_path: Path, owners: list[Owner]) -> None:
    killed, alive = owners
    own = make_directory(tmp_path)
    assert find_abandoned(own) == []
    killed.end(kill=True)
    assert find_abandoned(own) == [str(killed.path)]
    assert killed.path.joinpath("storage/spilled").exists()
    remove_abandoned([str(killed.path), str(alive.path), own])
    assert alive.path.joinpath("storage/spilled").exists()
    assert sorted(p.name for p in alive.path.parent.iterdir()) == sorted(
        name for path in (own, alive.path) for name in (Path(path).name, f"{Path(path).name}.lock")
    )
    alive.end(kill=False)  # at exit it removes its own
    remove_directory(own)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    own = Path(make_directory(tmp_path))
    theirs = own.with_name("worker-theirs")
    theirs.mkdir()  # no lock: whoever made it, it was none of our kind
    target = tmp_path / "precious"
    target.write_text("x")
    own.with_name("worker-link.lock").symlink_to(target)
    if os.getuid() == 0:
        lock = own.with_name("worker-other.lock")
        lock.touch()
        os.chown(lock, 65534, 65534)
        own.with_name("worker-other").mkdir()
    assert find_abandoned(str(own)) == []
    remove_directory(str(own))
    assert theirs.exists() and target.exists()


def test_a_lock_without_a_directory(tmp_path: Path, owners: list[Owner]) -> None:
    killed, _ = owners
    own = make_directory(tmp_path)
    killed.end(kill=True)
    lock = Path(f"{killed.path}.lock")
    assert lock.exists()
    remove_abandoned([str(killed.path)])
    assert not lock.exists() and not killed.path.exists()
    lock.touch()  # a process that died between its lock and its directory
    assert find_abandoned(own) == [str(killed.path)]
    remove_abandoned([str(killed.path)])
    assert not lock.exists()
    remove_directory(own)


@gen_test()
async def test_the_next_worker_clears_up(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.end(kill=True)
    assert owner.path.exists()
    async with Scheduler(dashboard_address=None, host="127.0.0.1", port=0) as scheduler:
        async with Worker(scheduler.address, local_directory=str(tmp_path)) as worker:
            await async_poll_for(lambda: not owner.path.exists() and not Path(f"{owner.path}.lock").exists())
            assert Path(worker.local_directory).exists()
    assert list(tmp_path.iterdir()) == []
