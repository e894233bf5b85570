"""Between memory and disk: which values go, which come back, and what holds tasks back meanwhile. Pure.

When the values in memory exceed the target, those used least recently are ordered to disk. Handing a task over brings
its absent inputs back: its thread reads them. A file stays as long as its value, since values do not change: to leave
once more costs nothing. A disk that takes no more is left alone for ``spill_retry_s``; the files of values that are in
memory too are given up then.
"""

from __future__ import annotations

from distributed.base.keys import Key
from distributed.worker.state_machine.events import MemoryHigh, SpillEnded
from distributed.worker.state_machine.instructions import RemoveFiles, Spill, Unload
from distributed.worker.state_machine.tables import Tables
from distributed.worker.state_machine.task import HANDED_OVER, TaskState

_LOOKS = 256
"""Values looked at in vain before a batch of events gives up."""


def is_full(t: Tables) -> bool:
    """Whether nothing more should come into memory until what is leaving has left: that ends, one way or another."""
    return bool(t.spilling.leaving) and not fits(t, 0)


def fits(t: Tables, more_nbytes: int) -> bool:
    """Whether this has room beside what is in memory, and what the runs with the executor are going to make."""
    nbytes = t.managed_nbytes - t.spilling.absent_nbytes + t.coming_nbytes + more_nbytes
    return nbytes <= t.settings.hold_nbytes


def brought_back_nbytes(t: Tables, ts: TaskState) -> int:
    """Bytes that a task's inputs bring into memory when it is handed over."""
    absent = t.spilling.absent
    return sum([dep.nbytes for dep in ts.dependencies if dep in absent]) if absent else 0


def use(t: Tables, inputs: tuple[TaskState, ...]) -> None:
    """A task with these inputs has been handed over: they are in memory from now on, and used last."""
    plan = t.spilling
    for ts in inputs:
        if ts in plan.resident:
            plan.resident.move_to_end(ts)
        elif ts in plan.absent:
            del plan.absent[ts]
            plan.absent_nbytes -= ts.nbytes
            t.entered_nbytes += ts.nbytes
            plan.resident[ts] = None
            if t.settings.most_spilled_nbytes:
                plan.drop_file(ts)
                t.outbox.instructions.append(RemoveFiles([ts.key]))


def replace(t: Tables, ts: TaskState, nbytes: int) -> None:
    """Another value has come under the key of one that is here."""
    plan = t.spilling
    plan.leave(ts)
    t.managed_nbytes += nbytes - ts.nbytes
    t.entered_nbytes += nbytes
    ts.nbytes = nbytes
    if nbytes >= t.settings.min_spill_nbytes:
        plan.enter(ts)


def plan_spills(t: Tables) -> None:
    """Order out of memory what has to go. Runs once per batch of events."""
    plan = t.spilling
    excess = t.managed_nbytes - plan.absent_nbytes - plan.leaving_nbytes - t.settings.target_nbytes
    if plan.wanted_nbytes:
        excess = max(excess, plan.wanted_nbytes - plan.leaving_nbytes)
        plan.wanted_nbytes = 0
    if excess <= 0 or not plan.resident:
        return
    unloaded: list[Key] = []
    spilled: list[Key] = []
    looks = min(_LOOKS, len(plan.resident))
    while excess > 0 and looks:
        if not plan.resident:
            break
        ts = next(iter(plan.resident))
        if ts in plan.files and not _in_use(ts):
            unloaded.append(ts.key)
            plan.absent[ts] = None
            plan.absent_nbytes += ts.nbytes
        elif _has_room(t, ts) and not _in_use(ts):
            spilled.append(ts.key)
            plan.leaving[ts] = plan.last_number + 1
            plan.leaving_nbytes += ts.nbytes
        else:
            plan.resident.move_to_end(ts)
            looks -= 1
            continue
        del plan.resident[ts]
        excess -= ts.nbytes
    if unloaded:
        t.outbox.instructions.append(Unload(unloaded))
    if spilled:
        plan.last_number += 1
        t.outbox.instructions.append(Spill(spilled, plan.last_number))
    if plan.blocked_until > t.now:
        t.wake_by(plan.blocked_until)


def on_spill_ended(t: Tables, event: SpillEnded) -> None:
    """A value has been written, or could not be."""
    plan = t.spilling
    ts = t.tasks.get(event.key)
    if ts is None or plan.leaving.get(ts) != event.number:
        return  # given up meanwhile
    del plan.leaving[ts]
    plan.leaving_nbytes -= ts.nbytes
    if not event.error:
        plan.files[ts] = event.nbytes
        plan.disk_nbytes += event.nbytes
        plan.absent[ts] = None
        plan.absent_nbytes += ts.nbytes
        plan.unblock()
    elif not event.lasting:
        plan.resident[ts] = None
        plan.blocked = event.error
        plan.blocked_until = t.now + t.settings.spill_retry_s
        _give_up_files(t)


def on_memory_high(t: Tables, event: MemoryHigh) -> None:
    """The process takes more than its values account for."""
    t.spilling.wanted_nbytes = event.nbytes


def _give_up_files(t: Tables) -> None:
    plan = t.spilling
    spare = [ts for ts in plan.files if ts in plan.resident]
    for ts in spare:
        plan.drop_file(ts)
    if spare:
        t.outbox.instructions.append(RemoveFiles([ts.key for ts in spare]))


def _in_use(ts: TaskState) -> bool:
    """Whether a run has the value in hand, so that nothing would be gained."""
    return any(dependent.state in HANDED_OVER for dependent in ts.dependents)


def _has_room(t: Tables, ts: TaskState) -> bool:
    plan = t.spilling
    if plan.blocked_until > t.now:
        return False
    most = t.settings.most_spilled_nbytes
    return not most or plan.disk_nbytes + plan.leaving_nbytes + ts.nbytes <= most
