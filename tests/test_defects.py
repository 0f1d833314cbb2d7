"""Hot and dead pixels are found, and no pixel of a specimen is taken for one."""

import numpy as np
import pytest

from emdn import specimens
from emdn.defects import Defects, Pixels
from emdn.denoiser import Denoiser
from emdn.detector import Detector
from emdn.specimens import KINDS

CAMERAS = {
    "counting": Detector(1.0),
    "CCD": Detector(7.0, offset=100.0, readout=2.0),
    "scintillator": Detector(7.0, offset=100.0, readout=1.0, correlation=(0.3, 0.3)),
}
DOSES = [0.3, 1.0, 3.0, 10.0, 50.0, 300.0, 2500.0]
MAKERS = KINDS | {"scene": specimens.scene}


def unsound(image, parts=None):
    """Say which pixels of an image, or of parts of it, are taken for defects."""
    pixels = Pixels.of(image, np.zeros(image.shape, bool))
    rows, columns = parts or (slice(0, len(image)), pixels.columns)
    return Defects.of(pixels).unsound(pixels, rows, columns)[1]


def exposed(kind, scale, seed=0, shape=(256, 256)):
    """Return a specimen of up to so many expected counts, and counts of it."""
    rng = np.random.default_rng(seed)
    truth = scale * MAKERS[kind](shape, rng)
    return truth, rng.poisson(truth).astype(np.float32)


def some_pixels(shape, part=1e-3, seed=1):
    return np.random.default_rng(seed).random(shape) < part


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("name", [*MAKERS, *specimens.names()])
def test_less_than_one_pixel_in_a_million_of_a_specimen_is_taken_for_a_defect(name, camera):
    rng = np.random.default_rng(0)
    if name in MAKERS:
        clean = np.asarray(MAKERS[name]((400, 400), rng), float)
    else:
        clean = specimens.load(name)[0].astype(float)
    clean -= clean.min()
    taken = size = 0
    for dose in DOSES:
        noisy = CAMERAS[camera].apply(clean * dose / clean.mean(), rng)
        taken += unsound(np.asarray(noisy, np.float32)).sum()
        size += noisy.size
    assert size > 1e6
    assert taken <= 1e-6 * size


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3, 1.0, 5.0])
def test_less_than_one_count_in_a_million_is_taken_for_a_defect(rate):
    counts = np.random.default_rng(0).poisson(rate, (1024, 1024)).astype(np.float32)
    assert unsound(counts).sum() <= 1


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("value", [350, 700, 1500])
@pytest.mark.parametrize("gain", [1.0, 12.5, -1.0])
def test_lone_hot_pixels_are_found(kind, value, gain):
    _, noisy = exposed(kind, 70.0)
    hot = some_pixels(noisy.shape)
    noisy[hot] = value
    found = unsound(np.float32(gain) * noisy + np.float32(50))
    assert not found[~hot].any()
    assert found[hot].mean() > 0.9  # the rest touch each other


@pytest.mark.parametrize("side", [2, 3, 5])
def test_a_bright_particle_of_a_few_pixels_is_no_defect(side):
    _, noisy = exposed("film", 70.0)
    noisy[100 : 100 + side, 80 : 80 + side] *= 8
    assert not unsound(noisy).any()


@pytest.mark.parametrize("width", [0.7, 0.85, 1.5])
@pytest.mark.parametrize("x", [80.0, 80.25, 80.5])
def test_a_bright_atom_is_no_defect(width, x):
    """Atoms of 1.65 pixels' full width at half maximum, and of more."""
    rows, columns = np.mgrid[:128, :128]
    atom = np.exp(-((rows - 64) ** 2 + (columns - x) ** 2) / (2 * width**2))
    counts = np.random.default_rng(0).poisson(20 + 2000 * atom)
    assert not unsound(counts.astype(np.float32)).any()


def test_a_part_of_an_image_has_the_defects_of_the_whole_image():
    _, noisy = exposed("membranes", 70.0)
    hot = some_pixels(noisy.shape, part=1e-2)
    hot[::255, ::255] = True  # the corners
    noisy[hot] = 700
    noisy[80:120, 50] = np.nan
    noisy[30, 40:42] = np.inf, -np.inf
    noisy[31, 41] = 700
    whole = unsound(noisy)
    assert whole[0, 0]
    assert whole[-1, -1]
    for rows in (slice(0, 7), slice(7, 8), slice(8, 256)):
        for columns in (slice(0, 1), slice(1, 90), slice(90, 256)):
            part = unsound(noisy, (rows, columns))
            np.testing.assert_array_equal(part, whole[rows, columns])


@pytest.mark.filterwarnings("ignore:.*are hot or dead")
@pytest.mark.parametrize("value", [350, 700])
def test_lone_hot_pixels_leave_next_to_nothing_in_the_result(value):
    truth, noisy = exposed("membranes", 70.0)
    hot = some_pixels(noisy.shape)
    left = {}
    for name, seen in (("sound", noisy), ("hot", np.where(hot, np.float32(value), noisy))):
        restored = Denoiser(progress=False).denoise(seen, gain=1)
        left[name] = np.median((restored - truth)[hot])
    assert abs(left["hot"] - left["sound"]) < 2
