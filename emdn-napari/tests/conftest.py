"""Micrographs for the tests, and a screen that is not there."""

import os

import numpy as np
import pytest
from numpy.typing import NDArray

if "DISPLAY" not in os.environ:  # before Qt looks for one
    os.environ["QT_QPA_PLATFORM"] = "offscreen"


@pytest.fixture
def noisy() -> NDArray[np.uint16]:
    """Return counts of a bright disc, (96, 128)."""
    rows, columns = np.mgrid[:96, :128]
    clean = np.where(np.hypot(rows - 48, columns - 64) < 30, 60.0, 20.0)
    return np.random.default_rng(0).poisson(clean).astype(np.uint16)
