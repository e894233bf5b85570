"""Who holds a port that is taken, in words. Shell: asks the operating system."""

from __future__ import annotations

import importlib
import os


def describe_holder(port: int) -> str:
    """E.g. ``"it is held by pid 1234 (python3)"``; says so when the system does not tell.

    Names the program, never its arguments, which may hold what is not for logs.
    """
    psutil = importlib.import_module("psutil")  # errors only: not for everyone
    try:
        found = [
            c for c in psutil.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        ]
    except (psutil.Error, OSError):
        return "who holds it cannot be told without more rights"
    if not found:
        return "it is not listened at: a connection that was closed lately may hold it, or a program that only bound it"
    pids = sorted({c.pid for c in found if c.pid})
    if not pids:
        return "it is held by another user's process"
    if os.getpid() in pids:
        return f"it is held by this very process (pid {os.getpid()})"
    return "it is held by " + ", ".join(f"pid {pid} ({_program(psutil, pid)})" for pid in pids)


def _program(psutil: object, pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())  # type: ignore[attr-defined]
    except Exception:
        return "gone meanwhile"
