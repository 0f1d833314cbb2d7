"""Micrographs that need no download: by formula, and of real specimens.

fields --> micrographs --> scenes
real/ --> recorded

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
from emdn.specimens.recorded import load, names
from emdn.specimens.scenes import scene

__all__ = [
    "KINDS",
    "film",
    "lattice",
    "load",
    "membranes",
    "micrograph",
    "names",
    "particles",
    "scene",
]
