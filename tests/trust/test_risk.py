"""Laws of estimated risks: right in the mean, whatever the denoiser, detector and dose."""

import numpy as np
import pytest
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from emdn.anscombe import anscombe, inverse_anscombe
from emdn.detector import Detector, estimate_detector
from emdn.trust.risk import (
    estimated_risk,
    noise_error_of,
    residual_levels,
    residual_whiteness,
    respond,
)

CAMERAS = {
    "counter": Detector(1.0),
    "CCD": Detector(3.7, offset=100.0, readout=3.0),
    "inverted": Detector(-2.0, offset=900.0, readout=0.5),
    "scintillator": Detector(7.0, offset=100.0, correlation=(0.445, 0.445)),
}
COUNTER = CAMERAS["counter"]


def waves(dose, side=128):
    """Return expected electrons of waves of about 50 pixels."""
    y, x = np.mgrid[:side, :side]
    return dose * (1 + 0.7 * np.sin(x / 8) * np.cos(y / 9))


def smooth(image, _):
    """Denoise by a linear filter."""
    return gaussian_filter(image, 2.0)


def shrink(image, detector):
    """Denoise by a filter that is anything but linear, in stabilised counts."""
    black = detector.offset - detector.gain * detector.readout**2
    values = anscombe(np.maximum((image - black) / detector.gain, 0))
    mean = gaussian_filter(values, 1.5)
    kept = 0.3 * (values - mean) * np.exp(-np.abs(values - mean) / 3)
    return inverse_anscombe(mean + kept) * detector.gain + black


def risks(denoise, camera, dose, draws):
    """Return estimates, standard errors, true errors and variances of noise."""
    electrons = waves(dose)
    truth, rows = camera.expected(electrons), []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        noisy = camera.apply(electrons, rng)
        response = respond(denoise, noisy, camera, rng)
        risk = estimated_risk(noisy, response)
        error = np.mean((response.denoised - truth) ** 2)
        rows.append((risk.mse, risk.error, error, risk.noise))
    return np.array(rows).T


@pytest.mark.parametrize("denoise", [smooth, shrink])
@pytest.mark.parametrize("dose", [0.5, 5.0, 50.0])
def test_the_risk_of_counts_is_unbiased_and_knows_its_error(denoise, dose):
    mse, error, truth, _ = risks(denoise, COUNTER, dose, 25)
    misses = (mse - truth) / error
    assert abs(misses.mean()) < 3 / np.sqrt(25)
    assert 0.3 < misses.std() < 1.4


@pytest.mark.parametrize("denoise", [smooth, shrink])
@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_the_risk_is_unbiased_for_cameras(camera, denoise):
    mse, error, truth, noise = risks(denoise, camera, 20.0, 25)
    # At borders, which a detector mirrors, shared noise is stronger than inside: by 1 % of
    # all noise in images of 128 pixels.
    borders = 0.015 * noise.mean() if any(camera.correlation) else 0
    assert abs((mse - truth).mean()) < 3 * error.mean() / np.sqrt(25) + borders


def test_a_small_risk_is_known_to_the_fluctuation_of_the_noise(rng):
    """Its standard error is that of the noise's power over N pixels, and covers."""
    for side in (64, 128, 256):
        rows = []
        electrons = waves(20.0, side)
        for seed in range(20):
            noisy = COUNTER.apply(electrons, np.random.default_rng(seed))
            response = respond(smooth, noisy, COUNTER, rng)
            risk = estimated_risk(noisy, response)
            truth = np.mean((response.denoised - electrons) ** 2)
            assert truth < 0.06 * risk.noise
            rows.append((risk.mse - truth, risk.error, risk.noise))
        miss, error, noise = np.array(rows).T
        expected = np.sqrt(2 / side**2) * noise.mean()
        np.testing.assert_allclose(error, expected, rtol=0.25)
        assert (abs(miss) < 2 * error).mean() >= 0.85
        assert abs(miss.mean()) < 3 * expected / np.sqrt(20)


@pytest.mark.parametrize("misread", [0.9, 0.95, 1.05, 1.1])
def test_noise_that_is_misread_is_within_the_standard_error(misread, rng):
    """A detector that was measured may be wrong by some standard errors of 5 %."""
    noisy = COUNTER.apply(waves(20.0, 256), rng)
    response = respond(smooth, noisy, Detector(misread), rng)
    risk = estimated_risk(noisy, response, 0.05)
    truth = np.mean((response.denoised - waves(20.0, 256)) ** 2)
    assert abs(risk.mse - truth) < 2.5 * risk.error
    assert abs(risk.mse - truth) > 3 * estimated_risk(noisy, response).error


def test_only_a_detector_that_is_measured_and_no_counter_has_noise_in_doubt(rng):
    ramp = np.tile(np.linspace(20.0, 60.0, 256), (256, 1))
    camera = Detector(3.7, offset=10.0, readout=2.0)
    assert noise_error_of(None) == 0
    assert noise_error_of(estimate_detector(COUNTER.apply(ramp, rng))) == 0
    assert 0.01 < noise_error_of(estimate_detector(camera.apply(ramp, rng))) < 0.1


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_who_does_nothing_keeps_all_noise_and_errs_by_it(camera, rng):
    noisy = camera.apply(waves(30.0, 256), rng)
    noise = np.var(noisy - camera.expected(waves(30.0, 256)))
    risk = estimated_risk(noisy, respond(lambda image, _: image, noisy, camera, rng))
    assert risk.kept == pytest.approx(1.0, abs=0.03)
    assert risk.mse == pytest.approx(noise, rel=0.04)
    assert risk.noise == pytest.approx(noise, rel=0.02)


def test_who_ignores_the_image_keeps_no_noise(rng):
    noisy = COUNTER.apply(waves(30.0), rng)
    response = respond(lambda image, _: np.full(image.shape, 30.0), noisy, COUNTER, rng)
    assert estimated_risk(noisy, response).kept == pytest.approx(0.0, abs=0.01)


def test_a_linear_filter_keeps_what_its_middle_weighs(rng):
    spot = np.zeros((65, 65))
    spot[32, 32] = 1.0
    noisy = COUNTER.apply(np.full((512, 512), 20.0), rng)
    response = respond(smooth, noisy, COUNTER, rng)
    expected = gaussian_filter(spot, 2.0)[32, 32]
    assert estimated_risk(noisy, response).kept == pytest.approx(expected, rel=0.1)


@pytest.fixture
def wiener():
    """Return a texture, and the denoiser that is the best one for it at 400 counts."""
    rng = np.random.default_rng(5)
    y, x = np.fft.fftfreq(256)[:, np.newaxis], np.fft.rfftfreq(256)
    power = 4000.0 * np.exp(-(y**2 + x**2) / (2 * 0.08**2))
    texture = irfft2(rfft2(rng.normal(size=(256, 256))) * np.sqrt(power))

    def denoise(image, detector):
        dose = detector.dose(image)  # the texture's contrast goes with the dose
        signal = power * (dose / 400) ** 2
        waves = rfft2(image - image.mean()) * signal / (signal + dose)
        return irfft2(waves) + image.mean()

    return np.maximum(400 + texture, 0), denoise


def test_the_best_denoiser_errs_by_the_noise_it_keeps(wiener, rng):
    electrons, denoise = wiener
    noisy = COUNTER.apply(electrons, rng)
    response = respond(denoise, noisy, COUNTER, rng)
    risk = estimated_risk(noisy, response)
    truth = np.mean((response.denoised - electrons) ** 2)
    assert risk.expected == pytest.approx(truth, rel=0.05)
    assert risk.mse == pytest.approx(truth, rel=0.1)
    noise = (noisy - electrons).std()
    assert (noisy - response.denoised).std() / noise == pytest.approx(
        risk.residual, abs=0.01
    )
    assert risk.residual < 0.97


def test_a_worse_denoiser_errs_by_more_than_the_noise_it_keeps(wiener, rng):
    electrons, _ = wiener
    noisy = COUNTER.apply(electrons, rng)
    wide = respond(lambda image, _: gaussian_filter(image, 6.0), noisy, COUNTER, rng)
    risk = estimated_risk(noisy, wide)
    assert risk.mse > risk.expected + 5 * risk.error


def test_the_residual_of_the_best_denoiser_is_as_expected_at_all_levels(wiener, rng):
    electrons, denoise = wiener
    noisy = COUNTER.apply(electrons, rng)
    found = residual_levels(noisy, respond(denoise, noisy, COUNTER, rng), levels=6)
    assert (np.diff(found.level) > 0).all()
    np.testing.assert_allclose(found.noise, found.level, rtol=0.02)
    np.testing.assert_allclose(found.residual, found.expected, rtol=0.08)
    assert (found.residual < found.noise).all()


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_what_is_left_of_a_truth_is_seldom_taken_for_structure(camera):
    electrons = waves(10.0)
    truth = camera.expected(electrons)
    chances = [
        residual_whiteness(
            camera.apply(electrons, np.random.default_rng(seed)), truth, camera
        ).chance
        for seed in range(40)
    ]
    assert np.mean(np.array(chances) < 0.05) <= 0.15


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
@pytest.mark.parametrize("period", [4.0, 50.0])
def test_waves_that_were_taken_out_are_noticed(camera, period, rng):
    x = np.arange(128)
    electrons = 20 + 5 * np.sin(2 * np.pi * x / period) * np.ones((128, 1))
    noisy, blank = camera.apply(electrons, rng), camera.expected(np.full((128, 128), 20.0))
    whiteness = residual_whiteness(noisy, blank, camera)
    assert whiteness.chance < 1e-3
    loudest = whiteness.frequency[np.argmax(whiteness.power)]
    assert loudest == pytest.approx(1 / period, abs=0.01)
