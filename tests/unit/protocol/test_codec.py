"""Every message of every link goes out and comes back the same."""

import typing

import msgspec
import pytest

from distributed.base.errors import FrameError, SerializationError
from distributed.messages.client_to_scheduler import ClientLogEvent, ReleaseKeys, TaskOptions, TaskSpec, UpdateGraph
from distributed.messages.control import Registered, Reply, Request
from distributed.messages.payload import Attached, ErrorInfo, FunctionBlob, Payload
from distributed.messages.scheduler_to_worker import ComputeTask, TaskNeed
from distributed.protocol.codec import LINKS, MAX_SEGMENTS, Codec, codec_for
from distributed.protocol.plain import Pickled
from distributed.protocol.serialize import dumps, live, loads

KEYS = ["x", 1, -2.5, ("x", 0), ("a", ("b", 1), 2.0), (("\0bytes", "abc"), ())]


def sample(kind, depth=0):
    """A value for a field of this type: never the default."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is typing.Any:
        return {"a": [1, "b", None]}
    if kind is bytes:
        return b"bytes"
    if kind in (str, int, float, bool):
        return {str: "text", int: 12345, float: 1.5, bool: True}[kind]
    if kind is Payload:
        return Payload(b"data", Attached([bytearray(b"beside"), bytearray(b"two")]))
    if origin is list:
        return [sample(args[0])]
    if origin is dict:
        return {"k": sample(args[1])}
    if origin is tuple:
        return (sample(args[0]),) if args[-1] is Ellipsis else tuple(map(sample, args))
    if args and type(None) in args:
        return sample(next(arg for arg in args if arg is not type(None)))
    if args:  # the union of a key
        return ("x", 0)
    return build(kind)


def build(struct):
    hints = typing.get_type_hints(struct)
    return struct(**{name: sample(hints[name]) for name in struct.__struct_fields__})


def bare(obj):
    """``obj`` as something that compares by value."""
    if isinstance(obj, Attached):
        return [bytes(buffer) for buffer in obj.buffers]
    if isinstance(obj, msgspec.Struct):
        return type(obj), [bare(getattr(obj, name)) for name in obj.__struct_fields__]
    if isinstance(obj, list | tuple):
        return type(obj), [bare(member) for member in obj]
    if isinstance(obj, dict):
        return {key: bare(value) for key, value in obj.items()}
    return obj


ALL = [(link, struct) for link, union in LINKS.items() for struct in typing.get_args(union)]


@pytest.mark.parametrize(("link", "struct"), ALL, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_round_trip_of_every_message(link, struct):
    codec = codec_for(link)
    messages = [build(struct), build(struct)]
    back = codec.decode(codec.encode(messages))
    assert bare(back) == bare(messages)


@pytest.mark.parametrize(("link", "struct"), ALL, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_round_trip_with_defaults_only(link, struct):
    needed = [f.name for f in msgspec.structs.fields(struct) if f.required]
    hints = typing.get_type_hints(struct)
    message = struct(**{name: sample(hints[name]) for name in needed})
    codec = codec_for(link)
    assert bare(codec.decode(codec.encode([message]))) == bare([message])


@pytest.mark.parametrize("key", KEYS)
def test_keys_keep_their_type(key):
    codec = codec_for("client_to_scheduler")
    (message,) = codec.decode(codec.encode([ReleaseKeys([key])]))
    assert repr(message.keys) == repr([key])


def test_buffers_are_neither_copied_nor_mixed_up():
    codec = codec_for("scheduler_to_worker")
    buffers = [bytearray(b"a"), bytearray(b"b"), bytearray(b"c")]
    messages = [
        ComputeTask("x", 1, (0.0, 1.0, 2), payload=Payload(b"p", Attached(buffers[:1])), needs=(TaskNeed("y"),)),
        ComputeTask("z", 2, (0.0, 1.0, 3), payload=Payload(b"q", Attached(buffers[1:]))),
    ]
    segments = codec.encode(messages)
    assert all(a is b for a, b in zip(segments[1:], buffers, strict=True))
    back = codec.decode(segments)
    assert [list(map(id, m.payload.attached.buffers)) for m in back] == [[id(buffers[0])], [id(b) for b in buffers[1:]]]


def test_live_payload_is_pickled_at_a_wire():
    codec = codec_for("control")
    (reply,) = codec.decode(codec.encode([Reply(1, live({"x": b"y" * 100_000}))]))
    assert loads(reply.body) == {"x": b"y" * 100_000}


def test_live_payload_that_cannot_be_pickled_fails_when_opened():
    codec = codec_for("control")
    import threading

    first, second = codec.decode(codec.encode([Reply(1, live([threading.Lock()])), Reply(2, live(5))]))
    with pytest.raises(SerializationError, match="lock"):
        loads(first.body)
    assert loads(second.body) == 5


def test_many_buffers_travel_inside():
    codec = codec_for("control")
    payload = Payload(b"p", Attached([b"1", b"2"]))
    count = MAX_SEGMENTS // 2 + 10
    segments = codec.encode([Reply(i, payload) for i in range(count)])
    assert len(segments) <= MAX_SEGMENTS
    back = codec.decode(segments)
    assert len(back) == count and bytes(back[-1].body.attached.buffers[1]) == b"2"


def test_what_msgpack_does_not_know_stays_closed():
    codec = codec_for("client_to_scheduler")
    graph = UpdateGraph(1, [TaskSpec("x")], options=[TaskOptions(annotations={"f": codec_for, "n": 1, "o": object})])
    (back,) = codec.decode(codec.encode([graph]))
    annotations = back.options[0].annotations
    assert annotations["n"] == 1
    assert isinstance(annotations["f"], Pickled) and annotations["f"].load() is codec_for
    (again,) = codec.decode(codec.encode([back]))
    assert again.options[0].annotations["o"].load() is object


def test_numpy_scalars_are_plain():
    numpy = pytest.importorskip("numpy")
    codec = codec_for("client_to_scheduler")
    (back,) = codec.decode(codec.encode([ClientLogEvent(("t",), {"a": numpy.float64(1.5), "b": numpy.int64(3)})]))
    assert back.msg == {"a": 1.5, "b": 3}


def test_encoding_error_names_message_and_field():
    import threading

    codec = codec_for("client_to_scheduler")
    with pytest.raises(SerializationError, match=r"message 1 of 2.*client-log-event\.msg.*lock"):
        codec.encode([ReleaseKeys(["x"]), ClientLogEvent(("t",), {"bad": threading.Lock()})])
    assert codec.decode(codec.encode([ReleaseKeys(["x"])])) == [ReleaseKeys(["x"])]


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xff",
        b"\x93\x01\x02",
        msgspec.msgpack.encode([["no-such-op", 1]]),
        msgspec.msgpack.encode([["release-keys", 5]]),
        msgspec.msgpack.encode([["release-keys", [None]]]),
        msgspec.msgpack.encode({"op": "release-keys"}),
        msgspec.msgpack.encode([["registered", "a", "b"]])[:-3],
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_bad_bytes(wire):
    with pytest.raises(FrameError):
        codec_for("client_to_scheduler").decode([wire])


@pytest.mark.parametrize("place", [[0, 1], [1, 3], [-1, 1], [1, -1], [2**62, 2**62], [1], "x", [None, None], [b"x", 1]])
def test_forged_attachments(place):
    wire = msgspec.msgpack.encode([["reply", 1, [b"data", place]]])
    with pytest.raises(FrameError):
        codec_for("control").decode([wire, b"one"])


def test_a_link_takes_only_its_own_messages():
    wire = codec_for("client_to_scheduler").encode([ReleaseKeys(["x"])])
    with pytest.raises(FrameError):
        codec_for("worker_to_scheduler").decode(wire)
    with pytest.raises(ValueError, match="no link"):
        codec_for("nonsense")
    with pytest.raises(FrameError):
        codec_for("control").decode([])


def test_one_codec_serves_many_threads():
    import concurrent.futures

    codec = Codec(LINKS["control"])

    def work(n):
        payload = Payload(b"x", Attached([bytes([n])] * (n % 5 + 1)))
        for i in range(200):
            (back,) = codec.decode(codec.encode([Request(i, "op", payload)]))
            assert [bytes(b) for b in back.body.attached.buffers] == [bytes([n])] * (n % 5 + 1)
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))


def test_error_info_and_functions_pass():
    codec = codec_for("control")
    info = ErrorInfo("E", "m", dumps(ValueError("x")), None, "text")
    (back,) = codec.decode(codec.encode([Reply(1, None, info)]))
    assert back.error == info
    (registered,) = codec.decode(codec.encode([Registered("s", "id", plugins=[("p", dumps(1))])]))
    assert loads(registered.plugins[0][1]) == 1
    assert FunctionBlob(b"d", dumps(1)).payload.nbytes > 0
