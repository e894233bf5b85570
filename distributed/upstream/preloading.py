"""``distributed.preloading``: start-up code, for servers and command lines of other packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from distributed.base.preloading import Preload, is_webaddress, make_preloads

__all__ = ["Preload", "PreloadManager", "is_webaddress", "process_preloads", "validate_preload_argv"]


class PreloadManager(Sequence[Preload]):
    """All start-up code of one service: started in order, and taken down in the opposite one."""

    def __init__(self, preloads: Sequence[Preload]) -> None:
        self._preloads = list(preloads)

    def __getitem__(self, index: Any) -> Any:
        return self._preloads[index]

    def __len__(self) -> int:
        return len(self._preloads)

    async def start(self) -> None:
        """Call each ``dask_setup``."""
        for preload in self._preloads:
            await preload.start()

    async def teardown(self) -> None:
        """Call each ``dask_teardown``."""
        for preload in reversed(self._preloads):
            await preload.teardown()


def process_preloads(
    dask_server: Any,
    preload: str | Sequence[str],
    preload_argv: Sequence[str] | Sequence[Sequence[str]] = (),
    *,
    file_dir: str | None = None,
) -> PreloadManager:
    """Load start-up code for a service; ``file_dir`` is accepted, files are loaded where they are."""
    return PreloadManager(make_preloads(dask_server, preload, preload_argv))


def validate_preload_argv(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> Sequence[str]:
    """A callback of click: what is left of the command line is an error, unless ``--preload`` was given."""
    if not value or ctx.params.get("preload"):
        return value
    first = value[0]
    if first.startswith("-"):
        raise click.NoSuchOption(first, ctx=ctx)
    raise click.UsageError(f"Got unexpected extra argument ({first})", ctx=ctx)
