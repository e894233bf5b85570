"""The version: the dask release that this one belongs to, and a count of our own as the fourth number.

``dask[distributed]`` and ``dask[complete]`` ask for exactly the ``distributed`` of their own release. A version outside
that range would let pip put another package of this name in our place. Other packages read its parts as whole numbers.
"""

__version__ = "2026.8.0.1"
