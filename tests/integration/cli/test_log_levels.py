"""What programs log, by default and as the configuration says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import logging, sys
from distributed.base import log_setup, settings
if sys.argv[1] == "later":
    log_setup.show()
settings.adopt(settings.snapshot())
log_setup.show()
logger = logging.getLogger("distributed.scheduler")
for level in ("info", "warning"):
    getattr(logger, level)("a line of " + level)
"""


@pytest.mark.parametrize("order", ["later", "first"])
@pytest.mark.parametrize(("level", "shown"), [(None, ["info", "warning"]), ("warning", ["warning"]), ("error", [])])
def test_the_configuration_wins_over_what_programs_show(level: str | None, shown: list[str], order: str) -> None:
    """Whichever comes first; and no line comes twice."""
    environment = {**os.environ, **({} if level is None else {"DASK_LOGGING__DISTRIBUTED": level})}
    command = [sys.executable, "-c", SCRIPT, order]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert [line.rpartition(" ")[2] for line in done.stderr.splitlines()] == shown
