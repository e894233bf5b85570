"""Small conversions that other packages take from ``distributed.utils``."""

from __future__ import annotations

import ast
import contextlib
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Container, Iterator, Mapping
from functools import total_ordering
from typing import IO, Any

from dask.context import thread_state
from dask.utils import key_split

from distributed.base import settings
from distributed.base.lazy import loaded
from distributed.http.addressing import parse_dashboard_address


def is_kernel() -> bool:
    """Whether this is an IPython kernel."""
    get_ipython = loaded("IPython", "get_ipython")
    shell = get_ipython() if get_ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def nbytes(frame: Any) -> int:
    """Bytes of a buffer."""
    return frame.nbytes if hasattr(frame, "nbytes") else len(frame)


def ensure_memoryview(obj: Any) -> memoryview:
    """A flat view of the bytes of a buffer; copied only when they are not contiguous.

    >>> ensure_memoryview(b"ab").tolist()
    [97, 98]
    """
    view = memoryview(obj)
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def key_split_group(x: object) -> str:
    """What groups a task: the name of a tuple key, else its prefix.

    >>> key_split_group(("x-2", 1)), key_split_group("x-2")
    ('x-2', 'x')
    """
    if isinstance(x, bytes):
        x = x.decode(errors="replace")
    if isinstance(x, str) and x.startswith("("):
        with contextlib.suppress(ValueError, SyntaxError):
            x = ast.literal_eval(x)
    if isinstance(x, tuple):
        return str(x[0]) if x else ""
    return str(key_split(x))


def clean_dashboard_address(addrs: Any, default_listen_ip: str = "") -> list[dict[str, Any]]:
    """``[{"address": host, "port": port}]`` of one dashboard address, or of each of a list.

    >>> clean_dashboard_address(":8787")
    [{'address': '', 'port': 8787}]
    """
    found = []
    for each in addrs if isinstance(addrs, list) else [addrs]:
        host, port = parse_dashboard_address(each)
        told = not isinstance(each, int) and ":" in str(each).strip(":")
        found.append({"address": host if told else default_listen_ip, "port": port})
    return found


def recursive_to_dict(obj: Any, *, exclude: Container[str] = (), members: bool = False) -> Any:
    """``obj`` as plain lists, dicts and atoms, for a report.

    Parameters
    ----------
    exclude
        Names of attributes to leave out.
    members
        Whether objects become dicts of their attributes; else their text.
    """
    return _as_plain(obj, exclude, members, ())


def _as_plain(obj: Any, exclude: Container[str], members: bool, above: tuple[int, ...]) -> Any:
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if id(obj) in above or len(above) > 50:
        return repr(obj)
    inside = (*above, id(obj))
    if isinstance(obj, Mapping):
        pairs = obj.items()
        return {
            k if isinstance(k, (str, int, float)) else str(k): _as_plain(v, exclude, members, inside) for k, v in pairs
        }
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [_as_plain(item, exclude, members, inside) for item in obj]
    to_dict = getattr(obj, "_to_dict", None)
    if to_dict is not None and not isinstance(obj, type):
        return _as_plain(to_dict(exclude=exclude), exclude, members, inside)
    if members and hasattr(obj, "__dict__") and not isinstance(obj, type):
        shown = {k: v for k, v in vars(obj).items() if not k.startswith("_") and k not in exclude}
        return _as_plain(shown, exclude, members, inside)
    return repr(obj)


def is_valid_xml(text: str) -> bool:
    """True for well-formed XML. Raises ``ParseError`` otherwise."""
    import xml.etree.ElementTree

    return xml.etree.ElementTree.fromstring(text) is not None


def url_escape(url: Any, *args: Any, **kwargs: Any) -> str:
    """Percent-encode ``url``, also its slashes and colons."""
    from tornado.escape import url_escape as escape

    return str(escape(str(url), *args, **kwargs))


def json_load_robust(fn: str, load: Callable[[IO[str]], Any] = json.load, timeout: float | None = None) -> Any:
    """The content of a JSON file that another process may just be writing: tried again until it is whole.

    Raises ``TimeoutError`` that names the file when it is not there, or not whole, after ``timeout`` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        with contextlib.suppress(FileNotFoundError, ValueError), open(fn) as file:
            return load(file)
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"no whole JSON file {fn!r} within {timeout} s")
        time.sleep(0.01)


@contextlib.contextmanager
def tmp_text(filename: str, text: str) -> Iterator[str]:
    """The path of a file of that name, with that content, in a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, filename)
        with open(path, "w") as file:
            file.write(text)
        yield path


@contextlib.contextmanager
def set_thread_state(**kwargs: Any) -> Iterator[None]:
    """Attributes of ``thread_state`` have these values inside the block."""
    absent = object()
    before = {name: getattr(thread_state, name, absent) for name in kwargs}
    for name, value in kwargs.items():
        setattr(thread_state, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is absent:
                delattr(thread_state, name)
            else:
                setattr(thread_state, name, value)


def get_mp_context() -> Any:
    """The context of ``multiprocessing`` that the setting ``distributed.worker.multiprocessing-method`` names."""
    return multiprocessing.get_context(settings.get("distributed.worker.multiprocessing-method"))


def get_fileno_limit() -> int:
    """How many files this process may have open."""
    try:
        import resource
    except ImportError:
        return 512
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@total_ordering
class TupleComparable:
    """Compares tuples with things that are none, which are taken as tuples of one."""

    __slots__ = ("obj",)

    def __init__(self, obj: Any) -> None:
        self.obj = obj if isinstance(obj, tuple) else (obj,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TupleComparable) and self.obj == other.obj

    def __lt__(self, other: TupleComparable) -> bool:
        return bool(self.obj < other.obj)

    def __hash__(self) -> int:
        return hash(self.obj)


class EmptyContext:
    """Does nothing on the way in and on the way out, in plain code and in coroutines."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        return None


empty_context = EmptyContext()
