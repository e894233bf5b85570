"""The simulator: real cores of scheduler and workers in a modelled world, under virtual time and seeded chance.

``docs/SIMULATION.md`` is its guide. ``faults.make_script(seed)`` makes a script, ``episode.Episode(script).run()``
plays it and checks the rules of ``checkers``. Imports nothing of the shells; everything but ``__main__`` is pure.
"""
