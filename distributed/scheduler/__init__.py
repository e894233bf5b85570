"""The scheduler: a pure core (``state_machine``) and the shell that feeds it."""
