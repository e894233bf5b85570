"""What many tasks of a graph have in common: calls in order, with their functions and constants. Pure.

The tasks of one layer of a collection differ in a few values (a block's number, a slice) and in their inputs. The rest,
often a dozen fused calls with pickled metadata, is one :class:`Program`: it travels as a function does, once, and each
task brings what is its own.
"""

from __future__ import annotations

from typing import Any

Step = tuple[int, tuple[int, ...], tuple[tuple[str, int], ...], tuple[int, ...]]
"""``(function, arguments, keyword arguments, drop)``: places of slots; ``drop``: slots that no later step reads."""


class Program:
    """A straight line of calls over numbered slots: the constants, then a task's values, then its inputs, then what
    the calls return. The last call's value is the task's.

    Parameters
    ----------
    constants : tuple
        What all tasks share. A task must not change it, as for dask's threads.
    steps : tuple of Step
    name : str
        What people call it: the name of the function that is called last.

    Examples
    --------
    >>> add_twice = Program((max,), ((0, (1, 2), (), ()), (0, (3, 2), (), ())), "max")
    >>> add_twice((5,), (7,))
    7
    """

    __slots__ = ("__name__", "constants", "steps")

    def __init__(self, constants: tuple[Any, ...], steps: tuple[Step, ...], name: str = "") -> None:
        self.constants = constants
        self.steps = steps
        self.__name__ = name

    def __call__(self, values: Any = (), inputs: Any = ()) -> Any:
        slots = [*self.constants, *values, *inputs]
        for function, args, kwargs, drop in self.steps:
            found = [slots[i] for i in args]
            named = {key: slots[i] for key, i in kwargs} if kwargs else {}
            for i in drop:
                slots[i] = None
            slots.append(slots[function](*found, **named))
            del found, named
        return slots[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        return Program, (self.constants, self.steps, self.__name__)

    def __repr__(self) -> str:
        return f"<Program {self.__name__} of {len(self.steps)} calls>"
