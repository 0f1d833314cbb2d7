"""Micrographs by formula, so that book, tests and training need no download.

fields --> micrographs --> scenes

>>> import numpy as np
>>> micrograph((48, 64), np.random.default_rng(0)).shape
(48, 64)
"""

from emdn.specimens.micrographs import (
    KINDS,
    film,
    lattice,
    membranes,
    micrograph,
    particles,
)
from emdn.specimens.scenes import scene

__all__ = ["KINDS", "film", "lattice", "membranes", "micrograph", "particles", "scene"]
