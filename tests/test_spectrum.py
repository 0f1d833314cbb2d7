"""White noise has its variance at every frequency, and a wave its own frequency."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emdn.spectrum import radial_spectrum


@pytest.mark.parametrize("shape", [(256, 256), (128, 301)])
def test_white_noise_has_its_variance_at_every_frequency(shape, rng):
    frequency, power = radial_spectrum(rng.normal(5, 0.3, shape))
    assert frequency[-1] == 0.5
    assert len(power) == min(shape) // 2
    assert power.mean() == pytest.approx(0.09, rel=0.05)
    assert power[8:].max() < 2 * 0.09


@settings(deadline=None)
@given(st.integers(4, 28))
def test_a_wave_peaks_at_its_frequency(waves):
    y = np.arange(64)[:, np.newaxis]
    image = np.sin(2 * np.pi * waves * y / 64) * np.ones(64)
    frequency, power = radial_spectrum(image)
    assert frequency[np.argmax(power)] == pytest.approx(waves / 64, abs=1 / 64)


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 8 x 8 pixels"):
        radial_spectrum(np.zeros((7, 20)))
