"""A million tasks in one map and one gather."""

from __future__ import annotations

from measure import Figures, cluster, peak_bytes, run_script, timed
from throughput import map_gather


def million(smoke: bool) -> Figures:
    n = 2_000 if smoke else 1_000_000
    with cluster(2) as client:
        seconds = timed(lambda: map_gather(client, n))
    return {"million_s": seconds, "million_peak_MB": peak_bytes() / 2**20}


if __name__ == "__main__":
    run_script(million)
