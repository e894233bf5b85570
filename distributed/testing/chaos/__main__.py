"""``python -m distributed.testing.chaos``: a soak test from the command line. The exit code is 1 when something was
found that must not be."""

from __future__ import annotations

import dataclasses
import faulthandler
import signal
import sys

import click

from distributed.testing.chaos import Options, run

_DEFAULTS = Options()


@click.command(help="Kill, stop and scale the workers of a local cluster while work with known results runs on it.")
@click.option("--minutes", type=float, default=1.0, show_default=True, help="How long")
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Chooses jobs and faults")
@click.option("--round", "round_s", type=float, default=_DEFAULTS.round_s, show_default=True, help="Seconds a cluster")
@click.option("--workers", "n_workers", type=int, default=_DEFAULTS.n_workers, show_default=True)
@click.option("--clients", "n_clients", type=int, default=_DEFAULTS.n_clients, show_default=True)
@click.option("--pause", "pause_s", type=float, default=_DEFAULTS.pause_s, show_default=True, help="Between faults")
@click.option("--patience", "patience_s", type=float, default=_DEFAULTS.patience_s, show_default=True,
              help="Seconds of silence after which a worker is lost")  # fmt: skip
@click.option("--stuck", "stuck_s", type=float, default=_DEFAULTS.stuck_s, show_default=True,
              help="Seconds without any movement after which a round is stuck")  # fmt: skip
@click.option("--json", "path", type=str, default=None, help="Where to write counts and violations as JSON")
def main(minutes: float, path: str | None, **options: float) -> None:
    faulthandler.register(signal.SIGUSR1)
    chosen = Options(seconds=minutes * 60, **options)  # type: ignore[arg-type]
    tally = run(chosen, lambda text: click.echo(text, err=True))
    if path is not None:
        tally.write(path, options=dataclasses.asdict(chosen))
    if tally.violations:
        click.echo(tally.details() + "\n")
    click.echo(tally.table())
    sys.exit(bool(tally.violations))


if __name__ == "__main__":
    main()
