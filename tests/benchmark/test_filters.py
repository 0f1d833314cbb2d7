"""Filters do what their names say, with the paper's parameters or for a known gain."""

import numpy as np
import pytest
from scipy import ndimage

from emdn.benchmark import filters
from emdn.benchmark.methods import AWARE, PAPER, STABILISED
from emdn.metrics import mse
from emdn.noise import add_shot_noise, noisy_pair, sample_scale
from emdn.specimens.micrographs import KINDS


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(4)
    return noisy_pair(KINDS["membranes"]((96, 80), rng), 100.0, rng)


def test_the_gaussian_is_one_two_one_quarters(pair):
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = ndimage.correlate(pair.noisy.astype(float), kernel, mode="mirror")
    np.testing.assert_allclose(filters.gaussian(pair.noisy), expected, atol=1e-6)


@pytest.mark.parametrize("side", [3, 5])
def test_the_median_is_that_of_the_pixels_around(pair, side):
    expected = ndimage.median_filter(pair.noisy, side, mode="nearest")
    np.testing.assert_allclose(filters.median(pair.noisy, side=side), expected, atol=1e-6)


def test_the_papers_bilateral_filter_is_the_mean_of_a_disk(pair):
    """Its radiometric scale is made for 8 bits: on [0, 1] all greys are alike to it."""
    y, x = np.mgrid[-4:5, -4:5]
    disk = (np.hypot(y, x) <= 4).astype(float)
    assert disk.sum() == 49
    expected = ndimage.correlate(pair.noisy.astype(float), disk / disk.sum(), mode="mirror")
    np.testing.assert_allclose(filters.bilateral(pair.noisy), expected, atol=2e-3)


def test_the_papers_wiener_filter_shrinks_towards_local_means(pair):
    """As it is defined: by the mean variance over that of the window, zeros outside."""
    image = pair.noisy.astype(float)
    mean, square = (
        ndimage.uniform_filter(each, 3, mode="constant") for each in (image, image**2)
    )
    variance = square - mean**2
    gain = np.maximum(1 - variance.mean() / np.maximum(variance, 1e-12), 0)
    expected = mean + gain * (image - mean)
    np.testing.assert_allclose(filters.wiener_3(pair.noisy), expected, atol=1e-6)


def test_bregman_tv_smooths_more_the_smaller_its_weight(pair):
    weak = filters.aware_bregman_tv(pair.noisy, pair.gain, strength=10.0)
    assert filters.bregman_tv(pair.noisy).std() < 0.5 * weak.std()


def test_a_stabilised_method_sees_counts_and_gives_back_the_image():
    """Denoising to the mean finds the mean of even counts without a bias."""
    counts = add_shot_noise(np.ones((256, 256)), 3.0, np.random.default_rng(1))
    gain = 1 / counts.max()
    even = filters.stabilised(
        lambda values: np.full_like(values, values.mean()), counts * gain, gain
    )
    assert even.mean() / gain == pytest.approx(3.0, rel=0.01)


def test_the_mean_noise_is_that_of_the_counts():
    rng = np.random.default_rng(2)
    counts = add_shot_noise(np.full((512, 512), 0.4), 200.0, rng)
    noise = filters.mean_noise(counts / 200.0, 1 / 200.0)
    assert (counts / 200.0).std() == pytest.approx(noise, rel=0.01)


@pytest.mark.parametrize("method", [*AWARE, *STABILISED], ids=lambda method: method.name)
def test_more_strength_smooths_more(pair, method):
    # Bregman's weight is one for fidelity; the others' are for smoothing.
    keyword, weak, strong = (
        ("side", 3, 5) if method.name == "median-tuned" else ("strength", 0.3, 1.5)
    )
    handed = (pair.noisy, pair.gain) if method.knows == "gain" else (pair.noisy,)
    outputs = [method.run(*handed, **{keyword: value}) for value in (weak, strong)]
    rough = [np.abs(np.diff(output)).mean() for output in outputs]
    assert (rough[0] > rough[1]) != (method.family == "bregman-tv")


@pytest.mark.parametrize("dose_range", ["low", "ordinary"])
def test_tuned_methods_come_nearer_to_the_truth_than_the_noise(dose_range):
    rng = np.random.default_rng(6)
    clean = KINDS["particles"]((128, 128), rng)
    noisy, truth, gain = noisy_pair(clean, sample_scale(dose_range, rng), rng)
    for method in (*AWARE, *STABILISED):
        denoised = method.at(dose_range)(noisy, gain)
        assert mse(truth, denoised) < mse(truth, noisy), method.name


@pytest.mark.parametrize(
    "method", [m for m in PAPER if m.name != "wavelet"], ids=lambda method: method.name
)
def test_constant_images_stay_constant(method):
    """But for the edge, beyond which SciPy's Wiener filter sees zeros."""
    denoised = method.run(np.full((32, 32), 0.5, np.float32))
    np.testing.assert_allclose(denoised[1:-1, 1:-1], 0.5, atol=1e-3)


def test_methods_leave_the_image_alone(pair):
    before = pair.noisy.copy()
    for method in (*PAPER, *AWARE, *STABILISED):
        method.at("low")(pair.noisy, pair.gain)
    np.testing.assert_array_equal(pair.noisy, before)
