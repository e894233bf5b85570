"""What a call is named: ``inc-<token>``, the same name for the same function with the same arguments.

Arguments made of builtin scalars and containers are named by a hash of their marshalled form (about a microsecond;
version 2
of that format has neither back references nor interning, so equal values give equal bytes). Everything else goes to
dask's
tokenizer, which is loaded at that moment. Pure but for the random part of impure names.
"""

from __future__ import annotations

import itertools
import marshal
import os
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any

SCALARS: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_DIGEST_BYTES = 16
_NAME_LENGTH = 50

_counter = itertools.count()
_unique_part = os.urandom(10).hex()


def function_name(func: Callable[..., Any]) -> str:
    """A short name for keys and pictures: that of the function inside partials and methods; ``lambda`` for lambdas."""
    while isinstance(func, partial):
        func = func.func
    name = getattr(func, "__name__", None)
    if type(name) is not str:
        name = type(func).__name__
    if name == "<lambda>":
        return "lambda"
    return name if len(name) <= _NAME_LENGTH else name[:_NAME_LENGTH]


def simple_token(parts: Any) -> str:
    """The token of something made of exact builtin scalars, lists, tuples, sets and dicts.

    Raises ``ValueError`` when it nests too deep to be marshalled.
    """
    return blake2b(marshal.dumps(parts, 2), digest_size=_DIGEST_BYTES).hexdigest()


def bytes_token(*parts: bytes) -> str:
    """The token of a few byte strings."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def general_token(*parts: Any) -> str:
    """dask's token of anything; a random one for what has no stable content."""
    from dask.tokenize import tokenize

    return str(tokenize(*parts))


class CallTokens:
    """Tokens of calls of one function with the same keyword arguments and varying positional ones.

    ``simple_kwargs``: the keyword arguments are builtins all through.
    """

    __slots__ = ("_function_token", "_hasher", "_kwargs")

    def __init__(self, function_token: bytes, kwargs: Mapping[str, Any], simple_kwargs: bool) -> None:
        self._function_token = function_token
        self._kwargs = kwargs
        self._hasher = None
        if simple_kwargs:
            try:
                head = marshal.dumps((function_token, sorted(kwargs.items()) if kwargs else None), 2)
                self._hasher = blake2b(head, digest_size=_DIGEST_BYTES)
            except ValueError:
                pass

    def token(self, args: Any, simple: bool) -> str:
        """The token of the call with ``args``, a tuple. ``simple``: they are builtins all through."""
        if simple and self._hasher is not None:
            try:
                data = marshal.dumps(args, 2)
            except ValueError:
                pass
            else:
                hasher = self._hasher.copy()
                hasher.update(data)
                return hasher.hexdigest()
        return general_token(self._function_token, args, self._kwargs)


def unique_token() -> str:
    """A name part that no other call in any process gets: a random part per process, and a counter."""
    return f"{_unique_part}{next(_counter):012x}"


def _renew() -> None:
    """In a forked child: a random part of its own."""
    global _unique_part
    _unique_part = os.urandom(10).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
