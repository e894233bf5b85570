"""A program with an in-process cluster ends, whatever hangs in its threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAD = """
import threading
from distributed import Client, LocalCluster

hung = threading.Event()


def hang(*ignored):
    hung.set()
    threading.Event().wait()


class Stuck:
    def hang(self):
        hang()


cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=None)
client = Client(cluster)
"""
WAYS = {
    "a task": "future = client.submit(hang)",
    "an actor's method": "actor = client.submit(Stuck, actor=True).result(); call = actor.hang()",
    "a callback": "future = client.submit(abs, 1); future.add_done_callback(hang)",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_program_ends_while_it_hangs(way: str, private_places: None) -> None:
    program = f"{HEAD}\n{WAYS[way]}\nassert hung.wait(30)\nprint('end')\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "end\n", done.stderr
