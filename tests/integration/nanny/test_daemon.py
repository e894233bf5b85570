"""What libraries see who ask, inside a task, whether they may start processes of their own."""

from __future__ import annotations

import multiprocessing

import dask.config
import pytest

from distributed import Client


def is_daemon() -> bool:
    return multiprocessing.current_process().daemon


@pytest.mark.parametrize("wanted", [True, False])
def test_worker_processes_count_as_daemons_as_the_setting_says(wanted: bool) -> None:
    with (
        dask.config.set({"distributed.worker.daemon": wanted}),
        Client(n_workers=1, threads_per_worker=1, dashboard_address=None) as client,
    ):
        assert client.submit(is_daemon).result() is wanted
