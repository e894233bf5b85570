"""What every figure must reach, and what it should: the table of ``make bench``.

A figure is compared with the incumbent's, or another peer's (``against``), of the same rounds (``ratio``: how many
times better we are), with an absolute bound (``value``), or with another figure of ours (``of``). A pattern stands for
many figures: the geometric mean of their ratios (``mean ratio``), and the smallest of them (``least ratio``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """``must`` and ``goal`` for one figure. ``kind``: ``ratio``, ``mean ratio``, ``least ratio`` or ``value``; ``of``
    divides by another figure; ``against`` names the system that a ratio is with."""

    figure: str
    must: float
    goal: float
    kind: str = "ratio"
    of: str = ""
    against: str = "incumbent"

    @property
    def name(self) -> str:
        """The figure, and what it is held against when that is not the incumbent's."""
        if self.of:
            return f"{self.figure} / {self.of}"
        if self.many:
            return f"{self.figure}, {self.kind}"
        return self.figure if self.against == "incumbent" else f"{self.figure}, against {self.against}"

    @property
    def many(self) -> bool:
        """Whether ``figure`` is a pattern that many figures match."""
        return self.kind in ("mean ratio", "least ratio")

    def met(self, found: float, bound: float) -> bool:
        """Whether ``found`` is as good as ``bound``: ratios are large, values are small."""
        return found >= bound if self.kind != "value" else found <= bound


GOALS = (
    Goal("map_gather_tasks_per_s", 20, 60),
    Goal("map_gather_100k_tasks_per_s", 20, 60),
    Goal("map_gather_tasks_per_s", 1, 1, against="multiprocessing.Pool"),
    Goal("map_gather_100k_tasks_per_s", 1, 1, against="multiprocessing.Pool"),
    Goal("map_gather_client_scheduler_us_per_task", 60, 20, "value"),
    Goal("map_gather_worker_us_per_task", 40, 10, "value"),
    Goal("latency_median_us", 500, 120, "value"),
    Goal("latency_p99_us", 2000, 500, "value"),
    Goal("latency_inprocess_median_us", 300, 60, "value"),
    Goal("as_completed_16_tasks_per_s", 15, 40),
    Goal("tree_tasks_per_s", 6, 15),
    Goal("shuffle_tasks_per_s", 6, 15),
    Goal("all_to_all_tasks_per_s", 8, 20),
    Goal("chain_tasks_per_s", 15, 50),
    Goal("worker_to_worker_MiB_per_s", 2, 3.5),
    Goal("scatter_MiB_per_s", 6, 12),
    Goal("gather_MiB_per_s", 5, 10),
    Goal("made_worker_to_worker_MiB_per_s", 2, 3.5),
    Goal("made_gather_MiB_per_s", 5, 10),
    Goal("broadcast_2_s", 3, 6),
    Goal("broadcast_4_s", 3, 6),
    Goal("broadcast_2_copies", 2.5, 1.5, "value"),
    Goal("broadcast_4_copies", 4.5, 1.5, "value"),
    Goal("small_arrays_MB_per_s", 4, 10),
    Goal("scheduler_bytes_per_pending_task", 1500, 700, "value"),
    Goal("million_s", 600, 60, "value"),
    Goal("idle_64_cpu_percent", 4, 10),
    Goal("idle_200_cpu_percent", 4, 10),
    Goal("inprocess_200_us_per_task", 1.3, 1.1, "value", of="inprocess_2_us_per_task"),
    Goal("import_s", 2, 3),
    Goal("import_to_first_result_s", 1.5, 3),
    Goal("close_s", 1, 3),
    Goal("spill_s", 1, 2),
    Goal("worker_pss_MB", 1 / 0.75, 1 / 0.6),
    Goal("*_wall_s", 2, 4, "mean ratio"),
    Goal("*_wall_s", 1, 1.2, "least ratio"),
    Goal("graph_path_array_client_us_per_task", 40, 20, "value"),
    Goal("graph_path_array_scheduler_us_per_task", 20, 20, "value"),
    Goal("graph_path_frame_client_us_per_task", 40, 20, "value"),
    Goal("graph_path_frame_scheduler_us_per_task", 20, 20, "value"),
)
