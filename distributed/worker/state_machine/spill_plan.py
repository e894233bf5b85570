"""Which values are in memory and which on disk. Pure; changed by ``transitions/spilling.py``.

A value in memory that may go to disk is *resident*. Ordered to disk it is *leaving*, still in memory until the answer
comes; then it is *absent*: only its file is left. Values below ``min_spill_nbytes``, actors, and what could not be
pickled are in none of these and stay in memory.
"""

from __future__ import annotations

from collections import OrderedDict

from distributed.worker.state_machine.task import TaskState


class SpillPlan:
    """The tables of one worker.

    ``resident`` is in the order of last use; ``leaving`` has the number of the order to write; ``files`` the bytes of
    each file, also of values that are back in memory. ``wanted_nbytes``: so much of the process's memory is to go,
    whatever the values take. ``blocked``: why nothing can be written before ``blocked_until``.
    """

    __slots__ = ("absent", "absent_nbytes", "blocked", "blocked_until", "disk_nbytes", "files", "last_number",
                 "leaving", "leaving_nbytes", "resident", "wanted_nbytes")  # fmt: skip

    def __init__(self) -> None:
        self.resident: OrderedDict[TaskState, None] = OrderedDict()
        self.leaving: dict[TaskState, int] = {}
        self.absent: dict[TaskState, None] = {}
        self.files: dict[TaskState, int] = {}
        self.leaving_nbytes = 0
        self.absent_nbytes = 0
        self.disk_nbytes = 0
        self.wanted_nbytes = 0
        self.last_number = 0
        self.blocked = ""
        self.blocked_until = 0.0

    def enter(self, ts: TaskState) -> None:
        """A value that may go to disk has come into memory."""
        if not ts.actor and ts.unshippable is None:
            self.resident[ts] = None

    def leave(self, ts: TaskState) -> None:
        """The value is given up, wherever it is. Its size is still the old one."""
        self.resident.pop(ts, None)
        if self.leaving.pop(ts, 0):
            self.leaving_nbytes -= ts.nbytes
        if ts in self.absent:
            del self.absent[ts]
            self.absent_nbytes -= ts.nbytes
        if ts in self.files:
            self.drop_file(ts)
            self.unblock()

    def drop_file(self, ts: TaskState) -> None:
        """The file of a value is removed."""
        self.disk_nbytes -= self.files.pop(ts)

    def unblock(self) -> None:
        """There may be room on disk again."""
        self.blocked, self.blocked_until = "", 0.0
