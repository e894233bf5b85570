"""How programs written for dask.distributed call things: the table ``signatures.yaml``. Each parameter is taken under
its name, in its place, and has its default."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
TABLE = yaml.safe_load((HERE / "signatures.yaml").read_text())
ANY = object()
CASES = [
    (module, name if method is None else f"{name}{'' if method == '()' else '.' + method}", parameters)
    for module, names in TABLE.items()
    for name, entry in names.items()
    for method, parameters in (entry.items() if isinstance(entry, dict) else [(None, entry)])
]


def parameters_of(text: str) -> inspect.Signature:
    """The signature that ``text`` describes; the name ``nd`` stands for any default."""
    found: dict[str, Any] = {"nd": ANY}
    tree = ast.parse(f"def f({text}): pass")
    exec(compile(tree, "<table>", "exec"), found)
    return inspect.signature(found["f"])


def target(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def own_signature(module: str, path: str) -> inspect.Signature:
    found = target(module, path)
    signature = inspect.signature(found)
    parameters = list(signature.parameters.values())
    if "." in path and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    return signature.replace(parameters=parameters)


@pytest.mark.parametrize(("module", "path", "text"), CASES, ids=[f"{m}.{p}" for m, p, _ in CASES])
def test_signature(module: str, path: str, text: str) -> None:
    expected, own = parameters_of(text), own_signature(module, path)
    kinds = {p.kind: p for p in own.parameters.values()}
    has_keywords = inspect.Parameter.VAR_KEYWORD in kinds
    by_place = [p.name for p in own.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    place = 0
    for parameter in expected.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            assert parameter.kind in kinds, f"{path} takes no further arguments"
        elif parameter.kind is parameter.VAR_KEYWORD:
            assert has_keywords, f"{path} takes no further keywords"
        else:
            mine = own.parameters.get(parameter.name)
            assert mine is not None, f"{path} knows no parameter {parameter.name!r}: {own}"
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                assert by_place[place : place + 1] == [parameter.name], f"{path}: the order is {by_place}"
                place += 1
            if parameter.default is ANY:
                assert mine.default is not mine.empty, f"{path}: {parameter.name} needs a default"
            elif parameter.default is not parameter.empty:
                assert mine.default == parameter.default, f"{path}: {parameter.name}={mine.default!r}"
    needless = [
        p.name
        for p in own.parameters.values()
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in expected.parameters
    ]
    assert not needless, f"{path} demands {needless}, which nobody gives"
