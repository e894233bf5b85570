"""What a task is called: the key, and the few rules about keys.

A *key* is a ``str``, ``bytes``, ``int`` or ``float``, or a tuple of keys. It keeps its type from end to end. Inside the
house and on the wire a key is a :data:`Key`, which has every form but ``bytes`` (the codec can tell only one kind of
string from the rest): a bytes key travels as the tuple ``("\\0bytes", text)``. Users' keys are turned into ours by
:func:`as_key` and back by :func:`user_key`, at the edges only (client, plugins, public views). Pure.
"""

from __future__ import annotations

from typing import Any, TypeAlias

# The codec decodes a nested union in C, and wants its depth spelled out. dask's own keys are one level deep.
_Key0: TypeAlias = str | int | float
_Key1: TypeAlias = str | int | float | tuple[_Key0, ...]
_Key2: TypeAlias = str | int | float | tuple[_Key1, ...]
_Key3: TypeAlias = str | int | float | tuple[_Key2, ...]
Key: TypeAlias = str | int | float | tuple[_Key3, ...]

UserKey: TypeAlias = str | bytes | int | float | tuple[Any, ...]

MAX_KEY_DEPTH = 4
_BYTES_MARK = "\0bytes"


def as_key(key: Any, depth: int = 0) -> Key:
    """The house's form of a user's key.

    Raises ``TypeError`` that names the offending part when ``key`` cannot be one.
    """
    kind = type(key)
    if kind is str or kind is float:
        return key  # type: ignore[no-any-return]
    if kind is int:
        if -(1 << 63) <= key < (1 << 64):
            return key  # type: ignore[no-any-return]
        raise TypeError(f"a key that is an int must fit into 64 bits, not {key!r}")
    if kind is tuple and depth < MAX_KEY_DEPTH:  # what most tuples are: flat, and good as they are
        for part in key:
            part_kind = type(part)
            if part_kind is not str and (part_kind is not int or not -(1 << 63) <= part < (1 << 64)):
                break
        else:
            return key  # type: ignore[no-any-return]
    if kind is tuple or isinstance(key, tuple):
        if depth >= MAX_KEY_DEPTH:
            raise TypeError(f"keys nest at most {MAX_KEY_DEPTH} tuples deep")
        return tuple([as_key(part, depth + 1) for part in key])  # type: ignore[misc]
    if isinstance(key, bytes):
        return (_BYTES_MARK, key.decode("latin-1"))
    if isinstance(key, str):
        return str(key)
    if isinstance(key, float):
        return float(key)
    index = getattr(kind, "__index__", None)
    if index is not None and not isinstance(key, bool):
        return int(index(key))
    raise TypeError(f"a key must be str, bytes, int, float or a tuple of these, not {key!r} ({kind.__name__})")


def user_key(key: Key) -> UserKey:
    """The key as the user wrote it; the inverse of :func:`as_key`."""
    if type(key) is not tuple:
        return key
    if len(key) == 2 and key[0] == _BYTES_MARK:
        return str(key[1]).encode("latin-1")
    return tuple([user_key(part) for part in key])


def key_prefix(key: Key) -> str:
    """The name that tasks of one kind share: ``inc`` of ``inc-5d41402abc``, ``x`` of ``("x-<token>", 0)``.

    A trailing token (hexadecimal of 8 digits or more, or a number) is dropped; durations are averaged over this name.
    """
    group = key_group(key)
    head, dash, tail = group.rpartition("-")
    while dash and (_is_token(tail)):
        group = head
        head, dash, tail = group.rpartition("-")
    return group


def key_group(key: Key) -> str:
    """The name that tasks of one collection share: ``x-<token>`` of ``("x-<token>", 0)``; a plain key is its own group
    unless it ends in a token or a counter, which is dropped."""
    if type(key) is tuple:
        return key_group(key[0]) if key and type(key[0]) is tuple else str(key[0]) if key else "()"
    if type(key) is not str:
        return str(key)
    head, dash, tail = key.rpartition("-")
    if dash and _is_token(tail) and head:
        return head
    return key


_HEX = frozenset("0123456789abcdef")


def _is_token(text: str) -> bool:
    return text.isdigit() or (len(text) >= 8 and _HEX.issuperset(text))
