"""Laws of Fourier ring correlations, and of what halves say of the truth."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emdn.detector import Detector
from emdn.trust.resolution import (
    HALF_SETS,
    WITH_TRUTH,
    Correlation,
    exposure_resolution,
    ring_correlation,
)
from emdn.trust.thinning import part_of, thin

COUNTER = Detector(1.0)
CAMERAS = {
    "counter": COUNTER,
    "CCD": Detector(-3.7, offset=900.0, readout=3.0),
    "scintillator": Detector(7.0, offset=100.0, correlation=(0.445, 0.445)),
}


@pytest.fixture
def specimen():
    """Return expected electrons of a texture with detail of 6 pixels and more."""
    texture = gaussian_filter(np.random.default_rng(5).normal(size=(256, 256)), 1.5)
    return 50 * np.exp(0.3 * texture / texture.std())


def resolution(denoise, image, detector, rng):
    """Divide an exposure, denoise its halves and find what they bear out."""
    halves = thin(image, detector, 0.5, rng)
    return exposure_resolution(halves, list(map(denoise, halves[:2], halves.detectors)))


def smooth(image, _):
    """Denoise by a linear filter."""
    return gaussian_filter(image, 1.5)


def test_an_image_correlates_with_itself_in_any_units(specimen):
    curve = ring_correlation(specimen, 100 + 3 * specimen)
    np.testing.assert_allclose(curve.correlation, 1.0)
    assert curve.resolution(pixel_size=0.3) == pytest.approx(0.6)  # of two pixels
    inverted = ring_correlation(specimen, -specimen)
    np.testing.assert_allclose(inverted.correlation, -1.0)
    assert inverted.resolution() == np.inf


def test_noise_correlates_no_more_than_the_error_says():
    misses = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        curve = ring_correlation(*rng.normal(size=(2, 120, 96)))
        misses.append(curve.correlation / curve.error)
    assert np.mean(misses) == pytest.approx(0, abs=0.15)
    assert 0.75 < np.std(misses) < 1.05


def test_halves_correlate_by_their_share_of_signal(rng):
    signal, *noise = rng.normal(size=(3, 512, 512))
    curve = ring_correlation(*(signal + 2 * each for each in noise))
    share = 1 / (1 + 4)
    assert np.average(curve.correlation, weights=curve.error**-2) == pytest.approx(
        share, abs=0.01
    )
    # Rosenthal and Henderson: the whole then correlates with the truth by this.
    whole = ring_correlation(2 * signal + 2 * sum(noise), signal).correlation
    expected = np.sqrt(2 * share / (1 + share))
    assert np.average(whole, weights=curve.error**-2) == pytest.approx(expected, abs=0.01)


def test_thresholds_belong_together():
    assert np.sqrt(2 * HALF_SETS / (1 + HALF_SETS)) == pytest.approx(WITH_TRUTH)


def test_a_resolution_lies_where_the_curve_falls_through_the_threshold():
    frequency = np.array([0.1, 0.2, 0.3, 0.4])
    curve = Correlation(frequency, np.array([1.0, 0.6, 0.4, 0.9]), np.zeros(4), 0.5)
    assert curve.crossing() == pytest.approx(0.25)
    assert curve.resolution(pixel_size=0.05) == pytest.approx(0.2)


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_the_half_that_is_held_out_tells_the_correlation_with_the_truth(
    camera, specimen, rng
):
    noisy, truth = camera.apply(specimen, rng), camera.expected(specimen)
    found = resolution(smooth, noisy, camera, rng).held_out
    alone = part_of(camera, 0.5).apply(specimen / 2, np.random.default_rng(8))
    true = ring_correlation(smooth(alone, camera), truth, WITH_TRUTH)
    strong = true.correlation > 0.5
    np.testing.assert_allclose(
        found.correlation[strong], true.correlation[strong], atol=0.1
    )
    assert found.crossing() == pytest.approx(true.crossing(), abs=0.015)


def test_what_a_denoiser_invents_flatters_the_halves_alone(specimen, rng):
    invented = 4 * np.sin(2 * np.pi * 0.345 * np.arange(256)) * np.ones((256, 1))

    def invent(image, detector):
        return smooth(image, detector) + invented * detector.dose(image) / 50

    noisy = COUNTER.apply(specimen, rng)
    halves, held_out = resolution(invent, noisy, COUNTER, rng)
    ring = np.argmin(np.abs(halves.frequency - 0.345))
    assert halves.correlation[ring] > 0.9
    assert abs(held_out.correlation[ring]) < 0.1


def test_an_empty_field_resolves_nothing(rng):
    noisy = COUNTER.apply(np.full((128, 128), 20.0), rng)
    found = resolution(smooth, noisy, COUNTER, rng)
    assert found.held_out.crossing() < 0.03


def test_images_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        ring_correlation(np.ones((16, 16)), np.ones((16, 17)))


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="at least 8 x 8"):
        ring_correlation(np.ones((4, 16)), np.ones((4, 16)))
