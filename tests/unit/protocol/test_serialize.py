"""Payloads, functions and the path to what cannot be pickled."""

import functools
import gc
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed.base.errors import SerializationError
from distributed.messages.payload import Attached, Payload
from distributed.protocol import functions
from distributed.protocol.pickle import dumps as raw_dumps
from distributed.protocol.pickle import loads as raw_loads
from distributed.protocol.serialize import (
    TaskInput,
    dumps,
    dumps_function,
    function_name,
    live,
    loads,
    loads_function,
    materialised,
)


def inc(x):
    return x + 1


class Model:
    def __init__(self, **members):
        self.__dict__.update(members)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b


builtin = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda x: st.lists(x) | st.lists(x).map(tuple) | st.dictionaries(st.text(), x),
    max_leaves=10,
)


@given(builtin)
def test_round_trip(obj):
    assert loads(dumps(obj)) == obj


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 32_768, 65_535, 65_536, 10**6])
@pytest.mark.parametrize("kind", [bytes, bytearray, str, list])
def test_sizes(kind, size):
    obj = "x" * size if kind is str else list(range(size)) if kind is list else kind(b"x" * size)
    payload = dumps(obj)
    back = loads(payload)
    assert back == obj and type(back) is kind
    assert len(payload.data) < 33_000 and payload.nbytes >= size


def test_large_bytes_are_not_copied_into_a_pickle():
    obj = b"x" * 10**6
    (stream, beside) = (dumps(obj).data, dumps(obj).attached.buffers)
    assert len(stream) < 100 and memoryview(beside[0]).obj is obj


def test_arrays_travel_beside():
    numpy = pytest.importorskip("numpy")
    for array in (numpy.arange(10**5), numpy.asfortranarray(numpy.ones((300, 400))), numpy.arange(10**5)[::2]):
        payload = dumps({"a": array})
        received = Payload(payload.data, Attached([bytearray(b) for b in payload.attached.buffers]))
        back = loads(received)["a"]
        assert (back == array).all() and back.flags.writeable
    small = dumps(numpy.arange(10))
    assert small.attached is None and loads(small).flags.writeable


def test_payload_shares_memory_unless_told_to_copy():
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(10**5)
    shared, copied = dumps(array), dumps(array, snapshot=True)
    array[:] = 1
    assert loads(shared)[0] == 1 and loads(copied)[0] == 0


def test_live():
    obj = object()
    assert loads(live(obj)) is obj
    assert live(obj).nbytes == 0
    assert loads(materialised(live({"a": b"x" * 10**5}))) == {"a": b"x" * 10**5}
    plain = dumps(1)
    assert materialised(plain) is plain


def test_payloads_inside_objects_can_be_pickled():
    payload = dumps(b"x" * 10**5)
    back = loads(dumps([payload, live([1])]))
    assert loads(back[0]) == b"x" * 10**5 and loads(back[1]) == [1]


def test_task_input_is_tiny():
    assert TaskInput(3) == loads(dumps(TaskInput(3))) and hash(TaskInput(3)) == hash(TaskInput(3))
    many = dumps([TaskInput(i) for i in range(100)])
    assert many.nbytes < 1500


def test_empty_attachment_is_an_error_not_a_crash():
    with pytest.raises((EOFError, pickle.UnpicklingError)):
        loads(Payload(b"", Attached([])))


def test_old_pickle_functions():
    buffers = []
    data = raw_dumps({"x": bytearray(5)}, buffer_callback=buffers.append)
    assert raw_loads(data, buffers=buffers) == {"x": bytearray(5)}
    assert raw_loads(raw_dumps(lambda: 5))() == 5


# ---------------------------------------------------------------- __main__


def run_main(code):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_main_travels_by_value_to_a_process_with_another_main():
    text = run_main("""
        import subprocess, sys, base64, pickle
        from distributed.protocol.serialize import dumps, dumps_function
        class Point:
            def __init__(self, x): self.x = x
            def double(self): return self.x * 2
        def use(p): return p.double() + offset
        offset = 100
        def blob(p): return base64.b64encode(p.data if p.data else bytes(p.attached.buffers[0])).decode()
        code = "import sys, base64, pickle\\n"
        code += "point, use = (pickle.loads(base64.b64decode(a)) for a in sys.argv[1:])\\nprint(use(point))"
        args = [blob(dumps(Point(21))), blob(dumps_function(use).payload)]
        print(subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True).stdout)
    """)
    assert text == "142"


def test_spawned_main_travels_by_value(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import multiprocessing as mp, sys
        from distributed.protocol.serialize import dumps
        class Point: pass
        def child(queue):
            payload = dumps(Point())
            queue.put(len(payload.data) > 100)
        if __name__ == "__main__":
            context = mp.get_context("spawn")
            queue = context.Queue()
            process = context.Process(target=child, args=(queue,))
            process.start()
            print(queue.get(timeout=30))
            process.join()
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True", done.stderr


def test_modules_registered_by_value_also_after_the_first_use():
    cloudpickle = pytest.importorskip("cloudpickle")
    module = sys.modules[__name__]
    by_name = dumps(inc)
    dumps_function(inc)
    cloudpickle.register_pickle_by_value(module)
    try:
        assert dumps(inc).nbytes > by_name.nbytes
        assert dumps_function(inc).payload.nbytes > by_name.nbytes
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert dumps_function(inc).payload.nbytes == by_name.nbytes


# ---------------------------------------------------------------- functions


def test_functions_are_pickled_once_and_opened_once():
    first = dumps_function(inc)
    assert dumps_function(inc) is first
    assert loads_function(first) is inc
    by_value = dumps_function(lambda x: x + 1)
    again = loads_function(by_value)
    assert loads_function(by_value) is again and again(1) == 2


def test_function_by_value_is_pickled_again_when_what_it_uses_changes():
    namespace = {"__name__": "__main__"}
    exec("step = 1\ndef add(x): return x + step", namespace)
    add = namespace["add"]
    first = dumps_function(add)
    assert dumps_function(add) is first
    namespace["step"] = 5
    second = dumps_function(add)
    assert second.digest != first.digest and loads_function(second)(1) == 6


def test_closure_over_something_mutable_is_never_remembered():
    state = []

    def size():
        return len(state)

    first = dumps_function(size)
    state.append(1)
    second = dumps_function(size)
    assert loads_function(first)() == 0 and loads_function(second)() == 1


def test_closure_cell_change_is_seen():
    def outer():
        n = 1

        def get():
            return n

        def change():
            nonlocal n
            n = 2

        return get, change

    get, change = outer()
    first = dumps_function(get)
    assert dumps_function(get) is first
    change()
    assert loads_function(dumps_function(get))() == 2


def test_helper_functions_are_watched():
    namespace = {"__name__": "__main__"}
    exec("def helper(x): return x\ndef f(x): return helper(x)", namespace)
    first = dumps_function(namespace["f"])
    assert dumps_function(namespace["f"]) is first
    exec("def helper(x): return -x", namespace)
    assert loads_function(dumps_function(namespace["f"]))(1) == -1


def test_changed_defaults_and_attributes_are_seen():
    function = eval("lambda x, y=1: x + y", {"__name__": "__main__"})
    dumps_function(function)
    function.__defaults__ = (10,)
    assert loads_function(dumps_function(function))(1) == 11


def test_callable_objects_are_never_remembered():
    class Adder:
        def __init__(self):
            self.n = 1

        def __call__(self, x):
            return x + self.n

    adder = Adder()
    dumps_function(adder)
    adder.n = 2
    assert loads_function(dumps_function(adder))(1) == 3


def test_memory_of_functions_is_not_kept():
    function = eval("lambda x: x", {"__name__": "__main__"})
    dumps_function(function)
    number, reference = id(function), weakref.ref(function)
    assert number in functions._known
    del function
    gc.collect()
    assert reference() is None and number not in functions._known


def test_memory_of_a_namespace_is_not_kept():
    class Marker:
        pass

    namespace = {"__name__": "__main__", "unused": Marker()}
    exec("def helper(): return f\ndef f(): return helper()", namespace)
    reference = weakref.ref(namespace["unused"])
    first = dumps_function(namespace["f"])
    assert dumps_function(namespace["f"]) is first
    namespace = None
    gc.collect()
    assert reference() is None


def test_function_names():
    assert function_name(inc) == "inc"
    assert function_name(lambda: 1) == "lambda"
    assert function_name(functools.partial(functools.partial(inc), 1)) == "inc"
    assert function_name(len) == "len"
    assert function_name(Model) == "Model"
    assert function_name(Model().__init__) == "__init__"
    assert function_name(functools.lru_cache(inc)) == "inc"


def test_mutually_recursive_functions():
    namespace = {"__name__": "__main__"}
    exec("def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)", namespace)
    assert loads_function(dumps_function(namespace["even"]))(10)


# ---------------------------------------------------------------- what cannot be pickled


def lock():
    return threading.Lock()


class Refuses:
    def __getstate__(self):
        raise ValueError("hello!")


def closure():
    held = lock()
    return lambda: held


BAD = [
    (((Model(model=Model(_lock=lock())),), {}), "", "args[0].model._lock"),
    (((1,), {"x": [1, {"k": lock()}]}), "", "kwargs['x'][1]['k']"),
    (Model(model=Model(_lock=lock())), "result", "result.model._lock"),
    ([1, (2, lock())], "result", "result[1][1]"),
    ({"a": {5: lock()}}, "result", "result['a'][5]"),
    (Slotted(1, lock()), "result", "result.b"),
    (functools.partial(inc, lock()), "f", "f.args[0]"),
    (functools.partial(inc, x=lock()), "f", "f.keywords['x']"),
    (Model(lock=lock()).__repr__, "f", "f.__self__.lock"),
    (closure(), "f", "f.<closure>.held"),
    (lock(), "result", "result"),
    (Model(a=Refuses()), "result", "result.a"),
    (Model(items=[Model(), Model(gen=(i for i in []))]), "result", "result.items[1].gen"),
    (__import__("collections").deque([1, lock()]), "result", "result[1]"),
]


@pytest.mark.parametrize(("obj", "name", "path"), BAD, ids=[path for _, _, path in BAD])
def test_the_error_names_the_path(obj, name, path):
    start = time.monotonic()
    with pytest.raises(SerializationError) as caught:
        dumps(obj, name)
    assert caught.value.path == path
    assert path in str(caught.value) or path == name
    assert isinstance(caught.value, TypeError) and caught.value.__cause__ is not None
    assert time.monotonic() - start < 1


def test_the_error_keeps_the_objects_own_words():
    with pytest.raises(SerializationError, match="ValueError: hello!"):
        dumps(Refuses())


def test_functions_that_cannot_be_pickled():
    with pytest.raises(SerializationError, match=r"held"):
        dumps_function(closure())


def test_search_ends_in_time_in_large_and_cyclic_objects():
    big = [{"n": i, "values": list(range(50))} for i in range(20_000)]
    cycle = Model(big=big)
    cycle.me = cycle
    cycle.bad = lock()
    start = time.monotonic()
    with pytest.raises(SerializationError):
        dumps(cycle, "result")
    assert time.monotonic() - start < 3


def test_deep_nesting_is_an_error_not_a_crash():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match="recursion"):
        dumps(deep)
    while deep:
        deep = deep.pop()


def test_hostile_reprs_do_not_hide_the_error():
    class Key:
        def __repr__(self):
            raise RuntimeError("no repr")

    with pytest.raises(SerializationError):
        dumps({Key(): lock()}, "result")


def test_what_arrow_knows_about_files_is_pickled():
    from pyarrow.fs import FileInfo, FileType

    whole = FileInfo("/data/1.parquet", FileType.File, size=77, mtime_ns=1_700_000_000_000_000_001)
    bare = FileInfo("/data", FileType.Directory)
    for dumped, load in ((dumps([whole, bare]), loads), (raw_dumps([whole, bare]), raw_loads)):
        for info, copy in zip((whole, bare), load(dumped), strict=True):
            assert (copy.path, copy.type, copy.size) == (info.path, info.type, info.size)
            assert copy.mtime_ns == info.mtime_ns
