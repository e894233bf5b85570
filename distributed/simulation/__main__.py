"""``python -m distributed.simulation --seeds 1000``: many lives of a cluster, in two processes; ``docs/SIMULATION.md``.

The one part of the room that is not pure: it reads arguments and files, starts processes and looks at the clock.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import time
from collections import Counter
from pathlib import Path

from msgspec import Struct

from distributed.simulation import planted, replay
from distributed.simulation.episode import Episode, Failure
from distributed.simulation.faults import make_script
from distributed.simulation.minimise import failure_of, minimise

CHUNK = 10


class Chunk(Struct):
    """What became of some seeds."""

    n: int
    cpu_s: float
    n_events: int
    counts: dict[str, int]
    failed: list[int]


def run_seeds(first: int, n: int, n_acts: int, bug: str = "") -> Chunk:
    """Play these seeds, with a planted bug if one is named."""
    began = time.process_time()
    counts: Counter[str] = Counter()
    failed: list[int] = []
    n_events = 0
    with planted.plant(bug):
        for seed in range(first, first + n):
            episode = Episode(make_script(seed, n_acts))
            try:
                episode.run()
            except Failure:
                failed.append(seed)
            counts.update(episode.cluster.sim.counts)
            n_events += episode.cluster.sim.n_events
    return Chunk(n, time.process_time() - began, n_events, dict(counts), failed)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when something failed that should not, or a planted bug was not found."""
    options = _parser().parse_args(arguments)
    with planted.plant(options.planted if options.seed is not None else ""):
        if options.replay is not None:
            recorded = replay.decode(Path(options.replay).read_bytes())
            print(f"{options.replay}: {recorded.what}")
            return _play_one(Episode(recorded.script, options.digest, thorough=True), options)
        if options.seed is not None:
            return _play_one(Episode(make_script(options.seed, options.acts), options.digest, thorough=True), options)
    return _play_many(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m distributed.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, default=None, help="only this one, with its last events")
    parser.add_argument("--acts", type=int, default=40, help="length of an episode")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--replay", metavar="FILE", default=None, help="play the script of this file")
    parser.add_argument("--digest", action="store_true", help="print a digest of all that happened in one episode")
    parser.add_argument("--planted", metavar="NAME", default="", help="look for a planted bug; 'list' names them")
    parser.add_argument("--keep", metavar="DIR", default=".", help="where replay files of failures go")
    parser.add_argument("--counts", action="store_true", help="print how often each kind of event happened")
    parser.add_argument("--lines", type=int, default=40, help="how many events of a story to print")
    return parser


def _play_one(episode: Episode, options: argparse.Namespace) -> int:
    try:
        episode.run()
    except Failure as failure:
        print(failure.story_of_keys())
        print(episode.story(options.lines))
        print(failure)
        return 1
    print(episode.cluster.sim.digest if options.digest else f"{episode.story(options.lines)}\nended well")
    return 0


def _play_many(options: argparse.Namespace) -> int:
    if options.planted == "list":
        print("\n".join([f"{name}: {bug[0]}" for name, bug in planted.BUGS.items()]))
        return 0
    began = time.monotonic()
    total = Chunk(0, 0.0, 0, {}, [])
    counts: Counter[str] = Counter()
    starts = range(options.first, options.first + options.seeds, CHUNK)
    end = options.first + options.seeds
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        tasks = [
            pool.submit(run_seeds, start, min(CHUNK, end - start), options.acts, options.planted) for start in starts
        ]
        for task in tasks:
            chunk = task.result()
            total.n += chunk.n
            total.cpu_s += chunk.cpu_s
            total.n_events += chunk.n_events
            total.failed += chunk.failed
            counts.update(chunk.counts)
            if options.planted and chunk.failed:
                for other in tasks:
                    other.cancel()
                print(f"{options.planted}: found by seed {chunk.failed[0]}")
                return 0
            for seed in chunk.failed:
                _tell(seed, options)
    if options.counts:
        print("\n".join([f"{n:8} {kind}" for kind, n in counts.most_common()]))
    print(
        f"{total.n} seeds, {len(total.failed)} failed, {total.n_events} events, "
        f"{time.monotonic() - began:.1f} s, {total.cpu_s:.1f} s of CPU"
    )
    return 1 if total.failed or options.planted else 0


def _tell(seed: int, options: argparse.Namespace) -> None:
    """The failure of a seed, made small, and a file to replay it."""
    failure = failure_of(make_script(seed, options.acts))
    if failure is None:
        print(f"seed {seed} failed, but not with every check after every event: run it by --seed {seed}")
        return
    print(f"\n{failure}\nmaking it small ...", flush=True)
    small = minimise(failure)
    path = Path(options.keep) / f"simulation-{seed}.json"
    path.write_text(replay.encode(replay.Replay(f"seed {seed}: {small.text[:200]}", small.script, small.rule)))
    print(f"{small.story_of_keys()}\n{small}")
    print(f"script of {len(small.script.acts)} records: {path}", flush=True)
    for act in small.script.acts:
        print(f"  {act}")


if __name__ == "__main__":
    sys.exit(main())
