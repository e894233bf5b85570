"""Which options each task of a graph has: from keywords, from ``dask.annotate`` around the call, and from layers. Pure.

An annotation may be a callable that is asked for each key. dask compares the annotations of layers that it fuses, which
callables do not bear; so they are wrapped for that time, and only layers of equal annotations are fused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distributed.base import defaults
from distributed.client.options import make_options
from distributed.messages.client_to_scheduler import TaskOptions


def flatten(keys: Any) -> Iterator[Any]:
    """The keys in nested lists."""
    if isinstance(keys, list):
        for part in keys:
            yield from flatten(part)
    else:
        yield keys


def has_callables(value: Any) -> bool:
    """Whether an annotation is to be asked for each key, or has a member that is."""
    if isinstance(value, Mapping):
        return any(map(has_callables, value.values()))
    return any(map(has_callables, value)) if isinstance(value, (list, tuple)) else callable(value)


def asked(value: Any, key: Any) -> Any:
    """The annotation for ``key``."""
    if callable(value):
        return value(key)
    if isinstance(value, Mapping):
        return {name: asked(member, key) for name, member in value.items()}
    if isinstance(value, (list, tuple)) and has_callables(value):
        found: list[Any] = []
        for member in value:
            answer = asked(member, key)
            found += answer if callable(member) and isinstance(answer, (list, tuple, set)) else [answer]
        return found
    return value


class PerKey:
    """A callable annotation that dask may compare with itself, and take for a list of workers."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self.call = call

    def __call__(self, key: Any) -> Any:
        return self.call(key)

    def __eq__(self, other: object) -> bool:
        return type(other) is PerKey and other.call is self.call

    def __hash__(self) -> int:
        return hash(self.call)

    def __gt__(self, other: object) -> bool:
        return False

    def __iter__(self) -> Iterator[PerKey]:
        yield self


def _wrapped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _wrapped(member) for name, member in value.items()}
    return PerKey(value) if callable(value) and type(value) is not PerKey else value


@contextmanager
def prepare_annotations(expr: Any) -> Iterator[Any]:
    """Inside the block, the expression can be materialised whatever the annotations of its layers are."""
    operands = getattr(expr, "operands", ())
    graphs = [getattr(part, "hlg", None) for part in operands] if type(expr).__name__ == "_HLGExprSequence" else []
    with_calls = [
        name
        for graph in graphs
        if graph is not None
        for name, layer in graph.layers.items()
        if layer.annotations and any(map(has_callables, layer.annotations.values()))
    ]
    annotations = defaults.load("dask.base:_annotations")
    token = annotations.set(None)  # what is around the call holds for all tasks, and need not go into new layers
    try:
        if not with_calls:
            yield expr
            return
        config = defaults.load("dask:config")
        parts = [_with_wrapped(part) for part in operands]
        with config.set({"optimization.annotations.fuse": False}):
            yield type(expr)(*parts)
    finally:
        annotations.reset(token)


def _with_wrapped(part: Any) -> Any:
    """One operand with its layers' callables wrapped; the layers themselves are not touched."""
    graph = getattr(part, "hlg", None)
    if graph is None:
        return part
    layers = {}
    for name, layer in graph.layers.items():
        if layer.annotations and any(map(has_callables, layer.annotations.values())):
            layer = copy.copy(layer)
            layer.annotations = {key: _wrapped(value) for key, value in layer.annotations.items()}
        layers[name] = layer
    new = type(graph)(layers, graph.dependencies)
    expression = defaults.load("dask._expr:HLGExpr")
    return expression(new, part.low_level_optimizer, part.__dask_keys__(), part.postcompute)


class GraphOptions:
    """Which options each key of a graph has: keywords of the call, layer annotations, annotations around the call."""

    def __init__(
        self,
        keywords: Mapping[str, Any],
        around: Mapping[str, Any],
        by_key: Mapping[str, Mapping[Any, Any]],
        actors: Any,
    ) -> None:
        self.keywords = {name: value for name, value in keywords.items() if value not in (None, False, 0)}
        self.around = {name: value for name, value in around.items() if not has_callables(value)}
        self.around_per_key = {name: value for name, value in around.items() if has_callables(value)}
        self.by_key = by_key
        self.actors = set(flatten(list(actors))) if isinstance(actors, (list, tuple, set)) else bool(actors)
        self.options: list[TaskOptions] = []
        self._known: dict[str, int] = {}
        self._uniform: int | None = None
        if not by_key and not self.around_per_key and not isinstance(self.actors, set):
            self._uniform = self._index({**self.around, **self.keywords})

    def place(self, key: Any) -> int:
        """Index into :attr:`options`."""
        if self._uniform is not None:
            return self._uniform
        merged = dict(self.around)
        for name, call in self.around_per_key.items():
            merged[name] = asked(call, key)
        for name, values in self.by_key.items():
            if key in values:
                merged[name] = asked(values[key], key)
        merged.update(self.keywords)
        if isinstance(self.actors, set) and key in self.actors:
            merged["actor"] = True
        return self._index(merged)

    def _index(self, merged: dict[str, Any]) -> int:
        text = repr(sorted(merged.items(), key=lambda item: item[0]))
        known = self._known.get(text)
        if known is not None:
            return known
        actor = merged.pop("actor", self.actors if isinstance(self.actors, bool) else False)
        options = make_options(annotations=merged, actor=actor)
        if options is None:
            index = 0
            if not self.options:
                # Index 0 stays the default, also when others follow.
                self._known[text] = 0
                return 0
        else:
            if not self.options:
                self.options.append(TaskOptions())
            self.options.append(options)
            index = len(self.options) - 1
        self._known[text] = index
        return index
