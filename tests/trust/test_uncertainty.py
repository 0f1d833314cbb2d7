"""Laws of the uncertainty map: it covers the errors, and is large where they are."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emdn.denoiser import Denoiser
from emdn.detector import Detector
from emdn.specimens import KINDS
from emdn.trust.uncertainty import estimated_uncertainty

COUNTER = Detector(1.0)
SCINTILLATOR = Detector(7.0, offset=100.0, correlation=(0.43, 0.43))


def by_network(image, detector):
    return Denoiser(clip=False).denoise(image, detector=detector)


def covered(uncertainty, truth, deviations=1.0):
    """Return the share of pixels whose error is within so many deviations."""
    error = np.abs(uncertainty.denoised - truth)
    return float((error < deviations * uncertainty.deviation).mean())


@pytest.mark.parametrize("camera", [COUNTER, SCINTILLATOR], ids=["counter", "scintillator"])
@pytest.mark.parametrize("kind", ["membranes", "particles"])
def test_two_thirds_of_the_errors_lie_within_a_deviation(kind, camera):
    electrons = 60 * KINDS[kind]((192, 192), np.random.default_rng(1))
    noisy = camera.apply(electrons, np.random.default_rng(2))
    found = estimated_uncertainty(by_network, noisy, camera, np.random.default_rng(0))
    truth = camera.expected(electrons)
    assert 0.6 < covered(found, truth) < 0.8
    assert 0.9 < covered(found, truth, 1.96) < 0.985


@pytest.mark.parametrize("misread", [0.93, 1.07])
def test_a_gain_that_is_misread_a_little_leaves_the_map_right(misread):
    electrons = 60 * KINDS["membranes"]((192, 192), np.random.default_rng(1))
    noisy = COUNTER.apply(electrons, np.random.default_rng(2))
    found = estimated_uncertainty(
        by_network, noisy, Detector(misread), np.random.default_rng(0), noise_error=0.05
    )
    assert 0.6 < covered(found, electrons) < 0.8
    assert 0.9 < covered(found, electrons, 1.96) < 0.985


def test_noise_that_is_overstated_by_far_leaves_no_map_of_zeros():
    """The risk is far below 0 then, which no error can be."""
    electrons = 60 * KINDS["membranes"]((192, 192), np.random.default_rng(1))
    noisy = COUNTER.apply(electrons, np.random.default_rng(2))
    found = estimated_uncertainty(
        by_network, noisy, Detector(3.0), np.random.default_rng(0), noise_error=0.05
    )
    assert found.risk.mse < 0
    assert covered(found, electrons) > 0.5


def test_it_is_larger_where_errors_are_larger():
    electrons = 60 * KINDS["membranes"]((192, 192), np.random.default_rng(1))
    noisy = COUNTER.apply(electrons, np.random.default_rng(2))
    found = estimated_uncertainty(by_network, noisy, COUNTER, np.random.default_rng(0))
    error = (found.denoised - electrons) ** 2
    order = np.argsort(found.deviation, axis=None)
    least, most = np.array_split(error.ravel()[order], 4)[::3]
    assert most.mean() > 1.5 * least.mean()


def test_a_denoiser_that_keeps_everything_is_off_by_the_noise():
    electrons = np.tile(np.linspace(20.0, 80.0, 256), (256, 1))
    noisy = COUNTER.apply(electrons, np.random.default_rng(1))
    found = estimated_uncertainty(
        lambda image, _: image, noisy, COUNTER, np.random.default_rng(0)
    )
    inner = np.s_[16:-16, 16:-16]
    ratio = found.deviation[inner] / np.sqrt(electrons[inner])
    assert ratio.mean() == pytest.approx(1, abs=0.05)


def test_blur_of_fine_detail_raises_the_whole_map():
    """A blur keeps little noise, which says nothing of the detail that it loses."""
    y, x = np.mgrid[:256, :256]
    electrons = 50 + 30 * np.sin(x) * np.cos(y)
    noisy = COUNTER.apply(electrons, np.random.default_rng(1))
    found = estimated_uncertainty(
        lambda image, _: gaussian_filter(image, 3), noisy, COUNTER, np.random.default_rng(0)
    )
    error = np.mean((found.denoised - electrons) ** 2)
    assert np.mean(found.deviation**2) == pytest.approx(error, rel=0.2)
    assert found.risk.expected < 0.1 * error
