from __future__ import annotations

import functools
import operator
import os

import pytest

from distributed.client.tokens import CallTokens, function_name, unique_token


def token(args: tuple, kwargs: dict | None = None, simple: bool = True, function: bytes = b"f") -> str:
    return CallTokens(function, kwargs or {}, simple).token(args, simple)


def test_equal_calls_have_equal_tokens():
    assert token((1, "a", [None, (2.5, b"x")])) == token((1, "a", [None, (2.5, b"x")]))
    assert token((), {"a": 1, "b": 2}) == token((), {"b": 2, "a": 1})
    text = "".join(["in", "terned"])
    assert token((text, "interned")) == token(("interned", "interned"))


def test_different_calls_have_different_tokens():
    calls = [(1,), (1.0,), (True,), ("1",), (b"1",), ([1],), ((1,),), ({1},), (None,), (1, 1), (-0.0,), (0.0,)]
    assert len({token(call) for call in calls}) == len(calls)
    assert token((1,)) != token((1,), function=b"g")
    assert token((1,)) != token((1,), {"x": 1})


def test_deep_nesting_falls_back_to_dask():
    deep: list = []
    for _ in range(3000):
        deep = [deep]
    try:
        token((deep,))
    except RecursionError:
        pass


def test_names():
    class Thing:
        def method(self) -> None: ...

        def __call__(self) -> None: ...

    assert function_name(operator.add) == "add"
    assert function_name(lambda: None) == "lambda"
    assert function_name(functools.partial(operator.add, 1)) == "add"
    assert function_name(Thing().method) == "method"
    assert function_name(Thing()) == "Thing"


def test_unique_tokens_differ():
    assert len({unique_token() for _ in range(1000)}) == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_makes_unique_tokens_of_its_own():
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writing, unique_token().encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        theirs = pipe.read()
    os.waitpid(pid, 0)
    assert theirs
    assert theirs[:20] != unique_token()[:20]
