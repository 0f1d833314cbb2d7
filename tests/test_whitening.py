"""Laws of whitening: it takes correlation out of noise, and can be undone."""

import numpy as np
import pytest

from emdn.detector import Detector
from emdn.whitening import Whitening

CAMERAS = {
    "scintillator": Detector(7.0, offset=100.0, correlation=(0.43, 0.43)),
    "scintillator that is read out": Detector(7.0, readout=3.0, correlation=(0.43, 0.43)),
    "slow amplifier": Detector(3.7, correlation=(0.4, 0.0)),
    "slow columns": Detector(3.7, correlation=(0.0, 0.4)),
    "both": Detector(3.7, offset=50.0, correlation=(0.5, 0.2)),
    "inverted": Detector(-2.0, offset=4000.0, correlation=(0.3, 0.3)),
}
cameras = pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)


@pytest.fixture
def electrons():
    """Return expected electrons, between 10 and 70, of waves of 40 pixels and more."""
    y, x = np.mgrid[:200, :333]
    return 40 + 30 * np.sin(x / 6.5) * np.cos(y / 9)


@cameras
def test_noise_becomes_white_and_keeps_its_strength_in_the_mean(camera, electrons):
    image = camera.apply(electrons, np.random.default_rng(0))
    whitening = Whitening.of(image, camera)
    noise = whitening.apply(image) - whitening.apply(camera.expected(electrons))
    for one, other in ((noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1])):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] == pytest.approx(0, abs=0.06)
    expected = abs(camera.gain) * np.sqrt(electrons.mean() + camera.readout**2)
    assert noise.std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", ["scintillator", "slow amplifier", "both", "inverted"])
def test_white_image_shows_the_electrons_before_they_spread(name, electrons):
    camera = CAMERAS[name]
    image = camera.expected(electrons)
    white = Whitening.of(image, camera).apply(image)
    expected = camera.gain * electrons + camera.offset
    inner = np.s_[16:-16, 16:-16]  # a border that is mirrored is a kink
    np.testing.assert_allclose(white[inner], expected[inner], atol=0.01 * np.ptp(expected))


@cameras
@pytest.mark.parametrize("pedestal", [0.0, 60_000.0])
def test_it_can_be_undone_and_keeps_the_mean(camera, pedestal, electrons):
    image = camera.apply(electrons, np.random.default_rng(0)) + np.float32(pedestal)
    camera = Detector(
        camera.gain, camera.offset + pedestal, camera.readout, camera.correlation
    )
    whitening = Whitening.of(image, camera)
    white = whitening.apply(image)
    assert white.dtype == image.dtype
    assert white.mean(dtype=float) == pytest.approx(image.mean(dtype=float), rel=0.01)
    undone = whitening.invert(white)
    # A slow amplifier's memory of what lies beyond the border is not known.
    inner = np.s_[16:-16, 16:-16]
    np.testing.assert_allclose(undone[inner], image[inner], atol=0.01 * image.std())
    np.testing.assert_allclose(undone, image, atol=0.3 * image.std())


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 3)])
def test_smallest_images_are_whitened(shape, electrons):
    camera = CAMERAS["scintillator"]
    image = camera.apply(electrons[: shape[0], : shape[1]], np.random.default_rng(0))
    whitening = Whitening.of(image, camera)
    undone = whitening.invert(whitening.apply(image))
    np.testing.assert_allclose(undone, image, rtol=1e-3)
