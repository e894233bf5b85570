from __future__ import annotations

import threading

from distributed.client.outgoing import MAX_QUEUED_TASKS, Outgoing, Part, Submission
from distributed.messages.client_to_scheduler import (
    SHARED_FROM,
    ReleaseKeys,
    SessionRequest,
    SharedDependencies,
    TaskOptions,
    TaskSpec,
    UpdateGraph,
    WantKeys,
)
from distributed.messages.payload import FunctionBlob, Payload

BLOB = FunctionBlob(b"f", Payload(b"pickle"))
MANY = 1 << 30


def put(queue: Outgoing, key: str, options: TaskOptions | None = None, nbytes: int = 1, fifo: float = 0.1) -> None:
    queue.submit(TaskSpec(key, b"f"), options, BLOB, fifo, None, nbytes)


def test_single_submissions_become_one_message_and_the_function_goes_once():
    queue = Outgoing()
    for key in "abc":
        put(queue, key)
    queue.add(ReleaseKeys(["a"]))
    put(queue, "d")
    first, release, second = queue.take(100, MANY)
    assert [spec.key for spec in first.tasks] == ["a", "b", "c"] and first.functions == [BLOB]
    assert release == ReleaseKeys(["a"])
    assert [spec.key for spec in second.tasks] == ["d"] and not second.functions
    assert first.submission != second.submission and not queue


def test_options_and_generations():
    queue = Outgoing()
    special = TaskOptions(priority=1)
    put(queue, "a")
    put(queue, "b", special)
    put(queue, "c", special)
    put(queue, "d", fifo=5)
    one, two = queue.take(100, MANY)
    assert one.options == [TaskOptions(), special] and [spec.options for spec in one.tasks] == [0, 1, 1]
    assert two.fifo_timeout_s == 5


def test_a_turn_is_bounded_in_tasks_and_bytes():
    queue = Outgoing()
    for i in range(10):
        put(queue, f"x{i}", nbytes=100)
    queue.add(WantKeys(["y"]))
    assert [len(m.tasks) for m in queue.take(4, MANY)] == [4]
    assert [len(m.tasks) for m in queue.take(100, 150)] == [2]
    rest = queue.take(100, MANY)
    assert [type(m) for m in rest] == [UpdateGraph, WantKeys]
    assert queue.take(100, MANY) == []


def test_parts_of_one_submission():
    queue = Outgoing()
    submission = Submission([], 0.1, None)
    for number, last in ((1, False), (2, True)):
        queue.submit_part(Part(submission, [TaskSpec(f"x{number}", b"f")], (BLOB,), last, nbytes=10))
    one, two = queue.take(100, MANY)
    assert one.submission == two.submission and (one.first_rank, two.first_rank) == (0, 1)
    assert (one.last, two.last) == (False, True) and (len(one.functions), len(two.functions)) == (1, 0)


def test_a_new_session_gets_the_functions_again():
    queue = Outgoing()
    put(queue, "a")
    queue.take(1, MANY)
    put(queue, "b")
    queue.forget()
    put(queue, "c")
    (graph,) = queue.take(100, MANY)
    assert [spec.key for spec in graph.tasks] == ["c"] and graph.functions == [BLOB]


def test_submitting_threads_wait_for_room():
    queue = Outgoing()
    for i in range(MAX_QUEUED_TASKS + 1):
        put(queue, f"x{i}")
    through = threading.Event()

    def submit() -> None:
        queue.make_room(lambda: True)
        through.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert not through.wait(0.05)
    while queue:
        queue.take(2000, MANY)
    assert through.wait(10)
    thread.join()


def test_many_equal_dependencies_are_sent_once():
    queue = Outgoing()
    many = tuple(f"d{i}" for i in range(SHARED_FROM))
    tasks = [TaskSpec("a", b"f", None, many), TaskSpec("b", b"f", None, ("d0",)), TaskSpec("c", b"f", None, many)]
    queue.submit_part(Part(Submission([], 0.1, None), tasks, (BLOB,), True))
    (message,) = queue.take(100, MANY)
    assert message.shared == [SharedDependencies(many, [0, 2])]
    assert [spec.dependencies for spec in message.tasks] == [(), ("d0",), ()]


def test_a_few_requests_may_be_sent_by_who_asks():
    queue = Outgoing()
    assert queue.few_requests() == []
    requests = [SessionRequest(number, "semaphore_release", Payload(b"")) for number in range(3)]
    for request in requests[:2]:
        queue.add(request)
    found = queue.few_requests()
    assert found == requests[:2]
    queue.add(requests[2])  # by another thread, while they are being sent
    queue.drop_first(2)
    assert queue.take(10, 10) == requests[2:]


def test_who_asks_leaves_tasks_and_crowds_to_the_loop():
    queue = Outgoing()
    put(queue, "a")
    assert queue.few_requests() is None
    queue.take(10, 10)
    for number in range(100):
        queue.add(SessionRequest(number, "queue_put", Payload(b"")))
    assert queue.few_requests() is None
    queue.take(10, 10)
    place = queue.reserve()
    queue.add(SessionRequest(1, "queue_put", Payload(b"")))
    assert queue.few_requests() is None, "it has to stay behind what is being prepared"
    queue.complete(place)
