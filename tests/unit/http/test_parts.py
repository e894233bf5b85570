"""Addresses, prefixes and what JSON can say."""

from __future__ import annotations

import json

import pytest

from distributed.http.addressing import allowed_hosts, parse_dashboard_address
from distributed.http.handlers import as_json, page, table
from distributed.http.server import normalize_prefix


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (":8787", ("127.0.0.1", 8787)),
        ("", ("127.0.0.1", 8787)),
        (":0", ("127.0.0.1", 0)),
        (0, ("127.0.0.1", 0)),
        (8888, ("127.0.0.1", 8888)),
        ("8888", ("127.0.0.1", 8888)),
        ("0.0.0.0:8787", ("0.0.0.0", 8787)),
        ("myhost", ("myhost", 8787)),
        ("myhost:1", ("myhost", 1)),
        ("http://myhost:1/", ("myhost", 1)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 8787)),
        (("", 3), ("127.0.0.1", 3)),
    ],
)
def test_parse(address, expected):
    assert parse_dashboard_address(address) == expected


@pytest.mark.parametrize(
    ("address", "error"),
    [(":x", ValueError), (":99999", ValueError), (True, TypeError), (1.5, TypeError), (-1, ValueError)],
)
def test_parse_refuses(address, error):
    with pytest.raises(error):
        parse_dashboard_address(address)


def test_allowed_hosts():
    assert "localhost" in allowed_hosts("127.0.0.1")
    assert "127.0.0.5" in allowed_hosts("127.0.0.5")
    assert allowed_hosts("0.0.0.0") is None
    assert allowed_hosts("10.0.0.1") is None


def test_normalize_prefix():
    assert [normalize_prefix(p) for p in (None, "", "/", "foo", "/foo/", "/a/b")] == [
        "",
        "",
        "",
        "/foo",
        "/foo",
        "/a/b",
    ]


def test_as_json():
    value = {("x", 1): float("inf"), 2: {3}, "d": [None, True, b"raw", (1.5,)]}
    found = as_json(value)
    assert json.loads(json.dumps(found)) == {"('x', 1)": None, "2": [3], "d": [None, True, "b'raw'", [1.5]]}
    loop: list = []
    loop.append(loop)
    assert "..." in json.dumps(as_json(loop))


def test_escaping():
    assert "<b>" not in table(["<b>"], [["<b>"]])
    assert "<b>" not in page("<b>", "", "<b>/")
