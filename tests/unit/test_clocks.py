"""Nothing is decided by the wall clock, which people and NTP set at any moment: each reading of it is listed here."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "distributed"

# Where the wall clock is read, and what for.
READINGS = {
    "comm/secrets.py": "when a secret was made, for people; files of other programs older than a month go",
    "comm/certificates.py": "from when to when a certificate holds",
    "comm/unix.py": "files older than a minute may be sockets of dead processes; they are asked before they go",
    "comm/web_access.py": "until when the code in a link is good, which another process reads",
    "deploy/cluster.py": "lines of the cluster's log",
    "diagnostics/cluster_dump.py": "when a dump was made, for people",
    "diagnostics/memory_sampler.py": "when memory was sampled, for pictures",
    "diagnostics/report.py": "from which moment on tasks are asked for, by when they ended",
    "diagnostics/spans.py": "when a span was met, and its end while it runs, for people",
    "diagnostics/task_stream.py": "from which moment on tasks are asked for, by when they ended",
    "http/gate.py": "whether such a code, or the cookie for it, is still good",
    "scheduler/event_log.py": "when an event was logged, for people",
    "scheduler/live_state.py": "when hosts were last heard of, for people",
    "scheduler/server.py": "when the scheduler was made, and when workers were last heard of, for people",
    "testing/functions.py": "the default timer of run_for, as its users know it",
    "upstream/profile.py": "when samples were taken, as callers of the known names read them",
    "upstream/system_monitor.py": "when the machine was measured, for pictures",
    "upstream/waiting.py": "the attribute started_at of Deadline; measured monotonically",
    "worker/executor.py": "when a task began, for pictures",
    "worker/profiling.py": "when samples were taken, as client.profile asks for them",
    "worker/runtime.py": "the same, for dask's thread state",
    "worker/facts.py": "when metrics were taken, for people",
}
WALL = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def reads_wall_clock(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if (name, node.attr) in WALL:
                return True
        if isinstance(node, ast.ImportFrom) and node.module == "time" and any(a.name == "time" for a in node.names):
            return True
    return False


def test_every_reading_of_the_wall_clock_is_known():
    found = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if reads_wall_clock(path)}
    assert sorted(found - READINGS.keys()) == [], "use time.monotonic() or the loop's time; for people only: list it"
    assert sorted(READINGS.keys() - found) == [], "these read it no more"
