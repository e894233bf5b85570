"""``dask-spec`` (``dask spec``): servers of any class, described as JSON or YAML. Also the far end of ``SSHCluster``.

With ``--attached`` (for programs that start it) the description is one line of JSON on standard input: ``spec`` as
below or ``module`` and ``arguments`` of a program, ``scheduler`` (address), ``secret``, ``settings``. The answer is one
line on standard output, ``{"address": ...}``; the end of standard input is the order to end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from distributed._version import __version__
from distributed.base import defaults, log_setup, settings
from distributed.base.ending import leave, until_signal
from distributed.cli.command import FILE, Command
from distributed.cli.options import explain, fail
from distributed.comm import secrets
from distributed.comm.keys import Secret
from distributed.rpc.loop_runner import new_asyncio_loop

_END_S = 12.0
_OLDER_NAMES = {"dask.distributed.": "distributed."}


@click.command(name="spec", cls=Command)
@click.argument("args", nargs=-1)
@click.option("--spec", type=str, default="", help='JSON: {"cls": "package.Class", "opts": {...}}, or several by name')
@click.option("--spec-file", type=FILE, help="File with the same as JSON or YAML")
@click.option("--attached", is_flag=True, hidden=True)
@click.version_option(__version__, prog_name="dask-spec")
def main(args: tuple[str, ...], spec: str, spec_file: str | None, attached: bool) -> None:
    """Start servers from a description, such as workers: each is made with ARGS (the scheduler's address) and its opts,
    and all run until they are finished.

    Example: dask spec --spec '{"one": {"cls": "dask.distributed.Nanny", "opts": {"nthreads": 1}}}' tcp://10.0.0.1:8786
    """
    log_setup.show()
    if attached:
        _run_attached()
        return
    if bool(spec) == bool(spec_file):
        raise click.UsageError("give the description either as --spec or as --spec-file")
    described = read_spec(spec or Path(str(spec_file)).read_text(), "--spec" if spec else f"--spec-file {spec_file}")
    _run(described, args, None)


def read_spec(text: str, where: str) -> dict[str, Any]:
    """``{name: {"cls": ..., "opts": {...}}}`` from JSON or YAML; a usage error when it is something else."""
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = importlib.import_module("yaml").safe_load(text)
        except Exception as e:
            raise click.UsageError(f"{where} is neither JSON nor YAML: {e}") from None
    if isinstance(found, dict) and isinstance(found.get("cls"), str):
        found = {0: found}
    if not isinstance(found, dict) or not found:
        raise click.UsageError(f"{where} must describe servers as {{name: {{'cls': ..., 'opts': {{...}}}}}}")
    for name, one in found.items():
        if not isinstance(one, dict) or not isinstance(one.get("cls"), str):
            raise click.UsageError(f"{where}: {name!r} has no 'cls' (the class, as package.module.Class)")
        if not isinstance(one.get("opts") or {}, dict):
            raise click.UsageError(f"{where}: 'opts' of {name!r} must be a table of keywords")
    return found


def class_named(name: str) -> Any:
    """The class; a usage error when there is none."""
    for old, new in _OLDER_NAMES.items():
        if name.startswith(old):
            name = new + name[len(old) :]
    module, dot, attribute = name.rpartition(".")
    try:
        return defaults.load(name) if not dot else getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as e:
        fail(f"there is no class {name!r}: {e}", 2)


def _run(described: Mapping[Any, Any], args: Sequence[Any], secret: Secret | None, tell: bool = False) -> None:
    makers = []
    for name, one in described.items():
        cls, options = class_named(one["cls"]), dict(one.get("opts") or {})
        if name != 0 and not getattr(cls, "default_port", 0):
            options.setdefault("name", name)
        if secret is not None:
            options.setdefault("secret", secret)
        makers.append(functools.partial(cls, *args, **options))
    with asyncio.Runner(loop_factory=new_asyncio_loop) as runner:
        runner.run(_serve(makers, tell))


async def _serve(makers: Sequence[Any], tell: bool) -> None:
    servers: list[Any] = []

    async def life() -> None:
        servers.extend(make() for make in makers)
        await asyncio.gather(*[_begin(one) for one in servers])
        if tell:
            print(json.dumps({"address": servers[0].address}), flush=True)
        await asyncio.gather(*[one.finished() for one in servers])

    problem, signals = "", None
    try:
        signals = await until_signal(life, "servers")
    except Exception as e:
        problem = f"it did not start: {explain(e)}"
    await asyncio.gather(*[one.close() for one in servers], return_exceptions=True)
    if problem:
        fail(problem)
    if signals is not None:
        signals.finish()


async def _begin(server: Any) -> None:
    await server


# --- started by a program that stays --------------------------------------------------------------------------------


def _run_attached() -> None:
    line = sys.stdin.buffer.readline()
    try:
        request = json.loads(line)
        secret = Secret.from_text(request["secret"])
        scheduler = request.get("scheduler")
    except (ValueError, KeyError, TypeError):
        fail("--attached is for programs that start this one: no request came on standard input", 2)
    threading.Thread(target=_end_with_input, name="input-watch", daemon=True).start()
    if request.get("logs"):
        _keep_copy(*request["logs"])
    settings.adopt(request.get("settings") or {})
    args = [] if scheduler is None else [scheduler]
    if scheduler is not None:
        secrets.register(scheduler, secret)
    if "module" not in request:
        _run(request["spec"], args, secret, tell=True)
        return
    print(json.dumps({"address": None}), flush=True)
    with _scheduler_file(scheduler, secret) as path:
        sys.argv = [request["module"], "--scheduler-file", path, *request["arguments"]]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _end_with_input() -> None:
    """Whoever has started us is gone, or wants an end."""
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_S)
    leave(1)


def _keep_copy(directory: str, name: str) -> None:
    """What goes to standard error goes to a file, too."""
    try:
        os.makedirs(directory, exist_ok=True)
        file = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as e:
        fail(f"cannot keep a log in {directory}: {e.strerror}")
    original = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def copy() -> None:
        while data := os.read(reading, 1 << 16):
            for target in (file, original):
                with contextlib.suppress(OSError):
                    os.write(target, data)

    thread = threading.Thread(target=copy, name="log-copy", daemon=True)
    thread.start()

    def finish() -> None:
        os.dup2(original, 2)  # which closes the pipe
        thread.join(1)

    atexit.register(finish)


@contextlib.contextmanager
def _scheduler_file(address: str, secret: Secret) -> Iterator[str]:
    """A private one, for programs that only know how to read such."""
    with tempfile.TemporaryDirectory(prefix="dask-ssh-") as directory:
        path = os.path.join(directory, "scheduler.json")
        secrets.write_scheduler_file(path, {"address": address}, secret)
        yield path


if __name__ == "__main__":
    main(prog_name="dask-spec")
