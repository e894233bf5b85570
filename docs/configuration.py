"""Makes ``docs/CONFIGURATION.md`` from ``distributed.yaml`` and ``distributed-schema.yaml``."""

from __future__ import annotations

import json
from pathlib import Path

from distributed.base import settings
from distributed.base.settings_check import leaves, schema

HEAD = """# Configuration

Settings lie under `distributed:` in dask's configuration: files in `~/.config/dask/*.yaml`, environment variables such
as `DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL=60s` (two underscores go one level down), or
`dask.config.set({"distributed.scheduler.worker-ttl": "60s"})`. A setting is read when it is used, so `dask.config.set`
counts for what is made afterwards. A server or client whose settings do not make sense is not made: a `ValueError`
names the setting and its value. Beside the tree: `scheduler-address`, `client-name`, `temporary-directory`, and
`distributed.logging` or `logging` (`{logger: level}`, or a dict for `logging.config`).

This page is made by `docs/configuration.py` from `distributed.yaml` and `distributed-schema.yaml`.
"""
TABLE = "| setting | default | type | does |\n|---|---|---|---|\n"


def page() -> str:
    """The whole page."""
    defaults = dict(leaves(settings.load_defaults()["distributed"]))
    used, unused = [], []
    for name, entry in schema().items():
        kind = entry["type"].replace("choice:", "").replace("?", " or null").replace(",", ", ")
        row = f"| {name} | `{_short(defaults[name])}` | {kind} | {entry['does']}"
        if "unused" in entry:
            unused.append(f"{row} | {entry['unused']} |")
        else:
            used.append(f"{row} |")
    lines = [HEAD, "## Settings with an effect", TABLE + "\n".join(used), ""]
    lines += ["## Accepted, without effect here", TABLE.replace("does |", "does elsewhere | why not here |")]
    lines[-1] = lines[-1].replace("|---|---|---|---|", "|---|---|---|---|---|") + "\n".join(unused)
    return "\n".join(lines) + "\n"


def _short(value: object) -> str:
    text = json.dumps(value).replace("|", "\\|")
    return text if len(text) <= 40 else text[:37] + "..."


if __name__ == "__main__":
    Path(__file__).with_name("CONFIGURATION.md").write_text(page())
