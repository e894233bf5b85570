"""Each ``.txt`` file below is a test: a playbook of the core that its folder names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.playbooks.notation import Playbook, read
from tests.playbooks.scheduler_stage import SchedulerStage
from tests.playbooks.worker_stage import WorkerStage

STAGES = {"scheduler": SchedulerStage, "worker": WorkerStage}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="playbooks: write what comes out, for review as a diff")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".txt" and file_path.parent.name in STAGES:
        return PlaybookFile.from_parent(parent, path=file_path)
    return None


class PlaybookFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield PlaybookTest.from_parent(self, name=self.path.stem)


class PlaybookTest(pytest.Item):
    def runtest(self) -> None:
        text = self.path.read_text()
        played = play(self.path, read(text))
        if played == text:
            return
        if self.config.getoption("--rewrite", default=False):
            self.path.write_text(played)
            return
        diff = difflib.unified_diff(text.splitlines(), played.splitlines(), "written", "played", lineterm="", n=8)
        raise PlaybookDiffers("\n".join(diff))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        if isinstance(excinfo.value, PlaybookDiffers):
            return f"{self.path}\n{excinfo.value}\nIf the new text is right: pytest tests/playbooks --rewrite"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name


class PlaybookDiffers(Exception):
    """What came out is not what is written."""


def play(path: Path, book: Playbook) -> str:
    """The file as it should be."""
    stage = STAGES[path.parent.name](book.cast)
    outputs = []
    for beat in book.beats:
        try:
            outputs.append(stage.play([line for line in beat.events if not line.startswith("#")]))
        except Exception as error:
            error.add_note(f"in {path.name}, line {beat.number}: {beat.events}")
            raise
    return book.text(outputs)
