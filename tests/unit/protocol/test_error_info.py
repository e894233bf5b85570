"""Exceptions travel with type, causes and frames, or as RemoteError with their texts."""

import traceback

import pytest

from distributed.base.errors import KilledWorker, RemoteError, WorkerDeath
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol.serialize import live, pack_error, unpack_error


def raised(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def boom(x):
    raise ValueError(f"boom {x}")


def chained():
    try:
        boom(1)
    except ValueError as error:
        raise KeyError("second") from error


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__("odd")
        self.a, self.b = a, b


class Unpicklable(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = __import__("threading").Lock()


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class OpensAsAnother(Exception):
    def __reduce__(self):
        return str, ("not an exception",)


def test_type_text_and_frames():
    info = pack_error(raised(boom, 5))
    error, tb = unpack_error(info)
    assert type(error) is ValueError and str(error) == "boom 5"
    assert (info.type_name, info.message) == ("ValueError", "boom 5")
    assert [f.name for f in traceback.extract_tb(tb)] == ["raised", "boom"]
    assert error.__traceback__ is tb
    assert "in boom" in info.traceback_text and "ValueError: boom 5" in info.traceback_text


def test_frames_stand_in_their_line_and_have_no_callers_behind_them():
    info = pack_error(raised(chained))
    error, tb = unpack_error(info)
    for top in (tb, error.__cause__.__traceback__):
        while top is not None:
            assert top.tb_frame.f_back is None
            assert top.tb_frame.f_lineno == top.tb_lineno > 1
            assert top.tb_frame.f_globals["__name__"] == __name__
            top = top.tb_next


def test_causes_and_contexts():
    error, _ = unpack_error(pack_error(raised(chained)))
    assert type(error) is KeyError and type(error.__cause__) is ValueError
    assert "boom" in "".join(traceback.format_exception(error))

    def context():
        try:
            boom(2)
        except ValueError:
            raise OSError("while handling")

    error, _ = unpack_error(pack_error(raised(context)))
    assert type(error.__context__) is ValueError and error.__cause__ is None

    def from_none():
        try:
            boom(2)
        except ValueError:
            raise OSError("alone") from None

    error, _ = unpack_error(pack_error(raised(from_none)))
    assert error.__suppress_context__ and error.__context__ is None


def test_cyclic_causes():
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    error, _ = unpack_error(pack_error(a))
    assert str(error.__cause__) == "b"


def test_notes_and_attributes():
    original = KilledWorker("k", "w", 1, [WorkerDeath("w", signal=9)])
    original.add_note("a note")
    error, _ = unpack_error(pack_error(original))
    assert error.attempts == original.attempts and error.__notes__ == ["a note"]


@pytest.mark.parametrize("error", [Unpicklable("text"), OpensAsAnother("x"), NoText()])
def test_what_does_not_survive_becomes_text(error):
    back, _ = unpack_error(pack_error(raised(_raise, error)))
    if type(error) is NoText:
        return
    assert type(back) is RemoteError
    assert back.type_name == type(error).__name__ and type(error).__name__ in str(back)


def _raise(error):
    raise error


def test_other_arguments_than_those_of_init():
    back, _ = unpack_error(pack_error(raised(_raise, Odd(1, 2))))
    assert type(back).__name__ == "Odd" and str(back) == str(Odd(1, 2))


def test_local_classes_keep_their_type():
    class Local(Exception):
        pass

    back, _ = unpack_error(pack_error(Local("x")))
    assert type(back) is Local


def test_long_texts_are_cut_and_the_type_stays():
    info = pack_error(ValueError("x" * 10**6), 1000)
    back, _ = unpack_error(info)
    assert type(back) is ValueError and len(str(back)) <= 1100
    assert len(info.message) <= 1000 and len(info.traceback_text) < 1200
    assert info.exception.nbytes < 5000


def test_long_text_of_an_exception_with_other_arguments():
    class Fussy(Exception):
        def __init__(self, a, b):
            super().__init__("y" * 10**5)

    back, _ = unpack_error(pack_error(Fussy(1, 2), 1000))
    assert type(back) is RemoteError and "Fussy" in str(back) and len(str(back)) < 3000


def test_deep_recursion():
    def down(n):
        return down(n + 1)

    info = pack_error(raised(down, 0))
    error, tb = unpack_error(info)
    assert type(error) is RecursionError
    assert len(traceback.extract_tb(tb)) <= 120
    assert len(info.traceback_text) <= 10_100


@pytest.mark.parametrize(
    "payload",
    [Payload(b""), Payload(b"garbage"), Payload(b"cno_such_module\nX\n."), Payload(b"N."), Payload(b"K\x05.")],
)
def test_unreadable_payloads(payload):
    error, tb = unpack_error(ErrorInfo("Odd", "text", payload, payload, "the traceback"))
    assert type(error) is RemoteError and "Odd: text" in str(error) and "the traceback" in str(error)
    assert tb is None


def test_live_exception():
    error = ValueError("x")
    assert unpack_error(ErrorInfo("ValueError", "x", live(error)))[0] is error


def test_without_pickle_only_texts():
    error, tb = unpack_error(ErrorInfo("Odd", "text"))
    assert (error.type_name, error.message, tb) == ("Odd", "text", None)


def test_base_exceptions():
    for original in (SystemExit(3), KeyboardInterrupt()):
        error, _ = unpack_error(pack_error(original))
        assert type(error) is type(original)


def test_packing_leaves_the_original_alone():
    error = raised(chained)
    tb, cause = error.__traceback__, error.__cause__
    unpack_error(pack_error(error))
    assert error.__traceback__ is tb and error.__cause__ is cause
