from __future__ import annotations

import socket

import psutil
import pytest

from distributed.comm import addressing as a


def test_parse_and_unparse():
    assert a.parse_address("tcp://127.0.0.1:80") == ("tcp", "127.0.0.1:80")
    assert a.parse_address("127.0.0.1:80") == ("tcp", "127.0.0.1:80")
    assert a.parse_address("inproc://1.2.3.4/5/6") == ("inproc", "1.2.3.4/5/6")
    assert a.unparse_address("tcp", "h:1") == "tcp://h:1"
    with pytest.raises(ValueError, match="names no scheme"):
        a.parse_address("127.0.0.1:80", strict=True)
    with pytest.raises(TypeError, match="str"):
        a.parse_address(80)
    assert a.normalize_address("h:80") == "tcp://h:80"


@pytest.mark.parametrize(
    "text, default, expected",
    [
        ("127.0.0.1:80", None, ("127.0.0.1", 80)),
        (":8786", None, ("", 8786)),
        ("host", 8786, ("host", 8786)),
        ("[::1]:80", None, ("::1", 80)),
        ("[::1]", 9, ("::1", 9)),
        ("", 8786, ("", 8786)),
        (("h", "12"), None, ("h", 12)),
        ("tcp://h:12", None, ("h", 12)),
    ],
)
def test_host_port(text, default, expected):
    assert a.parse_host_port(text, default) == expected


@pytest.mark.parametrize(
    "text, words",
    [
        ("host", "names no port"),
        ("", "names no port"),
        ("::1", "brackets"),
        ("[::1", "bracket"),
        ("[::1]x80", "after"),
        ("h:xy", "must be a number"),
        ("h:70000", "65535"),
        ("h:-1", "65535"),
    ],
)
def test_bad_host_port(text, words):
    with pytest.raises(ValueError, match=words):
        a.parse_host_port(text)


def test_unparse_host_port():
    assert a.unparse_host_port("h", 1) == "h:1"
    assert a.unparse_host_port("::1", 1) == "[::1]:1"
    assert a.unparse_host_port("::1") == "[::1]"
    assert a.unparse_host_port("h") == "h"


def test_address_parts():
    assert a.get_address_host("tcp://1.2.3.4:5") == "1.2.3.4"
    assert a.get_address_host_port("tcp://[::1]:5") == ("::1", 5)
    assert a.get_address_host("inproc://1.2.3.4/5/6") == "1.2.3.4"
    with pytest.raises(ValueError, match="neither host nor port"):
        a.get_address_host_port("inproc://1.2.3.4/5/6")
    assert a.resolve_address("tcp://localhost:8786") == "tcp://127.0.0.1:8786"
    assert a.resolve_address("tcp://:8786") == "tcp://127.0.0.1:8786"
    assert a.resolve_address("inproc://x/1/2") == "inproc://x/1/2"
    assert a.get_local_address_for("tcp://127.0.0.1:80") == "tcp://127.0.0.1"
    assert a.get_local_address_for("tcp://[::1]:80") == "tcp://[::1]"


def test_uri_from_host_port():
    assert a.uri_from_host_port(None, None, 8786) == "tcp://:8786"
    assert a.uri_from_host_port("127.0.0.1", "80", 8786) == "tcp://127.0.0.1:80"
    assert a.uri_from_host_port("tcp://127.0.0.1:0", None, 8786) == "tcp://127.0.0.1:0"
    assert a.uri_from_host_port("[::1]", None, 8786) == "tcp://[::1]:8786"
    assert a.uri_from_host_port("h", 0, 8786) == "tcp://h:0"
    with pytest.raises(ValueError, match="two different ports"):
        a.uri_from_host_port("tcp://:80", 81, 0)


def test_user_arguments():
    f = a.address_from_user_args
    assert f() == ""
    assert f(host="1.2.3.4", port=8786) == "tcp://1.2.3.4:8786"
    assert f(host="tcp://1.2.3.4:9") == "tcp://1.2.3.4:9"
    assert f(port=0) == "tcp://:0"
    assert f(protocol="tcp") == "tcp://:0"
    assert f(protocol="tcp://", port=5) == "tcp://:5"
    assert f(protocol="inproc") == f(protocol="inproc://") == "inproc://"
    assert f(host="::1", port=5) == "tcp://[::1]:5"
    assert f(host="h", default_port=7) == "tcp://h:7"
    with pytest.raises(ValueError, match="not both"):
        f(host="h", interface="lo")
    with pytest.raises(ValueError, match="protocol given twice"):
        f(host="tcp://h", protocol="ws")
    with pytest.raises(ValueError, match="65535"):
        f(port=65536)


def test_interfaces():
    loopback = next(n for n, infos in psutil.net_if_addrs().items() if any(i.address == "127.0.0.1" for i in infos))
    assert a.get_ip_interface(loopback) == "127.0.0.1"
    assert a.address_from_user_args(interface=loopback) == "tcp://127.0.0.1:0"
    assert a.addresses_from_user_args(interface=loopback, port=[1, 2]) == ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]
    with pytest.raises(ValueError, match=f"nope.*{loopback}"):
        a.get_ip_interface("nope")
    socket.inet_pton(socket.AF_INET, a.get_ip())
    assert a.ensure_ip("localhost") == "127.0.0.1"
    assert a.ensure_ip("::1") == "::1"
    assert a.ensure_ip("[::1]") == "::1"
    assert a.ensure_ip("") == "127.0.0.1"
    with pytest.raises(OSError):
        a.ensure_ip("no-such-host.invalid")
    assert a.is_own_ip("127.0.0.1") and a.is_own_ip("127.3.2.1") and not a.is_own_ip("203.0.113.7")


def test_ways_to_write_an_address():
    assert a.as_host_port("h") == "tcp://h:8786"
    assert a.as_host_port("tcp://h:5") == "tcp://h:5"
    assert a.as_host_port(("h", 5)) == "tcp://h:5"
    assert a.as_host_port("h", 5) == "tcp://h:5"
    assert a.as_host_port("inproc://a/1/2") == "inproc://a/1/2"
    with pytest.raises(TypeError, match="NoneType"):
        a.as_host_port(None)


def test_several_addresses_from_user_args():
    f = a.addresses_from_user_args
    assert f(host="1.2.3.4", port=5) == ["tcp://1.2.3.4:5"]
    assert f(host=["1.2.3.4", "5.6.7.8"], port=5) == ["tcp://1.2.3.4:5", "tcp://5.6.7.8:5"]
    assert f(host="1.2.3.4", protocol=["tcp", "tls"], port=(1, 2)) == ["tcp://1.2.3.4:1", "tls://1.2.3.4:2"]
    with pytest.raises(ValueError, match="different lengths"):
        f(host=["1.2.3.4"], port=[1, 2])
