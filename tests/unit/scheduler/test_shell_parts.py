"""Parts of the scheduler's shell that need no network."""

from __future__ import annotations

import asyncio
import logging
import pickle

import dask
import pytest

from distributed.base import settings
from distributed.base.errors import RemoteError
from distributed.base.log_tail import LogTail
from distributed.messages.payload import Payload
from distributed.protocol.plain import Pickled
from distributed.protocol.serialize import dumps, pack_error
from distributed.scheduler import lifecycle, queries
from distributed.scheduler.admission import heartbeat_interval
from distributed.scheduler.conditions import Conditions
from distributed.scheduler.event_log import EventLog
from distributed.scheduler.opening import as_payload, open_code
from distributed.scheduler.relay import RelayedError, as_info
from distributed.scheduler.routes import guarded
from distributed.scheduler.state_machine import SchedulerSettings
from distributed.scheduler.streams import in_the_middle


class TestEventLog:
    def make(self, length=3, keep_s=0.0):
        sent, told = [], []
        log = EventLog(length, keep_s, lambda *args: sent.append(args), lambda *args: told.append(args))
        return log, sent, told

    def test_keeps_the_last(self):
        log, _, told = self.make()
        for i in range(5):
            log.log("t", i)
        assert [message for _, message in log.get("t")] == [2, 3, 4]
        assert log.counts["t"] == 5
        assert told == [("t", i) for i in range(5)]
        assert log.get("unknown") == ()
        assert list(log.get()) == ["t"]

    def test_subscribers(self):
        log, sent, _ = self.make()
        log.subscribe("alice", "a")
        log.subscribe("bob", "a")
        log.subscribe("bob", "b")
        log.log(["a", "b"], 1)
        assert [(client, topic) for client, topic, _ in sent] == [("alice", "a"), ("bob", "a"), ("bob", "b")]
        log.unsubscribe("bob", "a")
        log.unsubscribe("nobody", "z")
        sent.clear()
        log.log(["a", "b"], 2)
        assert [(client, topic) for client, topic, _ in sent] == [("alice", "a"), ("bob", "b")]
        log.unsubscribe("bob")
        log.unsubscribe("alice")
        sent.clear()
        log.log(["a", "b"], 3)
        assert not sent

    def test_events_of_those_who_left_go(self):
        log, _, _ = self.make()
        log.log("tcp://w", 1)
        log.left("tcp://w")
        log.left("never-seen")
        log.log("new-topic", 1)
        assert list(log.topics) == ["new-topic"]


class TestConditions:
    def test_wait(self):
        async def main():
            conditions = Conditions()
            assert await conditions.wait(lambda: True)
            assert not await conditions.wait(lambda: False, 0.01)
            assert not conditions
            facts: list[int] = []
            waiting = asyncio.ensure_future(conditions.wait(lambda: bool(facts), 5))
            await asyncio.sleep(0)
            conditions.check()
            await asyncio.sleep(0)
            assert not waiting.done()
            facts.append(1)
            conditions.check()
            assert await waiting

        asyncio.run(main())

    def test_predicate_that_raises(self):
        async def main():
            conditions = Conditions()
            facts = {"x": 1}
            waiting = asyncio.ensure_future(conditions.wait(lambda: facts["x"] > 1))
            await asyncio.sleep(0)
            del facts["x"]
            conditions.check()
            with pytest.raises(KeyError):
                await waiting
            assert not conditions

        asyncio.run(main())


class TestSettings:
    def test_from_configuration(self):
        settings.register()  # else our defaults would come in later, and be merged into what is set here
        with dask.config.set(
            {
                "distributed.scheduler.unknown-task-duration": "2s",
                "distributed.scheduler.default-task-durations": {"inc": "1ms"},
                "distributed.scheduler.default-data-size": "2kB",
                "distributed.scheduler.work-stealing": False,
                "distributed.scheduler.worker-ttl": "inf",
            }
        ):
            found = lifecycle.core_settings()
        assert found.unknown_duration_s == 2
        assert found.default_durations_s == {"inc": 0.001}
        assert found.unknown_nbytes == 2000
        assert not found.stealing
        assert found.worker_ttl_s is None

    @pytest.mark.parametrize("value", [-1, True, 1.5, "3"])
    def test_allowed_failures(self, value):
        with pytest.raises(ValueError, match="allowed_failures"):
            lifecycle.core_settings(allowed_failures=value)

    def test_listen_address(self):
        def address(*args):
            return lifecycle.listen_address(*args, 8786)[0]

        assert address(None, 0, None, None) == "tcp://127.0.0.1:0"
        assert address(None, 5, None, "tcp://") == "tcp://127.0.0.1:5"
        assert address("", 5, None, None) == "tcp://:5"
        assert address(None, 0, None, "inproc://") == "inproc://"
        assert lifecycle.listen_address(None, 8786, None, None, 8786)[1] == ()
        assert lifecycle.listen_address("tcp://a:5", None, None, None, 8786) == ("tcp://a:5", ())
        found, more = lifecycle.listen_address("", None, None, None, 8786)
        assert found == "tcp://:8786" and more[0] == 8788 and more[-1] == 0

    def test_idle_limit(self):
        assert lifecycle.idle_limit("2s") == 2
        assert lifecycle.idle_limit(None) is None
        assert lifecycle.idle_limit(0) is None

    def test_heartbeats_get_rarer(self):
        intervals = [heartbeat_interval(n) for n in (1, 10, 40, 100, 1000)]
        assert intervals == sorted(intervals)
        assert intervals[0] == 0.5
        assert intervals[-1] < SchedulerSettings().suspect_s / 2


def test_log_tail():
    tail = LogTail("distributed.test-of-log-tail", 2)
    logger = logging.getLogger("distributed.test-of-log-tail")
    tail.attach()
    try:
        for word in ("one", "two", "three"):
            logger.warning(word)
    finally:
        tail.detach()
    logger.warning("four")
    assert [level for level, _ in tail.last()] == ["WARNING"] * 2
    assert [line.rpartition(" ")[2] for _, line in tail.last()] == ["two", "three"]
    assert len(tail.last(n=1)) == 1
    assert tail.last(n=0) == []
    (second, *_), (third, *_) = tail.last(timestamps=True)
    assert second <= third
    assert tail.last(third + 1) == []
    assert len(tail.last(third, timestamps=True)[0]) == 3


class TestRelay:
    def test_an_error_passes_unopened(self):
        info = pack_error(ZeroDivisionError("x"))
        error = RelayedError(info)
        assert isinstance(error, RemoteError)
        assert "ZeroDivisionError" in str(error)
        assert as_info(error) is info
        assert as_info(ValueError("own")).type_name == "ValueError"
        opened = pickle.loads(pickle.dumps(error))
        assert type(opened) is ZeroDivisionError


class TestOpening:
    def test_code(self):
        for form in (len, dumps(len), Pickled(dumps(len)), pickle.dumps(len), bytearray(pickle.dumps(len))):
            assert open_code(form) is len

    def test_payloads_are_left_closed(self):
        closed = Payload(b"not even a pickle")
        assert as_payload(closed) is closed
        assert as_payload(Pickled(closed)) is closed
        assert as_payload(b"xyz") == Payload(b"xyz")
        assert open_code(as_payload({"a": 1})) == {"a": 1}


class TestGuard:
    class Peer:
        def __init__(self, role):
            self.peer_role = role

    @staticmethod
    def note_in(noted):
        return lambda op, connection, outcome: noted.append((op, connection.peer_role, outcome))

    def test_roles(self):
        noted = []
        handler = guarded("op", lambda x: x + 1, frozenset(["client"]), self.note_in(noted))
        assert handler(x=1) == 2 and not noted
        assert handler(connection=self.Peer("client"), x=1) == 2
        with pytest.raises(PermissionError, match="a worker may not ask a scheduler for 'op'"):
            handler(connection=self.Peer("worker"), x=1)
        assert noted == [("op", "client", "done"), ("op", "worker", "refused")]

    def test_connection_is_handed_on_to_who_wants_it(self):
        handler = guarded("op", lambda connection: connection.peer_role, frozenset(["client"]), self.note_in([]))
        assert handler(connection=self.Peer("client")) == "client"


def test_nested_metadata():
    table: dict = {}
    queries.set_nested(table, ["a", "b"], 1)
    queries.set_nested(table, ["a", "c"], 2)
    assert queries.get_nested(table, ["a"]) == {"b": 1, "c": 2}
    assert queries.get_nested(table, []) == table
    with pytest.raises(KeyError):
        queries.get_nested(table, ["a", "b", "x"])
    with pytest.raises(TypeError):
        queries.set_nested(table, ["a", "b", "x"], 1)
    with pytest.raises(ValueError):
        queries.set_nested(table, [], 1)


def test_who_is_in_the_middle_of_a_long_message():
    before = {"grew": (10, 1), "spoke": (10, 1), "silent": (10, 1), "left": (10, 1)}
    now = {"grew": (20, 1), "spoke": (20, 2), "silent": (10, 1), "new": (20, 0)}
    assert in_the_middle(before, now) == ["grew"]
    assert in_the_middle(now, now) == [] == in_the_middle({}, now)
    assert in_the_middle({"w": (500, 7)}, {"w": (20, 7)}) == [], "another connection, which begins"
