"""How our commands look: help in named groups, older options that still work with a note, shell completion. Pure click.

Completion is click's: ``eval "$(_DASK_SCHEDULER_COMPLETE=bash_source dask-scheduler)"``.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from distributed.base import settings
from distributed.base.formatting import parse_timedelta
from distributed.comm.secrets import SECRET_VARIABLES
from distributed.comm.security import Security
from distributed.worker.memory import parse_memory_limit

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
Decorator = Callable[[Any], Any]


class Option(click.Option):
    """An option that help shows in a group.

    Parameters
    ----------
    group
        Heading of the group.
    """

    def __init__(self, *args: Any, group: str = "Other", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class OlderOption(click.Option):
    """An option of earlier versions: hidden from the help, accepted, answered by a note on stderr.

    Parameters
    ----------
    note
        What to say when it is given.
    becomes
        The parameter that takes its value, unless that was given too; None: it has no effect.
    convert
        Its value in terms of that parameter.
    """

    def __init__(
        self,
        *args: Any,
        note: str,
        becomes: str | None = None,
        convert: Callable[[Any], Any] = lambda value: value,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **{**kwargs, "hidden": True, "default": None})
        self.note, self.becomes, self.convert_value = note, becomes, convert


def group(name: str) -> Callable[..., Decorator]:
    """``click.option`` for options under the heading ``name``."""

    def option(*names: str, **attributes: Any) -> Decorator:
        return click.option(*names, cls=Option, group=name, **attributes)

    return option


def older(*names: str, note: str, becomes: str | None = None, **attributes: Any) -> Decorator:
    """An option of earlier versions; see :class:`OlderOption`."""
    return click.option(*names, cls=OlderOption, note=note, becomes=becomes, **attributes)


class Command(click.Command):
    """A command with groups of options. Unknown options go to preload code, where there is an argument for them."""

    preload_argument: ClassVar[str] = "preload_argv"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        takes_more = any(param.name == self.preload_argument for param in self.params)
        self.ignore_unknown_options = takes_more
        self.context_settings = {**CONTEXT_SETTINGS, "ignore_unknown_options": takes_more, **self.context_settings}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _errors_in_one_line():
            rest = super().parse_args(ctx, args)
        for param in self.params:
            if isinstance(param, OlderOption):
                assert param.name is not None
                value = ctx.params.pop(param.name, None)
                if value not in (None, ()) and not ctx.resilient_parsing:
                    _take_older(ctx, param, value)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        with _errors_in_one_line():
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(param, "group", "Other"), []).append(record)
        other = groups.pop("Other", None)
        for name, records in [*groups.items(), *([("Other", other)] if other else [])]:
            with formatter.section(name):
                formatter.write_dl(records)

    def no_such_option(self, name: str) -> click.NoSuchOption:
        """The error for an option that there is none of, with those that look like it."""
        shown = [param for param in self.params if isinstance(param, click.Option) and not param.hidden]
        known = [opt for param in shown for opt in (*param.opts, *param.secondary_opts) if opt.startswith("--")]
        return click.NoSuchOption(name, possibilities=difflib.get_close_matches(name.partition("=")[0], known))


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        text = error.format_message()
        if not isinstance(error, click.NoSuchOption):  # which names those that look like it
            error = click.UsageError(text)
        error.ctx = None  # without it click shows no usage
        raise error from None


def _take_older(ctx: click.Context, param: OlderOption, value: Any) -> None:
    click.echo(f"Note: {param.note}", err=True)
    if param.becomes is None:
        return
    given = ctx.get_parameter_source(param.becomes) is ParameterSource.COMMANDLINE
    if not given:
        ctx.params[param.becomes] = param.convert_value(value)


class DurationType(click.ParamType):  # type: ignore[type-arg]
    """Seconds, or text such as ``"5 minutes"``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_timedelta(value)
        except (ValueError, TypeError, KeyError):
            self.fail(f"not a duration such as 60 or '5 minutes': {value!r}", param, ctx)


class MemoryType(click.ParamType):  # type: ignore[type-arg]
    """What ``memory_limit`` takes."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            parse_memory_limit(value, 1)
        except (ValueError, TypeError):
            self.fail(f"not a memory limit such as 5GB, 0.5 (of the machine), auto or 0: {value!r}", param, ctx)
        return value


class InterfaceType(click.ParamType):  # type: ignore[type-arg]
    """A network interface; the shell completes those of this machine. Whether there is one is found out later."""

    name = "interface"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for _, name in socket.if_nameindex() if name.startswith(incomplete)]


_tls = group("Encryption")


def tls_options(role: str) -> Decorator:
    """``--tls-ca-file``, ``--tls-cert``, ``--tls-key`` for a server of that role."""

    def add(function: Any) -> Any:
        for decorate in (
            _tls("--tls-key", type=FILE, metavar="FILE", help=f"Key of the {role}'s certificate (PEM)"),
            _tls("--tls-cert", type=FILE, metavar="FILE", help=f"Certificate of the {role} (PEM)"),
            _tls("--tls-ca-file", type=FILE, metavar="FILE", help="Certificates of the authorities to trust (PEM)"),
        ):
            function = decorate(function)
        return function

    return add


_auth = group("Authentication")


def auth_options(function: Any) -> Any:
    """``--no-auth`` and ``--insecure-listen``; see :func:`open_up`."""
    for decorate in (
        _auth("--insecure-listen", is_flag=True, help="With --no-auth: let other machines in, too"),
        _auth("--no-auth", is_flag=True, help="Whoever reaches this program may use it; say so at every program"),
    ):
        function = decorate(function)
    return function


def open_up(given: dict[str, Any]) -> None:
    """Do what these options say, for this process and those that it starts; they leave ``given``."""
    no_auth, insecure = given.pop("no_auth"), given.pop("insecure_listen")
    if insecure and not no_auth and settings.get("distributed.auth.required", True):
        raise click.UsageError("--insecure-listen has a meaning only with --no-auth")
    if no_auth and any(os.environ.get(name) for name in SECRET_VARIABLES):
        raise click.UsageError("--no-auth, and a token in the environment: unset one of them")
    if no_auth:
        settings.register().set({"distributed.auth.required": False})
    if insecure:
        settings.register().set({"distributed.auth.insecure-listen": True})


FILE = click.Path(exists=True, dir_okay=False, readable=True)
ANY_PATH = click.Path()


def security_of(given: dict[str, Any], role: str) -> Security | None:
    """The ``Security`` that the TLS options ask for; they leave ``given``."""
    ca, cert, key = (given.pop(name) for name in ("tls_ca_file", "tls_cert", "tls_key"))
    if not (ca or cert or key):
        return None
    if bool(cert) != bool(key):
        raise click.UsageError("--tls-cert and --tls-key go together")
    return Security(**{"tls_ca_file": ca, f"tls_{role}_cert": cert, f"tls_{role}_key": key})
