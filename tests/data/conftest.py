"""Fixtures of the tests of data."""

import pytest
from helpers.corpora import counts, sampler_of


@pytest.fixture
def sampler(tmp_path):
    """Return the sampler of nine micrographs of 20 x 40 pixels."""
    images = {f"{number}.npy": counts(number, (20, 40)) for number in range(9)}
    return sampler_of(images, tmp_path)
