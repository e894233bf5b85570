"""How tasks go from state to state. Pure: functions of (tables, task, ...), no recursion.

===================== ============================================================ ==============
from -> to            when                                                         file
===================== ============================================================ ==============
released -> waiting   it is needed (by a client or by a dependent)                 start
waiting -> processing its dependencies are in memory and a worker was chosen       assign
waiting -> queued     ... and no worker has room                                   assign
waiting -> no-worker  ... and no worker qualifies                                  assign
queued -> processing  a worker has room                                            assign
no-worker -> ...      the fleet changed                                            assign
processing -> memory  TaskFinished                                                 finish
processing -> waiting its worker died, gave it back, or lost an input              assign, lost
memory -> released    not needed any more, or its last holder is gone              release, lost
any -> erred          it raised, or a dependency did, or its workers kept dying    fail
erred -> released     retry, or nobody cares any more                              fail, release
any -> released       not needed any more, or cancelled                            release
released -> forgotten no client wants it and no known task depends on it           release
===================== ============================================================ ==============
"""
