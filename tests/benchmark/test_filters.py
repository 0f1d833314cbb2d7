"""Baselines are their libraries' filters, with the paper's parameters or told the noise."""

import cv2
import numpy as np
import pytest
from scipy import ndimage, signal
from skimage import restoration

from emdn.benchmark.filters import (
    BASELINES,
    STABILISED,
    STRENGTHS,
    TOLD,
    mean_noise,
    stabilised,
    tuned_methods,
)
from emdn.metrics import mse
from emdn.noise import add_shot_noise, noisy_pair, sample_scale
from emdn.specimens.micrographs import KINDS


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(4)
    return noisy_pair(KINDS["membranes"]((96, 80), rng), 100.0, rng)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unfiltered", lambda image: image),
        ("Gaussian", lambda image: cv2.GaussianBlur(image, (3, 3), 0)),
        ("bilateral", lambda image: cv2.bilateralFilter(image, 9, 75, 75)),
        ("median", lambda image: cv2.medianBlur(image, 3)),
        ("Wiener", lambda image: signal.wiener(image.astype(float))),
        ("wavelet", restoration.denoise_wavelet),
        ("Chambolle TV", restoration.denoise_tv_chambolle),
        ("NL means", restoration.denoise_nl_means),
    ],
)
def test_the_papers_methods_are_their_libraries_defaults(pair, name, expected):
    denoised = BASELINES[name](pair.noisy, pair.gain)
    np.testing.assert_allclose(denoised, expected(pair.noisy), atol=1e-6)


def test_the_gaussian_is_one_two_one_quarters(pair):
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = ndimage.correlate(pair.noisy.astype(float), kernel, mode="mirror")
    np.testing.assert_allclose(BASELINES["Gaussian"](pair.noisy, 1.0), expected, atol=1e-6)


def test_the_papers_bilateral_filter_is_the_mean_of_a_disk(pair):
    """Its radiometric scale is made for 8 bits: on [0, 1] it tells no grey from another."""
    y, x = np.mgrid[-4:5, -4:5]
    disk = (np.hypot(y, x) <= 4).astype(float)
    assert disk.sum() == 49
    expected = ndimage.correlate(pair.noisy.astype(float), disk / disk.sum(), mode="mirror")
    denoised = BASELINES["bilateral"](pair.noisy, 1.0)
    np.testing.assert_allclose(denoised, expected, atol=2e-3)


def test_bregman_tv_smooths_more_the_smaller_its_weight(pair):
    weak = TOLD["Bregman TV, told"](pair.noisy, pair.gain, strength=10.0)
    papers = BASELINES["Bregman TV"](pair.noisy, pair.gain)
    assert papers.std() < 0.5 * weak.std()


def test_a_stabilised_method_sees_counts_and_gives_back_the_image():
    """Denoising to the mean finds the mean of even counts without a bias."""
    counts = add_shot_noise(np.ones((256, 256)), 3.0, np.random.default_rng(1))
    scale = counts.max()
    method = stabilised(lambda values: np.full_like(values, values.mean()))
    assert method(counts / scale, scale).mean() * scale == pytest.approx(3.0, rel=0.01)


def test_the_mean_noise_is_that_of_the_counts():
    rng = np.random.default_rng(2)
    counts = add_shot_noise(np.full((512, 512), 0.4), 200.0, rng)
    noise = mean_noise(counts / 200.0, 200.0)
    assert (counts / 200.0).std() == pytest.approx(noise, rel=0.01)


@pytest.mark.parametrize("name", [*TOLD, *STABILISED])
def test_more_strength_smooths_more(pair, name):
    # Bregman's weight is one for fidelity; the others' are for smoothing.
    weak, strong = (3, 5) if name.startswith("median") else (0.3, 1.5)
    outputs = [
        tuned_methods(dict.fromkeys([*TOLD, *STABILISED], strength))[name](
            pair.noisy, pair.gain
        )
        for strength in (weak, strong)
    ]
    rough = [np.abs(np.diff(output)).mean() for output in outputs]
    assert (rough[0] > rough[1]) != name.startswith("Bregman")


@pytest.mark.parametrize("dose_range", STRENGTHS)
def test_tuned_methods_come_nearer_to_the_truth_than_the_noise(dose_range):
    rng = np.random.default_rng(6)
    clean = KINDS["particles"]((128, 128), rng)
    noisy, truth, gain = noisy_pair(clean, sample_scale(dose_range, rng), rng)
    for name, method in tuned_methods(STRENGTHS[dose_range]).items():
        assert mse(truth, method(noisy, gain)) < mse(truth, noisy), name


@pytest.mark.parametrize("name", sorted(BASELINES.keys() - {"wavelet"}))
def test_constant_images_stay_constant(name):
    """But for the edge, beyond which SciPy's Wiener filter sees zeros."""
    denoised = BASELINES[name](np.full((32, 32), 0.5, np.float32), 50.0)
    np.testing.assert_allclose(denoised[1:-1, 1:-1], 0.5, atol=1e-3)


def test_methods_leave_the_image_alone(pair):
    methods = BASELINES | tuned_methods(STRENGTHS["low"])
    before = pair.noisy.copy()
    for method in methods.values():
        method(pair.noisy, pair.gain)
    np.testing.assert_array_equal(pair.noisy, before)
