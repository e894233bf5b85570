"""The same flights as a dask DataFrame: delays by carrier, month and weather, with joins, a shuffle and quantiles.

The frame is read from the files that ``flights.split`` writes; weather and planes come with the same package.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.flights import data_folder

COLUMNS = ["month", "day", "hour", "origin", "carrier", "tailnum", "distance", "dep_delay", "arr_delay"]
QUANTILES = (0.1, 0.5, 0.9)
WHEN = ["month", "day", "hour", "origin"]


def weather() -> Any:
    """One row for each hour and airport: wind and rain."""
    import pandas as pd

    frame = pd.read_csv(data_folder() / "weather.csv", usecols=[*WHEN, "wind_speed", "precip", "visib"])
    return frame.drop_duplicates(WHEN).astype({"month": float, "day": float, "hour": float})


def planes() -> Any:
    """When each plane was built."""
    import pandas as pd

    return pd.read_csv(data_folder() / "planes.csv", usecols=["tailnum", "year"]).rename(columns={"year": "built"})


def analyse(flights: Any, weather: Any, planes: Any) -> dict[str, Any]:
    """The answers, for dask frames (lazy) and pandas frames alike."""
    flights = flights.dropna(subset=["arr_delay"])
    in_weather = flights.merge(weather, on=WHEN)
    in_weather = in_weather.assign(rain=in_weather.precip > 0)
    with_planes = flights.merge(planes, on="tailnum")
    return {
        "carrier": flights.groupby("carrier").arr_delay.mean(),
        "month": flights.groupby("month").arr_delay.mean(),
        "rain": in_weather.groupby("rain").dep_delay.mean(),
        "built": with_planes.groupby("built").arr_delay.count(),
        "miles": flights.groupby("tailnum").distance.sum(),
    }


def run(paths: Sequence[str], show: Any = None) -> dict[str, Any]:
    """The whole job on the current cluster. ``show`` gets the futures, to draw progress."""
    import dask
    import dask.dataframe as dd

    flights = dd.read_csv(list(paths), usecols=COLUMNS, dtype={"tailnum": object}, assume_missing=True)
    flights = flights.persist()
    if show is not None:
        show(flights)
    answers = analyse(flights, dd.from_pandas(weather(), npartitions=4), dd.from_pandas(planes(), npartitions=2))
    by_plane = flights.dropna(subset=["tailnum"]).shuffle("tailnum", npartitions=8)  # each plane in one partition
    answers["planes"] = by_plane.map_partitions(_n_planes, meta=("n", "int64")).sum()
    answers["delays"] = flights.arr_delay.value_counts()
    (found,) = dask.compute(answers)
    counts = found.pop("delays").sort_index()
    # Exact, from the counts: quantiles of single partitions would have to be guessed together.
    found["quantiles"] = counts.index.repeat(counts).to_series().quantile(list(QUANTILES))
    done: dict[str, Any] = found
    return done


def _n_planes(part: Any) -> Any:
    import pandas as pd

    return pd.Series([part.tailnum.nunique()])


def run_plain(paths: Sequence[str]) -> dict[str, Any]:
    """The same with pandas alone."""
    import pandas as pd

    flights = pd.concat([pd.read_csv(path, usecols=COLUMNS) for path in paths])
    answers = analyse(flights, weather(), planes())
    answers["planes"] = flights.tailnum.nunique()
    answers["quantiles"] = flights.arr_delay.dropna().quantile(list(QUANTILES))
    return answers


def bars(series: Any, title: str) -> str:
    """A drawing of a series as bars, in SVG."""
    entries = list(series.sort_values(ascending=False).items())
    most = max(abs(value) for _, value in entries)
    rows = []
    for place, (name, value) in enumerate(entries):
        y, width = 30 + 20 * place, 300 * abs(value) / most
        colour = "#b5432e" if value > 0 else "#2e7d5b"
        rows.append(
            f'<text x="70" y="{y + 12}" text-anchor="end">{html.escape(str(name))}</text>'
            f'<rect x="80" y="{y}" width="{width:.0f}" height="14" fill="{colour}"/>'
            f'<text x="{90 + width:.0f}" y="{y + 12}">{value:.1f}</text>'
        )
    height = 40 + 20 * len(entries)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="460" height="{height}" font-family="sans-serif" '
        f'font-size="12"><text x="10" y="18" font-weight="bold">{html.escape(title)}</text>{"".join(rows)}</svg>'
    )


def write_report(answers: dict[str, Any], path: Path) -> Path:
    """An HTML page with pictures."""
    names = {1.0: "January", 2.0: "February", 3.0: "March", 4.0: "April", 5.0: "May", 6.0: "June", 7.0: "July"}
    names |= {8.0: "August", 9.0: "September", 10.0: "October", 11.0: "November", 12.0: "December"}
    pictures = [
        bars(answers["carrier"], "Mean arrival delay by carrier (minutes)"),
        bars(answers["month"].rename(index=names), "Mean arrival delay by month (minutes)"),
        bars(answers["rain"].rename(index={True: "rain", False: "dry"}), "Mean departure delay by weather (minutes)"),
    ]
    low, middle, high = answers["quantiles"]
    text = f"A tenth of the flights arrive {-low:.0f} minutes early or more, half of them by {middle:+.0f} minutes"
    text += f" against the plan, a tenth more than {high:.0f} minutes late."
    path.write_text(f"<!doctype html><meta charset=utf-8><title>Flights</title><p>{text}</p>{'<br>'.join(pictures)}")
    return path


def report(answers: dict[str, Any]) -> str:
    """The result as text."""
    rain, (low, middle, high) = answers["rain"], answers["quantiles"]
    carriers = answers["carrier"].sort_values()
    best, worst = carriers.index[0], carriers.index[-1]
    return (
        f"  carriers: {worst} is {carriers.iloc[-1]:.1f} min late on average, {best} {carriers.iloc[0]:.1f}\n"
        f"  departures: {rain[False]:.1f} min late when dry, {rain[True]:.1f} in the rain\n"
        f"  arrival delays at 10 %, 50 % and 90 %: {low:.0f}, {middle:.0f} and {high:.0f} min\n"
        f"  {answers['planes']:,} planes; the busiest flew {answers['miles'].max():,.0f} miles"
    )
