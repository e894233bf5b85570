"""How busy each worker is, and finding the least busy one in O(1). Pure.

Every running worker sits in one of a few *levels*, from idle to far behind:

====== ==========================================================================
0      nothing to do
1      a thread is free
2      below ``ceil(saturation * nthreads)`` tasks
3..6   as many or more, but their expected time is below ``prefetch_s`` a thread
7..    no room for queued tasks; the more, the more expected seconds (powers of two)
====== ==========================================================================

Within a level workers keep the order in which they came into it, so that equals take turns. Events only note a worker
in ``touched``; its level is computed once in the placing beat.
"""

from __future__ import annotations

from distributed.scheduler.state_machine.entities import WorkerState
from distributed.scheduler.state_machine.tables import N_LEVELS, Tables

FIRST_FULL = 7


def level_of(ws: WorkerState) -> int:
    """The level of a running worker."""
    active = len(ws.processing) - len(ws.long_running) + ws.held_slots
    if active < ws.capacity:
        if active == 0:
            return 0
        return 1 if active < ws.nthreads else 2
    if active - ws.held_slots < ws.capacity:
        return FIRST_FULL - 1  # full of runs that nobody wants, as far as is known: only when no other has room
    occupancy = ws.occupancy
    if occupancy < ws.prefetch_s:
        return 3 + max(0, int(4 * occupancy / ws.prefetch_s))
    return min(N_LEVELS - 1, FIRST_FULL + int(1000 * occupancy / ws.nthreads).bit_length())


def refresh_worker(state: Tables, ws: WorkerState) -> None:
    """Put the worker into the level where it belongs now, behind its equals."""
    old = ws.level
    if old >= 0:
        del state.levels[old][ws]
    if not ws.running:
        ws.level = -1
        if old >= 0:
            state.idle.pop(ws.address, None)
            state.saturated.pop(ws, None)
        return
    level = level_of(ws)
    ws.level = level
    state.levels[level][ws] = None
    if old == level and level < FIRST_FULL and level != 2 and not ws.held_slots:
        # (Of level 2 there is no end when saturation is infinite.)
        return
    if level <= 1:
        state.idle[ws.address] = ws
        if old > 1:
            state.saturated.pop(ws, None)
        return
    state.idle.pop(ws.address, None)
    is_behind = ws.held_slots > 0 or ws.occupancy > state.settings.steal_backlog_s * ws.nthreads
    if is_behind and ws.n_active > ws.nthreads:
        state.saturated[ws] = None
    else:
        state.saturated.pop(ws, None)


def refresh_touched(state: Tables) -> None:
    """Bring the levels up to date."""
    touched = state.touched
    if touched:
        state.touched = {}
        for ws in touched:
            refresh_worker(state, ws)


def least_busy(state: Tables) -> WorkerState | None:
    """A running worker of the lowest level: of its first four the one with the least work, then the fewest bytes."""
    for level in state.levels:
        if level:
            best: WorkerState | None = None
            least = (0.0, 0)
            n = 4
            for ws in level:
                load = (ws.occupancy / ws.nthreads, ws.nbytes)
                if best is None or load < least:
                    best = ws
                    least = load
                n -= 1
                if not n:
                    break
            return best
    return None


def first_open(state: Tables) -> WorkerState | None:
    """A worker with room for queued tasks, the least busy first."""
    for level in state.levels[:FIRST_FULL]:
        for ws in level:
            return ws
    return None


def count_open(state: Tables) -> int:
    """How many workers have room for queued tasks."""
    return sum([len(level) for level in state.levels[:FIRST_FULL]])
