"""Fixtures shared by all tests."""

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def micrograph() -> NDArray[np.float32]:
    """Return a small atomic lattice, (H, W) float32 in [0, 1], taller than wide."""
    # Imported here so that a fault in one module fails its own tests only.
    from emdn.specimens import lattice

    return lattice((96, 64), np.random.default_rng(0))
