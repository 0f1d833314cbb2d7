"""Fixtures shared by all tests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(autouse=True, scope="session")
def single_precision() -> Iterator[None]:
    """Let no processor take bfloat16 by itself: laws hold to the rounding of float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emdn.weights.backends.CPUINFO", Path("/no/such/file"))
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def micrograph() -> NDArray[np.float32]:
    """Return a small atomic lattice, (H, W) float32 in [0, 1], taller than wide."""
    # Imported here so that a fault in one module fails its own tests only.
    from emdn.specimens import lattice

    return lattice((96, 64), np.random.default_rng(0))


# What needs TensorFlow, whose import alone takes seconds: `make quick` leaves it out.
NEED_NETWORKS = {"networks", "weights", "training", "benchmark", "trust"}
NEED_NETWORKS |= {"test_denoiser.py", "test_batch.py", "test_cli.py", "test_large.py"}
NEED_NETWORKS |= {"test_widgets.py"}
NEED_NETWORKS |= {"test_pipeline.py", "test_light.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what stands in those folders and files."""
    for item in items:
        if not NEED_NETWORKS.isdisjoint(item.path.parts):
            item.add_marker(pytest.mark.slow)
