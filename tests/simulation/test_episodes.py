"""The real cores of scheduler and workers under seeded chaos: every wanted key ends, all views agree, nothing remains.

A failing seed is told more of by ``python -m distributed.simulation --seed SEED``; ``docs/SIMULATION.md``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distributed.simulation import replay
from distributed.simulation.episode import Episode, Failure
from distributed.simulation.faults import make_script
from distributed.simulation.minimise import minimise

SEEDS_A_TEST = 10
REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, 60, SEEDS_A_TEST))
def test_everything_ends_well(first):
    for seed in range(first, first + SEEDS_A_TEST):
        try:
            Episode(make_script(seed)).run()
        except Failure as failure:
            small = minimise(failure, 100)
            script = "\n".join([str(act) for act in small.script.acts])
            pytest.fail(f"{small}\n{small.story_of_keys()}\n{script}", pytrace=False)


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_was_found_stays_mended(path):
    recorded = replay.decode(path.read_bytes())
    assert recorded.what and recorded.mended
    Episode(recorded.script, thorough=True).run()


def simulate(*arguments, **variables):
    command = [sys.executable, "-m", "distributed.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True)


def test_a_seed_replays_exactly_whatever_the_hashes():
    """The same story in two processes that hash strings differently: no rule depends on the order of a set."""
    digests = [simulate("--seed", "5", "--digest", PYTHONHASHSEED=seed).stdout for seed in ("1", "2")]
    assert len(digests[0]) == 65
    assert digests[0] == digests[1]


def test_a_script_survives_its_file():
    script = make_script(11)
    recorded = replay.Replay("what", script, "rule")
    text = replay.encode(recorded)
    assert replay.decode(text) == recorded
    assert Episode(script, digest=True).run().cluster.sim.digest == (
        Episode(replay.decode(text).script, digest=True).run().cluster.sim.digest
    )


def test_every_check_changes_nothing():
    """What is checked, and how often, does not change what happens."""
    digests = [Episode(make_script(12), True, thorough).run().cluster.sim.digest for thorough in (False, True)]
    assert digests[0] == digests[1]


def test_the_command_counts_seeds():
    done = simulate("--seeds", "4", "--jobs", "2", "--counts")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 seeds, 0 failed" in done.stdout and "TaskFinished" in done.stdout
