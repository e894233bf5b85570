"""SSH servers of OpenSSH on loopback addresses, each a "host", with throwaway keys, for whoever runs the test."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import distributed

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
SOURCE = str(Path(distributed.__file__).parents[1])
START_S = 20

_CONFIG = """
Port {port}
ListenAddress {host}
HostKey {folder}/hostkey
PidFile none
AuthorizedKeysFile {folder}/id.pub
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
"""


class SSHHosts:
    """Running servers, and what is needed to log in to them."""

    def __init__(self, folder: Path, hosts: list[str]) -> None:
        self.folder, self.hosts = folder, hosts
        self.port = _free_port(hosts)
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("id", "hostkey"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "throwaway", "-f", str(folder / name)]
            subprocess.run(make, check=True, timeout=20)
        public = " ".join((folder / "hostkey.pub").read_text().split()[:2])
        (folder / "home" / ".ssh").mkdir(parents=True, mode=0o700)
        known = folder / "home" / ".ssh" / "known_hosts"
        known.write_text("".join(f"[{host}]:{self.port} {public}\n" for host in hosts))
        # A login has its own environment: this checkout and a private store must come from somewhere.
        self.python = folder / "python"
        self.python.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(SOURCE)}\n"
            f"export DASK_DISTRIBUTED__AUTH_STORE={shlex.quote(str(folder / 'store'))}\n"
            f'exec {shlex.quote(sys.executable)} "$@"\n'
        )
        self.python.chmod(0o755)
        for host in hosts:
            self.start(host)

    @property
    def connect_options(self) -> dict[str, Any]:
        """Keywords of ``asyncssh.connect``."""
        known_hosts = str(self.folder / "home" / ".ssh" / "known_hosts")
        return {
            "port": self.port,
            "username": getpass.getuser(),
            "client_keys": [str(self.folder / "id")],
            "known_hosts": known_hosts,
            "config": None,
            "agent_path": None,
        }

    def start(self, host: str) -> None:
        config = self.folder / f"sshd-{host}.conf"
        config.write_text(_CONFIG.format(host=host, port=self.port, folder=self.folder))
        log = (self.folder / f"sshd-{host}.log").open("ab")
        assert SSHD is not None
        self._servers[host] = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)], stderr=log, stdin=subprocess.DEVNULL
        )
        log.close()
        deadline = time.monotonic() + START_S
        while True:
            with socket.socket() as sock:
                if sock.connect_ex((host, self.port)) == 0:
                    return
            if self._servers[host].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd: {(self.folder / f'sshd-{host}.log').read_text()}")
            time.sleep(0.02)

    def processes(self, host: str) -> list[psutil.Process]:
        """All that has been started through a host's server, and the server."""
        server = psutil.Process(self._servers[host].pid)
        return [*server.children(recursive=True), server]

    def kill(self, host: str) -> None:
        """The host loses its power."""
        for process in self.processes(host):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self._servers.pop(host).wait()

    def close(self) -> None:
        for host in list(self._servers):
            self.kill(host)


def _free_port(hosts: list[str]) -> int:
    while True:
        with socket.socket() as sock:
            sock.bind((hosts[0], 0))
            port = int(sock.getsockname()[1])
        try:
            for host in hosts:
                with socket.socket() as sock:
                    sock.bind((host, port))
        except OSError:
            continue
        return port


def require_sshd() -> None:
    """Skip where there is no SSH server."""
    pytest.importorskip("asyncssh", reason="needs the package asyncssh")
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs sshd and ssh-keygen (apt-get install openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd drops its rights; nothing else makes it
