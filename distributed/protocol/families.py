"""Serialisers of other packages: by type (``dask_serialize``, ``cuda_serialize``) and by name (families).

What is registered by type with ``dask_serialize`` is used for every instance that leaves the process, also deep inside
other objects: :func:`reduce_registered` hooks into the pickler (:mod:`distributed.protocol.pickle`), and costs nothing
as long as nobody registers anything. Our own serialisers, which exist for peers that may open no pickle, are looked up
by the same tables but leave the wire to pickle, which moves buffers as well. Loaded when first asked for.
"""

from __future__ import annotations

import copyreg
import inspect
import pickle
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from dask.utils import Dispatch, typename

from distributed.protocol import pickle as house_pickle

Dumps = Callable[..., tuple[dict[str, Any], list[Any]]]
Loads = Callable[[dict[str, Any], list[Any]], Any]


class Wire(dict[type, Callable[[Any], Any]]):
    """The pickler's table of types: what others have registered, else what ``copyreg`` has. Filled as types come."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: dict[type, None] = {}
        self.lazy: dict[str, None] = {}

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] in self.lazy:
                dask_serialize.dispatch(base, default=None)  # runs the registration that waits for this package
                self.lazy.pop(base.__module__.partition(".")[0], None)
            if base in self.registered:
                self[kind] = reduce_registered
                return reduce_registered
        return copyreg.dispatch_table[kind]


wire = Wire()


class Family(Dispatch):  # type: ignore[misc]
    """A table of functions by type; those of ``dask_serialize`` are used on the wire."""

    on_wire = False

    def dispatch(self, cls: type, *default: Any, **kwargs: Any) -> Any:
        """The function for ``cls`` or its nearest base. Raises ``TypeError`` when there is none, unless a ``default``
        is given."""
        try:
            return super().dispatch(cls)
        except TypeError:
            if default or kwargs:
                return default[0] if default else kwargs["default"]
            raise

    def register(self, type: Any, func: Any = None) -> Any:
        """Register ``func`` (or the decorated function) for a type or a tuple of types."""
        if func is None:
            return lambda function: self.register(type, function) or function
        super().register(type, func)
        if self.on_wire:
            for each in type if isinstance(type, tuple) else (type,):
                wire.registered[each] = None
            _use_wire()
        return None

    def register_lazy(self, toplevel: str, func: Any = None) -> Any:
        """Call ``func`` (or the decorated function) when the first object of the package ``toplevel`` is looked up."""
        if func is None:
            return lambda function: self.register_lazy(toplevel, function) or function
        super().register_lazy(toplevel, func)
        if self.on_wire:
            wire.lazy[toplevel] = None
            _use_wire()
        return None


def _use_wire() -> None:
    """New registrations count for types that were seen before, too."""
    wire.clear()
    house_pickle.use_dispatch_table(wire)


dask_serialize = Family("dask_serialize")
dask_deserialize = Family("dask_deserialize")
cuda_serialize = Family("cuda_serialize")
cuda_deserialize = Family("cuda_deserialize")
dask_serialize.on_wire = True


def _register_arrays() -> None:
    """Our own serialiser of arrays, for peers that open no pickle; another package's own stays."""
    import numpy as np

    from distributed.protocol.numpy_family import deserialize_numpy_ndarray, serialize_numpy_ndarray

    if np.ndarray not in wire.registered:
        Dispatch.register(dask_serialize, np.ndarray, serialize_numpy_ndarray)
        Dispatch.register(dask_deserialize, np.ndarray, deserialize_numpy_ndarray)


Dispatch.register_lazy(dask_serialize, "numpy", _register_arrays)
Dispatch.register_lazy(dask_deserialize, "numpy", _register_arrays)


# ---------------------------------------------------------------- on the wire


def reduce_registered(obj: Any) -> Any:
    """What the pickler writes for an instance of a registered type."""
    try:
        header, frames = dask_serialize(obj)
    except NotImplementedError:
        return obj.__reduce_ex__(house_pickle.HIGHEST_PROTOCOL)
    return rebuild, (type(obj), header, *map(as_buffer, frames))


def as_buffer(frame: Any) -> Any:
    """A frame as the pickler sends it beside the pickle."""
    view = memoryview(frame)
    return pickle.PickleBuffer(frame if view.contiguous else view.tobytes())


def rebuild(kind: type, header: dict[str, Any], *frames: Any) -> Any:
    """The way back from :func:`reduce_registered`."""
    return dask_deserialize.dispatch(kind)(header, [memoryview(frame) for frame in frames])


# ---------------------------------------------------------------- by name


class NamedFamily(NamedTuple):
    """``dumps`` raises ``NotImplementedError`` for what it does not know."""

    dumps: Dumps | None
    loads: Loads
    has_context: bool


def dask_dumps(x: Any, context: Any = None) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames by ``dask_serialize``. Raises ``NotImplementedError`` for a type that nobody registered."""
    return _dumps_by_type(dask_serialize, x, context)


def dask_loads(header: dict[str, Any], frames: list[Any]) -> Any:
    """The way back from :func:`dask_dumps`."""
    return dask_deserialize.dispatch(pickle.loads(header["type-serialized"]))(header["sub-header"], frames)


def cuda_dumps(x: Any) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames by ``cuda_serialize``. Raises ``NotImplementedError`` for a type that nobody registered."""
    return _dumps_by_type(cuda_serialize, x, None)


def cuda_loads(header: dict[str, Any], frames: list[Any]) -> Any:
    """The way back from :func:`cuda_dumps`."""
    return cuda_deserialize.dispatch(pickle.loads(header["type-serialized"]))(header["sub-header"], frames)


def _dumps_by_type(family: Family, x: Any, context: Any) -> tuple[dict[str, Any], list[Any]]:
    dumps = family.dispatch(type(x), default=None)
    if dumps is None:
        raise NotImplementedError(typename(type(x)))
    header, frames = dumps(x, context=context) if _has_context(dumps) else dumps(x)
    described = {"type": typename(type(x)), "type-serialized": house_pickle.dumps(type(x))}
    return {"sub-header": header, **described}, list(frames)


def _has_context(dumps: Any) -> bool:
    try:
        return "context" in inspect.signature(dumps).parameters
    except (TypeError, ValueError):
        return False


families: dict[str, NamedFamily] = {
    "dask": NamedFamily(dask_dumps, dask_loads, True),
    "cuda": NamedFamily(cuda_dumps, cuda_loads, False),
}


def register_serialization_family(name: str, dumps: Dumps | None, loads: Loads) -> None:
    """A way to serialise, to be named in ``serializers=`` and ``deserializers=``.

    Parameters
    ----------
    name
        E.g. ``"my-format"``.
    dumps
        ``f(x[, context=]) -> (header, frames)``; raises ``NotImplementedError`` for what it does not know.
    loads
        ``f(header, frames) -> x``.
    """
    families[name] = NamedFamily(dumps, loads, dumps is not None and _has_context(dumps))


def register_serialization(cls: Any, serialize: Dumps, deserialize: Loads) -> None:
    """Register both ways for a type, or for the dotted name of one whose package is not loaded yet."""
    if isinstance(cls, str):
        register_serialization_lazy(cls.partition(".")[0], lambda: _register_named(cls, serialize, deserialize))
        return
    dask_serialize.register(cls, serialize)
    dask_deserialize.register(cls, deserialize)


def _register_named(name: str, serialize: Dumps, deserialize: Loads) -> None:
    import importlib

    module, _, attribute = name.rpartition(".")
    register_serialization(getattr(importlib.import_module(module), attribute), serialize, deserialize)


def register_serialization_lazy(toplevel: str, func: Callable[[], None]) -> None:
    """Call ``func``, which registers serialisers, when the first object of the package ``toplevel`` comes."""
    dask_serialize.register_lazy(toplevel, func)
    dask_deserialize.register_lazy(toplevel, func)


def known_families(names: Iterable[str] | None) -> list[str] | None:
    """The names as a list; None stays None. Raises ``ValueError`` that names an unknown one."""
    if names is None:
        return None
    found = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in found if name not in families]
    if unknown:
        raise ValueError(f"no serialiser is called {unknown[0]!r}; known: {', '.join(families)}")
    return found
