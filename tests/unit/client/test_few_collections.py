from __future__ import annotations

import gc

from distributed.client.graph import MANY_OBJECTS, few_collections


def test_garbage_is_looked_for_as_before_when_the_last_graph_is_through() -> None:
    before = gc.get_threshold()
    with few_collections():
        with few_collections():
            assert gc.get_threshold() == (MANY_OBJECTS, *before[1:])
        assert gc.get_threshold()[0] == MANY_OBJECTS
    assert gc.get_threshold() == before


def test_who_looks_for_no_garbage_at_all_is_left_alone() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with few_collections():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
