"""Draws ``docs/states.md`` from the tables of transitions of both cores: ``python -m docs.states`` (or ``make docs``).

``--check`` only says whether the file is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from distributed.scheduler.state_machine import transitions as scheduler
from distributed.worker.state_machine import transitions as worker
from distributed.worker.state_machine.task import ALL_STATES

Transitions = Mapping[tuple[str, str], tuple[str, str, str]]

PAGE = Path(__file__).with_name("states.md")
HEAD = """\
# States

What a task's state may do, in each of the two cores. Drawn by `make docs` from the tables that the tests hold every
step against (`TRANSITIONS` and `IMPOSSIBLE` in `distributed/*/state_machine/transitions/__init__.py`): a step that is
not here does not happen, and each one here is shown by a playbook in `tests/playbooks/`. Do not edit this page.
"""
TITLES = {
    ("scheduler", "work"): "When all goes well",
    ("scheduler", "trouble"): "When something happens",
    ("worker", "compute"): "A task that is computed here",
    ("worker", "fetch"): "An input that is fetched from a peer",
    ("worker", "turn"): "Orders that are taken back, values that go",
    ("worker", "again"): "Events that cross what was going on",
}
TOO_MANY = 24
"""A diagram with more arrows says nothing; the table does."""


def page() -> str:
    """The whole text."""
    lines = [HEAD, *core("scheduler", scheduler.STATES, scheduler.TRANSITIONS, scheduler.IMPOSSIBLE)]
    lines += core("worker", ALL_STATES, worker.TRANSITIONS, worker.IMPOSSIBLE)
    return "\n".join(lines)


def core(
    name: str, states: Iterable[str], transitions: Transitions, impossible: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """One core: its diagrams and tables."""
    yield f"## A task in the {name}\n"
    for diagram in dict.fromkeys([group for group, _, _ in transitions.values()]):
        chosen = {pair: told for pair, told in transitions.items() if told[0] == diagram}
        yield f"### {TITLES[name, diagram]}\n"
        if len(chosen) <= TOO_MANY:
            yield from mermaid(chosen)
        yield "| from | to | when | where |\n|---|---|---|---|"
        for (start, finish), (_, when, where) in chosen.items():
            yield f"| {start} | {finish} | {when} | {', '.join([f'`{module}`' for module in where.split(', ')])} |"
        yield ""
    yield "### What cannot happen\n\n<details><summary>Every other pair of states, with the reason</summary>\n"
    yield "| from | to | because |\n|---|---|---|"
    for start in states:
        by_reason: dict[str, list[str]] = {}
        for finish, reason in impossible.get(start, {}).items():
            by_reason.setdefault(reason, []).append(finish)
        for reason, finishes in by_reason.items():
            yield f"| {start} | {', '.join(finishes)} | {reason} |"
    yield "\n</details>\n"


def mermaid(transitions: Transitions) -> Iterator[str]:
    """A diagram that GitHub draws. Arrows between the same two states, and texts, are kept short."""
    yield "```mermaid\nstateDiagram-v2"
    for state in dict.fromkeys([state for pair in transitions for state in pair]):
        if "-" in state:
            yield f'    state "{state}" as {_name(state)}'
    for (start, finish), (_, when, _) in transitions.items():
        if finish == "forgotten":
            yield f"    {_name(start)} --> [*] : {_short(when)}"
        else:
            yield f"    {_name(start)} --> {_name(finish)} : {_short(when)}"
    yield "```\n"


def _name(state: str) -> str:
    return state.replace("-", "_")


def _short(text: str) -> str:
    # ``;`` and ``:`` end a statement in this language.
    return text.split(";")[0].split(":")[0].strip()


def main() -> int:
    """Write the page, or compare it."""
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
