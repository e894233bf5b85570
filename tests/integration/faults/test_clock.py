"""Wall clocks that jump by an hour, forth and back, in every process of a cluster while tasks run."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_FOLDERS = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")
LIBRARY = next((path for folder in _FOLDERS for path in glob.glob(f"{folder}/libfaketimeMT.so.1")), None)


@pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime, to set clocks: apt-get install faketime")
def test_wall_clock_jumps_by_an_hour(tmp_path: Path, private_places: None) -> None:
    assert LIBRARY is not None
    (tmp_path / "offset").write_text("+0\n")
    env = {
        **os.environ,
        "LD_PRELOAD": LIBRARY,
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "offset"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    command = [sys.executable, "-m", "tests.integration.faults.clock_story", str(tmp_path)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    # The clocks did jump under the tasks: those that saw both jumps end an hour before they began.
    assert min(seen["walls"]) < -3000
    # Nothing noticed.
    assert min(seen["monotonics"]) >= 0
    assert max(seen["monotonics"]) < 110
    assert seen["executions"] == 12, "every task ran once"
    assert seen["waited"] == 1, "the wait of two minutes did not end"
    assert seen["workers_stayed"]
    assert not [event for event in seen["events"] if "worker" in event.get("action", "")], seen["events"]
    assert min(seen["durations"]) >= 0
    assert max(seen["durations"]) < 12 * 110
