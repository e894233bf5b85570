"""A hundred thousand trivial tasks at once."""

from __future__ import annotations

from measure import Cost, Figures, cluster, peak_bytes, run_script
from throughput import map_gather


def throughput_100k(smoke: bool) -> Figures:
    n = 500 if smoke else 100_000
    with cluster(2) as client:
        cost = Cost(client)
        cost.measure("map_gather_100k", n, lambda: map_gather(client, n))
        return {**cost.figures, "map_gather_100k_peak_MB": peak_bytes() / 2**20}


if __name__ == "__main__":
    run_script(throughput_100k)
