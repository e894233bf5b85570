"""``python -m ecosystem``: run the checks one after the other, print a table, fail if one fails.

Runs in an environment that holds the packages (``make ecosystem`` makes it).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ecosystem.checks import OLDER, PROGRAMS, SHIPPED, Check

_PROGRAMS = Path(__file__).parent / "programs"
_TEST_S = 120


@dataclass
class Outcome:
    """How one check went."""

    check: Check
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    took_s: float = 0.0
    text: str = ""

    def line(self) -> str:
        """Its line of the table."""
        version = importlib.metadata.version(self.check.package)
        counts = f"{self.passed:7}{self.failed:7}{self.skipped:8}{len(self.check.left_out):9}{self.took_s:7.0f} s"
        return f"{self.check.name:26}{self.check.package + ' ' + version:30}{counts}"


def run(check: Check) -> Outcome:
    """One check, in a process of its own that ends at its limit."""
    print(f"--- {check.name}", flush=True)
    for test, reason in check.left_out:
        print(f"    without {test}: {reason}")
    for name, value in check.environment:
        print(f"    with {name}={value}")
    begin = time.monotonic()
    outcome = _run_program(check) if check.program else _run_tests(check)
    outcome.took_s = time.monotonic() - begin
    if outcome.failed:
        print(outcome.text[-8000:])
    print("    failed" if outcome.failed else "    ok", flush=True)
    return outcome


def _run_program(check: Check) -> Outcome:
    done, text = _call([sys.executable, str(_PROGRAMS / f"{check.program}.py")], check.limit_s, dict(check.environment))
    good = done == 0 and any(line.startswith(f"{check.program} ok") for line in text.splitlines())
    return Outcome(check, passed=int(good), failed=int(not good), text=text)


def _run_tests(check: Check) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        options = ["-q", "-p", "no:cacheprovider", "--timeout", str(_TEST_S), "--junit-xml", str(report)]
        if check.plugin:
            options += ["-p", "distributed.utils_test"]
        if check.left_out:
            options += ["-k", " and ".join(f"not {test}" for test, _ in check.left_out)]
        code, text = _call(
            [sys.executable, "-m", "pytest", *options, "--pyargs", *check.tests], check.limit_s, dict(check.environment)
        )
        outcome = Outcome(check, text=text)
        if report.exists():
            for suite in ElementTree.parse(report).iter("testsuite"):
                count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
                outcome.failed += count["failures"] + count["errors"]
                outcome.skipped += count["skipped"]
                outcome.passed += count["tests"] - count["failures"] - count["errors"] - count["skipped"]
        if code != 0 or not outcome.passed:
            outcome.failed = max(1, outcome.failed)
        return outcome


def _call(command: list[str], limit_s: float, more: dict[str, str]) -> tuple[int, str]:
    """Exit code and output; a command that takes longer than its limit is ended, with all it has started."""
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    slots = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", errors="replace") as output:
        # ipyparallel keeps the pid of its cluster there: of one that was ended it must not be found the next time.
        own = {"IPYTHONDIR": f"{folder}/ipython"}
        program = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **allowed, **slots, **own, **more, "PATH": path},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        late = ""
        try:
            code = program.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, 9)
            code = program.wait()
            late = f"\nended after its limit of {limit_s:g} s"
        output.seek(0)
        return code, output.read() + late


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m ecosystem", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these checks, by the names of the table")
    parser.add_argument(
        "--older", action="store_true", help="the checks of the environment with older releases of what packages need"
    )
    arguments = parser.parse_args()
    checks = OLDER if arguments.older else (*PROGRAMS, *SHIPPED)
    unknown = set(arguments.names) - {check.name for check in checks}
    if unknown:
        parser.error(f"no check {', '.join(sorted(unknown))}; there are {', '.join(check.name for check in checks)}")
    outcomes = [run(check) for check in checks if not arguments.names or check.name in arguments.names]
    print(f"\n{'check':26}{'package':30} passed failed skipped left out   time")
    for outcome in outcomes:
        print(outcome.line())
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"{sum(outcome.passed for outcome in outcomes)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
