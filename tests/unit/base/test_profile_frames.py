"""Frames of other threads, which may be between two lines."""

import sys
from types import SimpleNamespace

from distributed.base.profile_tree import info_frame


def test_a_frame_between_two_lines_stands_at_its_function():
    code = sys._getframe().f_code
    frame = SimpleNamespace(f_code=code, f_lineno=None, f_globals={})
    assert info_frame(frame)["line_number"] == code.co_firstlineno
