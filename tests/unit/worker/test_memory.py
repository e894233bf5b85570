from __future__ import annotations

import pytest

from distributed.worker.memory import cpu_count, machine_memory, parse_memory_limit


def test_forms() -> None:
    total = machine_memory()
    assert parse_memory_limit("2 kB", 1) == 2000
    assert parse_memory_limit(0.5, 1) == total // 2
    assert parse_memory_limit("0.5", 1) == total // 2
    assert parse_memory_limit(123456, 1) == 123456
    assert parse_memory_limit("auto", 1, total_cores=4) == total // 4
    assert parse_memory_limit("auto", 8, total_cores=4) == total
    assert parse_memory_limit(10 * total, 1) == total
    for none in (None, 0, "0", False, "none"):
        assert parse_memory_limit(none, 1) is None


def test_bad_text() -> None:
    with pytest.raises(ValueError, match="5 apples"):
        parse_memory_limit("5 apples", 1)
    with pytest.raises(ValueError, match="negative"):
        parse_memory_limit(-1, 1)


def test_there_is_a_core() -> None:
    assert cpu_count() >= 1
