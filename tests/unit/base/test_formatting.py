"""The same answers as ``dask.utils``, which users know."""

import datetime

import dask.utils
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed.base.formatting import format_bytes, format_time, parse_bytes, parse_timedelta


@given(st.integers(0, 2**63))
def test_format_bytes_as_dask(n):
    assert format_bytes(n) == dask.utils.format_bytes(n)


@given(st.floats(1e-7, 1e8))
def test_format_time_as_dask(seconds):
    assert format_time(seconds) == dask.utils.format_time(seconds)


@pytest.mark.parametrize(
    "text", ["100", "100 MB", "100M", "5kB", "5.4 kB", "1kiB", "1e6", "1e6 kB", "MB", "64MiB", "1 GiB", "123.", "5 b"]
)
def test_parse_bytes_as_dask(text):
    assert parse_bytes(text) == dask.utils.parse_bytes(text)


@pytest.mark.parametrize(
    "text",
    ["3s", "0.5 seconds", "300ms", "1h", "5 minutes", "2 days", "1 week", "1us", "10 ns", "1e3 ms", "5m", 3, 0.25, "7"],
)
def test_parse_timedelta_as_dask(text):
    assert parse_timedelta(text) == pytest.approx(dask.utils.parse_timedelta(text))


def test_parse_timedelta_other_forms():
    assert parse_timedelta(None) is None
    assert parse_timedelta(datetime.timedelta(minutes=2)) == 120
    assert parse_timedelta(5, "ms") == 0.005
    assert parse_timedelta("inf") == float("inf")
    assert parse_timedelta(float("inf")) == float("inf")
    with pytest.raises(TypeError, match="needs a unit"):
        parse_timedelta("5", default=False)


@pytest.mark.parametrize("text", ["", "five", "5 parsecs", "1x", "--3s", "5 s s"])
def test_bad_durations_say_so(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_timedelta(text)


@pytest.mark.parametrize("text", ["", "five GB of it", "5 XB", "1..2 MB", "inf"])
def test_bad_sizes_say_so(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_bytes(text)
