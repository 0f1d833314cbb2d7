"""Scores agree with their formulas, with hand-made values and with scikit-image."""

import math

import numpy as np
import pytest
from skimage import metrics as oracle

from emdn.metrics import mse, psnr, psnr_of_mse, ssim


@pytest.fixture
def pair(rng, micrograph):
    """Return a clean image and one with Gaussian noise of deviation 0.1."""
    return micrograph, micrograph + rng.normal(0, 0.1, micrograph.shape)


def test_mse_by_hand():
    assert mse([[1, 2], [3, 4]], [[1, 2], [3, 8]]) == 4.0
    assert mse([[0.5]], [[0.25]]) == 0.0625


def test_mse_is_the_variance_of_the_noise(pair):
    assert mse(*pair) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("data_range", [0.5, 1, 255])
def test_metrics_agree_with_scikit_image(pair, data_range):
    clean, noisy = pair
    clean = clean.astype(float)
    assert mse(clean, noisy) == pytest.approx(oracle.mean_squared_error(clean, noisy))
    assert psnr(clean, noisy, data_range=data_range) == pytest.approx(
        oracle.peak_signal_noise_ratio(clean, noisy, data_range=data_range)
    )
    assert ssim(clean, noisy, data_range=data_range) == pytest.approx(
        oracle.structural_similarity(clean, noisy, data_range=data_range)
    )


def test_psnr_at_unit_range_is_minus_ten_log_mse(pair):
    assert psnr(*pair, data_range=1) == pytest.approx(-10 * math.log10(mse(*pair)))


@pytest.mark.parametrize("data_range", [0.5, 1, 255])
def test_the_psnr_of_an_error_is_that_of_the_images(pair, data_range):
    assert psnr_of_mse(mse(*pair), data_range=data_range) == psnr(
        *pair, data_range=data_range
    )
    assert math.isnan(psnr_of_mse(math.nan, data_range=data_range))


def test_twice_the_range_adds_six_decibels(pair):
    difference = psnr(*pair, data_range=2) - psnr(*pair, data_range=1)
    assert difference == pytest.approx(20 * math.log10(2))


def test_scores_of_equal_images(micrograph):
    assert mse(micrograph, micrograph) == 0
    assert psnr(micrograph, micrograph, data_range=1) == math.inf
    assert ssim(micrograph, micrograph, data_range=1) == 1


def test_metrics_are_symmetric(pair):
    clean, noisy = pair
    assert mse(clean, noisy) == mse(noisy, clean)
    assert psnr(clean, noisy, data_range=1) == psnr(noisy, clean, data_range=1)
    assert ssim(clean, noisy, data_range=1) == pytest.approx(
        ssim(noisy, clean, data_range=1)
    )


def test_psnr_and_ssim_do_not_depend_on_the_unit(pair):
    """An image in counts scores as one in [0, 1] if the range is in counts too."""
    clean, noisy = pair
    for metric in (psnr, ssim):
        counts = metric(clean * 200.0, noisy * 200.0, data_range=200)
        assert counts == pytest.approx(metric(clean, noisy, data_range=1), rel=1e-6)


def test_ssim_of_one_window_follows_the_formula(rng):
    clean, denoised = rng.uniform(size=(2, 7, 7))
    covariance = np.cov(clean.ravel(), denoised.ravel())  # n - 1: the sample's
    c1, c2 = 0.01**2, 0.03**2
    product = clean.mean() * denoised.mean()
    luminance = (2 * product + c1) / (clean.mean() ** 2 + denoised.mean() ** 2 + c1)
    structure = (2 * covariance[0, 1] + c2) / (np.trace(covariance) + c2)
    assert ssim(clean, denoised, data_range=1) == pytest.approx(luminance * structure)


def test_more_noise_scores_worse(rng, micrograph):
    noise = rng.normal(size=micrograph.shape)
    little, much = micrograph + 0.05 * noise, micrograph + 0.2 * noise
    assert mse(micrograph, little) < mse(micrograph, much)
    for metric in (psnr, ssim):
        assert metric(micrograph, little, data_range=1) > metric(
            micrograph, much, data_range=1
        )


def test_values_out_of_range_are_not_clipped():
    assert mse([[1.0]], [[3.0]]) == 4.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.bool_])
def test_integers_do_not_overflow(dtype):
    largest = 1 if dtype is np.bool_ else np.iinfo(dtype).max
    black, white = np.zeros((8, 8), dtype), np.full((8, 8), largest, dtype)
    assert mse(black, white) == mse(white, black) == float(largest) ** 2
    assert psnr(black, white, data_range=largest) == pytest.approx(0)
    assert ssim(black, white, data_range=largest) == pytest.approx(0, abs=1e-3)


def test_sums_are_not_taken_in_float32():
    image = np.full((1000, 1000), 1e4, dtype=np.float32)
    assert mse(image, image + np.float32(0.0625)) == 0.0625**2


def test_images_are_left_alone(pair):
    before = [image.copy() for image in pair]
    ssim(*pair, data_range=1)
    psnr(*pair, data_range=1)
    for image, copy in zip(pair, before, strict=True):
        np.testing.assert_array_equal(image, copy)


METRICS = [
    mse,
    lambda clean, denoised: psnr(clean, denoised, data_range=1),
    lambda clean, denoised: ssim(clean, denoised, data_range=1),
]


@pytest.mark.parametrize("metric", METRICS, ids=["mse", "psnr", "ssim"])
def test_unfit_images_are_refused(metric):
    image = np.zeros((8, 8))
    with pytest.raises(ValueError, match=r"same shape, got \(8, 8\) and \(8, 9\)"):
        metric(image, np.zeros((8, 9)))
    with pytest.raises(ValueError, match=r"shape \(H, W\), got \(2, 8, 8\); score"):
        metric(np.zeros((2, 8, 8)), np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match=r"shape \(H, W\), got \(0, 8\)"):
        metric(np.zeros((0, 8)), np.zeros((0, 8)))
    for broken in (np.nan, np.inf):
        with pytest.raises(ValueError, match="denoised must be finite, got 64 pixels"):
            metric(image, image + broken)
        with pytest.raises(ValueError, match="clean must be finite"):
            metric(image + broken, image)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("data_range", [0, -1, math.nan, math.inf])
def test_impossible_ranges_are_refused(metric, data_range):
    image = np.zeros((8, 8))
    with pytest.raises(ValueError, match="data_range must be positive and finite, got"):
        metric(image, image, data_range=data_range)
    with pytest.raises(TypeError, match="data_range"):
        metric(image, image)


def test_images_smaller_than_the_window_are_refused():
    image = np.zeros((6, 20))
    with pytest.raises(ValueError, match=r"at least 7 x 7 pixels, .* got shape \(6, 20\)"):
        ssim(image, image, data_range=1)
