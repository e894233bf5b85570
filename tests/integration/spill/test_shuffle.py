"""A shuffle of partitions that are large beside their worker's memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_16_mb_partitions_in_256_mb(private_places: None) -> None:
    """It comes to its end, complete, without a death: once, workers paused for ever over pages of libraries."""
    options = ["--gb", "0.25", "--partitions", "16", "--memory-limit", "256MiB", "--check"]
    command = [sys.executable, "-m", "benchmarks.shuffle", *options]
    here = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["complete"] and figures["no worker died"]
