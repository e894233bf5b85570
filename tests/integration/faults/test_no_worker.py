"""Tasks that no worker can ever take: said within a second, once for each cause, and they go on when one comes."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from distributed import Client
from tests.integration.faults.small_cluster import events, poll, small_cluster


def inc(x: int) -> int:
    return x + 1


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What clients of this process have written."""
    return [record.getMessage() for record in caplog.records if record.name == "distributed.client"]


@pytest.mark.parametrize(
    ("wish", "named"),
    [({"resources": {"GPU": 1}}, "GPU"), ({"workers": ["nowhere"]}, "nowhere")],
    ids=["resources", "workers"],
)
def test_the_missing_thing_is_named_within_a_second(
    pair: Client, wish: dict, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[float, dict]] = []
    pair.subscribe_topic("no-worker", lambda event: seen.append((time.monotonic(), event[1])))
    caplog.set_level(logging.WARNING, "distributed.client")
    began = time.monotonic()
    futures = pair.map(inc, range(1000), key=[f"inc-{i}" for i in range(1000)], **wish)
    poll(lambda: seen)
    ((when, event),) = seen
    assert 0.4 < event["since-s"] < 1 or when - began < 1.5  # the former unless the machine is very slow
    assert named in event["reason"]
    assert event["n-tasks"] == 1000
    assert event["keys"][0].startswith("inc-")
    # The client says it too, without being asked.
    poll(lambda: told(caplog))
    (line,) = told(caplog)
    assert named in line
    assert "1000 task(s)" in line
    assert pair.why(futures[-1])["unsatisfied"] == [event["reason"]]
    assert all(future.status == "pending" for future in futures)


def test_one_event_for_each_cause_however_many_submissions(pair: Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        mine = list(pool.map(lambda i: pair.submit(inc, i, resources={"GPU": 1}), range(200)))
    mine += [pair.submit(inc, 1000 + i, workers=["nowhere"]) for i in range(20)]
    poll(lambda: len(events(pair, "no-worker")) == 2)
    more = [pair.submit(inc, -i, resources={"GPU": 1}) for i in range(1, 50)]
    poll(lambda: pair.why(more[-1])["state"] == "no-worker")
    other = pair.submit(inc, 5000, resources={"TPU": 1})
    poll(lambda: len(events(pair, "no-worker")) > 2)
    assert ["GPU" in e["reason"] for e in events(pair, "no-worker")].count(True) == 1
    assert "TPU" in events(pair, "no-worker")[-1]["reason"]
    assert other.status == "pending"


def test_another_client_that_waits_hears_of_it_too(pair: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "distributed.client")
    first = pair.submit(inc, 1, resources={"GPU": 1})
    poll(lambda: len(told(caplog)) == 1)
    with Client(pair.scheduler.address, set_as_default=False) as other:
        second = other.submit(inc, 2, resources={"GPU": 1})
        poll(lambda: len(told(caplog)) == 2)
        assert second.status == first.status == "pending"


def test_a_task_above_names_the_key_it_waits_for_and_all_goes_on_when_a_worker_comes(pair: Client) -> None:
    below = pair.submit(inc, 1, resources={"GPU": 1}, key="below")
    above = pair.submit(inc, below, key="above")
    poll(lambda: events(pair, "no-worker"))
    assert pair.why(above)["waiting_on"] == [("below", "no-worker")]
    (worker, *_) = pair.scheduler_info()["workers"]
    pair.run(_give_gpu, workers=[worker])
    assert above.result(timeout=30) == 3


async def _give_gpu(dask_worker) -> None:
    await dask_worker.set_resources(GPU=1)


def test_nothing_is_said_of_a_cluster_that_is_still_starting() -> None:
    with small_cluster(n_workers=0) as client:
        future = client.submit(inc, 1, resources={"GPU": 1})
        poll(lambda: client.why(future)["state"] == "no-worker")
        assert client.why(future)["text"] == "no worker: there are no workers"
        assert not events(client, "no-worker")
