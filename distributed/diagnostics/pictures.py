"""Pictures of a cluster's work as HTML pages that need nothing else: task streams, flame graphs, memory over time.

Pure but for :meth:`Picture.save`. Each drawing is one SVG; a title on each shape says what it is when pointed at.
"""

from __future__ import annotations

import hashlib
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed.base import profile_tree
from distributed.base.formatting import format_bytes, format_time
from distributed.base.keys import as_key, key_prefix

WIDTH = 1000
_ROW = 18
_COLOURS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#999933",
    "#882255",
    "#44aa99",
    "#ddaa77",
)
_ERRED = "#111111"


class Picture:
    """A drawing: shown by notebooks, written by :meth:`save`."""

    def __init__(self, title: str, svg: str) -> None:
        self.title = title
        self.svg = svg

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Write it as a page of its own."""
        Path(filename).write_text(page(self.title, self.svg), encoding="utf-8")

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Picture {self.title!r}, {len(self.svg)} characters of SVG>"


def page(title: str, *parts: str) -> str:
    """An HTML page that loads nothing."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>body{font:14px system-ui,sans-serif;margin:1.5em;color:#222}svg{font-size:11px}pre{background:#f4f4f4;"
        "padding:1em;overflow:auto}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left}</style>"
        f"</head><body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>"
    )


def colour(name: str) -> str:
    """Always the same one for a name."""
    return _COLOURS[hashlib.blake2b(name.encode(), digest_size=2).digest()[0] % len(_COLOURS)]


def _svg(height: float, shapes: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="100%">{"".join(shapes)}</svg>'
    )


def _box(x: float, y: float, width: float, fill: str, title: str, text: str = "") -> str:
    shape = (
        f'<rect x="{x:.2f}" y="{y:g}" width="{max(width, 0.3):.2f}" height="{_ROW - 2}" fill="{fill}">'
        f"<title>{html.escape(title)}</title></rect>"
    )
    if text and width > 6 * len(text):
        shape += (
            f'<text x="{x + 2:.2f}" y="{y + _ROW - 6:g}" fill="white" pointer-events="none">{html.escape(text)}</text>'
        )
    return shape


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}">{html.escape(text)}</text>'


def task_stream_picture(records: Sequence[Mapping[str, Any]]) -> Picture:
    """A row for each thread of each worker, a box for each task, in the colour of its prefix; black if it failed."""
    parts = [(record, part) for record in records for part in record["startstops"]]
    if not parts:
        return Picture("Task stream", _svg(30, [_label(0, 20, "No tasks have ended in this time.")]))
    begin = min(part["start"] for _, part in parts)
    span = max(max(part["stop"] for _, part in parts) - begin, 1e-9)
    rows = {place: i for i, place in enumerate(sorted({(str(r["worker"]), r["thread"]) for r, _ in parts}, key=str))}
    shapes = []
    for record, part in parts:
        prefix = key_prefix(as_key(record["key"]))
        took = part["stop"] - part["start"]
        erred = record.get("status") != "OK"
        title = f"{record['key']}\n{format_time(took)} on {record['worker']}" + ("\nfailed" if erred else "")
        x = (part["start"] - begin) / span * WIDTH
        y = rows[(str(record["worker"]), record["thread"])] * _ROW
        shapes.append(_box(x, y, took / span * WIDTH, _ERRED if erred else colour(prefix), title, prefix))
    height = len(rows) * _ROW
    shapes.append(_label(0, height + 14, f"{len(records)} tasks in {format_time(span)}, {len(rows)} threads"))
    return Picture("Task stream", _svg(height + 20, shapes))


def profile_picture(tree: profile_tree.Tree) -> Picture:
    """A flame graph: who called whom, from the top down, as wide as often seen."""
    boxes = profile_tree.rectangles(tree)
    if not boxes:
        return Picture("Profile", _svg(30, [_label(0, 20, "No task was seen running in this time.")]))
    shapes = [
        _box(
            box["left"] * WIDTH,
            box["depth"] * _ROW,
            box["width"] * WIDTH,
            colour(box["filename"]),
            f"{box['name']}\n{box['filename']}:{box['line_number']}\n{box['line']}\n"
            f"{box['count']} of {tree['count']} samples",
            box["name"],
        )
        for box in boxes
    ]
    height = (1 + max(box["depth"] for box in boxes)) * _ROW
    return Picture("Profile", _svg(height + 4, shapes))


def memory_picture(series: Mapping[str, Sequence[tuple[float, int]]], align: bool = False) -> Picture:
    """Bytes over time, a line for each label; ``align``: all begin at the same point."""
    lines = {label: points for label, points in series.items() if points}
    if not lines:
        return Picture("Memory", _svg(30, [_label(0, 20, "Nothing was sampled.")]))
    begins = {label: points[0][0] for label, points in lines.items()}
    begin = min(begins.values())
    shifted = {
        label: [(when - (begins[label] if align else begin), size) for when, size in points]
        for label, points in lines.items()
    }
    span = max(max(x for x, _ in points) for points in shifted.values()) or 1.0
    top = max(max(size for _, size in points) for points in shifted.values()) or 1
    height = 300
    shapes = []
    for i, (label, points) in enumerate(shifted.items()):
        path = " ".join(f"{x / span * WIDTH:.1f},{height - size / top * (height - 20):.1f}" for x, size in points)
        tint = _COLOURS[i % len(_COLOURS)]
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{tint}" stroke-width="2"/>')
        shapes.append(f'<text x="10" y="{16 + 14 * i}" fill="{tint}">{html.escape(label)}</text>')
    shapes.append(_label(0, height + 14, f"{format_time(span)}, up to {format_bytes(top)}"))
    return Picture("Memory", _svg(height + 20, shapes))
