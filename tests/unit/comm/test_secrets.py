from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import signal
import stat
import subprocess
import sys

import pytest

from distributed.comm import secrets
from distributed.comm.secrets import Secret, UnsafeFileError


def test_a_secret_does_not_show_itself():
    s = Secret.new()
    text = s.reveal()
    assert text[5:] not in repr(s) and text[5:] not in str(s) and text[5:] not in f"{[s]}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(s)
    with pytest.raises(TypeError):
        copy.deepcopy(s)


def test_text_forms():
    s = Secret.new()
    assert Secret.from_text(s.reveal()) == s
    assert Secret.from_text(f" {s.reveal()}\n") == s
    assert Secret.from_text("any phrase") == Secret.from_text("any phrase") != Secret.from_text("another")
    assert len(s.id) == 8
    with pytest.raises(ValueError, match="empty"):
        Secret.from_text(" ")
    with pytest.raises(ValueError):
        Secret(b"short")


def test_mac_depends_on_where_parts_end():
    s = Secret.new()
    assert s.mac("x", b"ab", b"c") != s.mac("x", b"a", b"bc") != s.mac("y", b"a", b"bc")


@pytest.mark.parametrize("role", ["worker", "nanny"])
def test_keys_of_a_role(role):
    s = Secret.new()
    own = s.limited_to(role)
    assert own.id == s.id and own != s and own.role == role and "worker" not in repr(s)
    again = Secret.from_text(own.reveal())
    assert again == own and again.limited_to(role) == own
    assert s._bytes.hex() not in own.reveal() and own.reveal()[20:] not in repr(own)
    for name in ("worker>scheduler", "task>scheduler", "client>worker", "worker>worker", "observe"):
        assert own.key(name) == s.key(name)
    for name in ("client>scheduler", "scheduler>scheduler", "client>client"):
        assert not own.knows(name)
        with pytest.raises(LookupError, match=f"keys of a {role} do not reach"):
            own.key(name)
    assert own.knows("nanny>scheduler") is own.knows("scheduler>nanny") is (role == "nanny")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(own)
    with pytest.raises(ValueError, match="not the keys"):
        Secret.from_text(own.reveal()[:-2])


def test_a_nanny_has_the_keys_for_its_worker():
    s = Secret.new()
    assert s.limited_to("nanny").limited_to("worker") == s.limited_to("worker")
    with pytest.raises(LookupError):
        s.limited_to("worker").limited_to("nanny")


def test_environment_goes_first(monkeypatch, tmp_path):
    other = Secret.new()
    secrets.register("tcp://1.2.3.4:5", other)
    try:
        assert secrets.lookup("1.2.3.4:5") == other
        monkeypatch.setenv(secrets.ENV_TOKEN, "a long enough token")
        assert secrets.lookup("1.2.3.4:5") == Secret.from_text("a long enough token")
        # A listener that names another secret that we have gets that one.
        assert secrets.lookup_by_id(other.id, "tcp://1.2.3.4:5") == other
    finally:
        secrets.forget("tcp://1.2.3.4:5")
    monkeypatch.delenv(secrets.ENV_TOKEN)
    assert secrets.lookup("1.2.3.4:5") is None


def test_token_file(monkeypatch, tmp_path):
    path = tmp_path / "token"
    s = Secret.new()
    path.write_text(s.reveal() + "\n")
    monkeypatch.setenv(secrets.ENV_TOKEN_FILE, str(path))
    os.chmod(path, 0o644)
    with pytest.raises(UnsafeFileError, match="chmod go-rwx") as caught:
        secrets.from_environment()
    assert s.reveal() not in str(caught.value)
    os.chmod(path, 0o600)
    assert secrets.from_environment() == s
    monkeypatch.setenv(secrets.ENV_TOKEN_FILE, str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        secrets.from_environment()


def test_store(monkeypatch, tmp_path):
    monkeypatch.setenv(secrets.ENV_STORE, str(tmp_path / "a" / "clusters"))
    s = Secret.new()
    assert secrets.lookup("tcp://203.0.113.7:8786") is None
    path = secrets.save(s, ["tcp://203.0.113.7:8786"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert secrets.lookup("tcp://203.0.113.7:8786") == s
    # Another host's listener gets it only at an address that is stored; this machine's get it by name of the secret.
    assert secrets.lookup("tcp://203.0.113.8:8786") is None
    assert secrets.lookup_by_id(s.id, "tcp://203.0.113.8:8786") is None
    assert secrets.lookup_by_id(s.id, "tcp://127.0.0.1:999") == s
    newer = Secret.new()
    secrets.save(newer, ["tcp://203.0.113.7:8786"])
    assert secrets.lookup("tcp://203.0.113.7:8786") == newer
    secrets.remove(newer)
    assert secrets.lookup("tcp://203.0.113.7:8786") == s
    secrets.remove(s)
    secrets.remove(s)
    assert secrets.lookup("tcp://203.0.113.7:8786") is None
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_process_left_in_the_store_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setenv(secrets.ENV_STORE, str(tmp_path / "clusters"))
    program = (
        "import os, signal; from distributed.comm import secrets;"
        "secrets.save(secrets.Secret.new(), ['tcp://127.0.0.1:8786']); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    (left,) = (tmp_path / "clusters").iterdir()
    assert secrets.lookup("tcp://127.0.0.1:8786") is None
    mine = Secret.new()
    secrets.save(mine, ["tcp://203.0.113.7:8786"])
    assert not left.exists()
    assert secrets.lookup("tcp://127.0.0.1:8786") == mine  # the same port under another name of this machine
    other_machine = json.loads((tmp_path / "clusters" / f"{mine.id.hex()}.json").read_text())
    other_machine.update(machine="another", pid=1, started="0")
    secrets.write_private_text(tmp_path / "clusters" / "other.json", json.dumps(other_machine))
    secrets.remove(mine)
    assert secrets.lookup("tcp://127.0.0.1:8786") == mine  # who knows whether it still runs


def test_unsafe_store(monkeypatch, tmp_path):
    store = tmp_path / "clusters"
    monkeypatch.setenv(secrets.ENV_STORE, str(store))
    path = secrets.save(Secret.new(), ["tcp://h:1"])
    os.chmod(path, 0o640)
    with pytest.raises(UnsafeFileError, match="chmod"):
        secrets.lookup("tcp://127.0.0.1:1")
    os.chmod(path, 0o600)
    os.chmod(store, 0o755)
    with pytest.raises(UnsafeFileError, match="chmod"):
        secrets.lookup("tcp://127.0.0.1:1")
    os.chmod(store, 0o700)
    target = store / "elsewhere"
    target.write_text(path.read_text())
    os.chmod(target, 0o600)
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        secrets.lookup("tcp://127.0.0.1:1")


def test_store_that_is_a_link(monkeypatch, tmp_path, caplog):
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(real)
    monkeypatch.setenv(secrets.ENV_STORE, str(link))
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        secrets.lookup("tcp://127.0.0.1:1")
    with caplog.at_level(logging.WARNING, "distributed.comm"):
        s = Secret.new()
        assert secrets.save(s, ["tcp://h:1"]) is None
    assert "Cannot share" in caplog.text and s.reveal() not in caplog.text


def test_foreign_and_broken_files_of_the_store_are_skipped(monkeypatch, tmp_path):
    monkeypatch.setenv(secrets.ENV_STORE, str(tmp_path / "c"))
    s = Secret.new()
    path = secrets.save(s, ["tcp://127.0.0.1:1"])
    for name, text in (("x.json", "{"), ("y.json", "[]"), ("z.txt", "")):
        secrets.write_private_text(path.parent / name, text)
    assert secrets.lookup("tcp://127.0.0.1:1") == s


def test_scheduler_file(tmp_path):
    path = tmp_path / "scheduler.json"
    s = Secret.new()
    secrets.write_scheduler_file(path, {"address": "tcp://198.51.100.2:8786", "id": "x"}, s)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document, found = secrets.read_scheduler_file(path)
    assert found == s and document == {"address": "tcp://198.51.100.2:8786", "id": "x"}
    assert secrets.lookup("tcp://198.51.100.2:8786") == s
    secrets.forget("tcp://198.51.100.2:8786")
    secrets.write_scheduler_file(path, {"address": "tcp://h:1"}, None)
    assert secrets.read_scheduler_file(path) == ({"address": "tcp://h:1"}, None)


def test_bad_scheduler_files(tmp_path):
    path = tmp_path / "scheduler.json"
    s = Secret.new()
    secrets.write_scheduler_file(path, {"address": "tcp://h:1"}, s)
    os.chmod(path, 0o644)
    with pytest.raises(UnsafeFileError, match="chmod go-rwx") as caught:
        secrets.read_scheduler_file(path)
    assert s.reveal() not in str(caught.value)
    os.chmod(path, 0o600)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        secrets.read_scheduler_file(link)
    for text in ("{", "[]", "{}", '{"address": 5}', json.dumps({"secret": "x"})):
        path.write_text(text)
        with pytest.raises(ValueError, match="not a complete scheduler file"):
            secrets.read_scheduler_file(path)
    with pytest.raises(FileNotFoundError):
        secrets.read_scheduler_file(tmp_path / "absent")
    # Written by hand, nothing secret in it: anybody may read it.
    path.write_text('{"address": "tcp://h:1"}')
    os.chmod(path, 0o644)
    assert secrets.read_scheduler_file(path)[0]["address"] == "tcp://h:1"
