"""What the stages of both cores have in common: a beat is played, time passes, and what has changed is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.playbooks.notation import BadPlaybook, Line, line_of

Steps = dict[str, list[str]]


class Stage:
    """One core and what came out of it. ``collected`` came out by itself, ``asked`` answers questions of the book."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.now = 0.0
        self.asked: list[str] = []
        self.collected: list[str] = []
        self.deadline: float | None = None

    def play(self, lines: list[str]) -> list[str]:
        """One beat: the events; what came out and what has changed."""
        self.forget_steps()
        self.collected, self.asked = [], []
        before = dict(self.views())
        for text in lines:
            line = line_of(text)
            try:
                self.perform(line)
            except (KeyError, IndexError, ValueError) as error:
                raise BadPlaybook(f"{text!r}: {type(error).__name__}: {error}") from error
            line.check_used()
        self.flush()
        return [*self.asked, *self.collected, *self.changes(before)] or ["nothing"]

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.state.next_deadline()) is not None and due <= end:
            self.now = max(due, self.now)
            self.state.handle_deadline(self.now)
            self.state.validate()
            self.collect()
            if self.state.next_deadline() == due:
                raise BadPlaybook(f"the deadline {due} comes for ever")
        self.now = end

    def changes(self, before: dict[str, str]) -> list[str]:
        lines, steps = self.steps()
        after = dict(self.views())
        for name in dict.fromkeys([*before, *after, *steps]):
            way = " > ".join(steps.get(name, []))
            view = after.get(name)
            if way or view != before.get(name):
                if name.startswith("task"):
                    way = way or self.state.tasks[name[5:]].state
                elif name not in after:
                    way = "gone"
                lines.append(f"{name}: {'; '.join([part for part in (way, view) if part])}")
        deadline = self.state.next_deadline()
        if deadline != self.deadline:
            self.deadline = deadline
            lines.append("wakes up: " + ("never" if deadline is None else f"in {deadline - self.now:.4g} s"))
        return lines

    # What each core has its own way of

    def perform(self, line: Line) -> None:
        """One event."""
        raise NotImplementedError

    def flush(self) -> None:
        """After the events of a beat."""
        raise NotImplementedError

    def collect(self) -> None:
        """Take what came out."""
        raise NotImplementedError

    def forget_steps(self) -> None:
        """Before a beat."""
        raise NotImplementedError

    def steps(self) -> tuple[list[str], Steps]:
        """Notes, and the states that each task went through, since then."""
        raise NotImplementedError

    def views(self) -> Iterator[tuple[str, str]]:
        """Every task and worker as text."""
        raise NotImplementedError
