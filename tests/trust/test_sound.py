"""What is no image is found, whatever it is, and judges nothing."""

import json
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from emdn.cli import app
from emdn.denoiser import Denoiser
from emdn.detector import Detector
from emdn.specimens import KINDS
from emdn.trust.report import assess
from emdn.trust.sound import Sound, filled, parted, sound_window

SHAPE = (160, 192)
TEXT = "EHT = 5.00 kV   WD = 4.2 mm   Mag = 10.00 K X"
COUNTER = Detector(1.0)
CAMERA = Detector(3.7, offset=100.0, readout=3.0)


def bar(width, dark, bright, height=48, letters=14):
    """Draw an information bar: a frame, two lines of text, and a scale bar."""
    picture = Image.new("L", (width, height), dark)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(letters)
    draw.line((0, 0, width, 0), fill=bright)
    for line in range(2):
        draw.text((6, 4 + 20 * line), TEXT, fill=bright, font=font)
    draw.rectangle((width - 60, height - 10, width - 8, height - 6), fill=bright)
    return np.asarray(picture, np.float64)


def noisy_image(camera=COUNTER, dose=60.0, kind="membranes"):
    clean = KINDS[kind](SHAPE, np.random.default_rng(1))
    return np.round(camera.apply(dose * clean, np.random.default_rng(2))).astype(float)


def framed(image, value):
    """Put an image into a larger one, whose margins on three sides hold a value."""
    return np.pad(image, ((5, 20), (0, 3)), constant_values=value)


# ------------------------------------------------------------------------ what is found


@pytest.mark.parametrize("dose", [2.0, 10.0, 60.0, 1000.0])
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_alone_is_sound_everywhere(kind, dose):
    image = noisy_image(COUNTER, dose, kind)
    found = Sound.of(image)
    assert found.whole
    assert found.window == (slice(0, 160), slice(0, 192))
    np.testing.assert_array_equal(found.image, image)


@pytest.mark.parametrize("dose", [0.02, 0.1, 0.5])
def test_sparse_counts_are_no_bar(dose):
    """Most of their pixels are alike, since they have no electron."""
    half = np.where(np.arange(192) < 60, dose / 10, dose) * np.ones((160, 1))
    assert Sound.of(np.random.default_rng(0).poisson(half)).whole


def test_a_vacuum_with_few_electrons_is_no_bar():
    field = np.where(np.arange(160)[:, np.newaxis] < 100, 5.0, 0.1) * np.ones(192)
    assert Sound.of(np.random.default_rng(0).poisson(field)).judged.mean() > 0.99


@pytest.mark.parametrize(("dark", "bright"), [(0, 255), (255, 0), (40, 220)])
@pytest.mark.parametrize("letters", [11, 14, 18])
@pytest.mark.parametrize("turns", range(4))
def test_a_bar_is_found_to_the_line_at_any_border(dark, bright, letters, turns):
    image = noisy_image()
    wide = np.vstack([image, bar(192, dark, bright, letters=letters)])
    found = Sound.of(np.rot90(wide, turns))
    expected = np.rot90(np.indices(wide.shape)[0] < 160, turns)
    np.testing.assert_array_equal(found.judged, expected)
    np.testing.assert_array_equal(found.image[found.window], np.rot90(image, turns))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 7.0])
def test_margins_are_found_to_the_line(value):
    image = noisy_image()
    found = Sound.of(framed(image, value))
    assert found.window == (slice(5, 165), slice(0, 192))
    np.testing.assert_array_equal(found.image[found.window], image)
    assert found.judged.sum() == image.size
    assert np.isfinite(found.image).all()


def test_saturated_areas_judge_nothing_and_break_no_window():
    image = noisy_image()
    image[40:60, 50:80] = image.max()
    found = Sound.of(image)
    assert not found.judged[40:60, 50:80].any()
    assert found.judged.sum() >= image.size - 22 * 32
    assert found.window == (slice(0, 160), slice(0, 192))


def test_hot_pixels_and_few_masked_ones_break_no_window():
    image = noisy_image()
    image[20, 30] = 1e7
    mask = np.zeros(SHAPE, bool)
    mask[50:53, 60:63] = True
    found = Sound.of(np.ma.array(image, mask=mask))
    assert found.judged.sum() == image.size - 10
    assert found.window == (slice(0, 160), slice(0, 192))
    assert found.image.max() < 1e6


def test_the_window_is_the_largest_rectangle_beside_an_area(rng):
    """Compared with all rectangles, of which there are not many in 24 x 40 cells."""
    bad = np.zeros((24 * 8, 40 * 8), bool)
    for row, column in rng.integers(0, (23 * 8, 39 * 8), (5, 2)):
        bad[row : row + 10, column : column + 9] = True
    rows, columns = sound_window(bad)
    assert not bad[rows, columns].any()
    found = (rows.stop - rows.start) * (columns.stop - columns.start)
    total = np.pad(bad, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    ends = [(a, b) for a in range(0, 192, 8) for b in range(a + 8, 193, 8)]
    for top, bottom in ends:
        inner = total[bottom, ::8] - total[top, ::8]
        for start in range(40):
            free = np.flatnonzero(inner[start:] == inner[start])[-1]
            assert found >= 8 * free * (bottom - top)


def test_bad_pixels_take_the_nearest_good_ones():
    image = np.arange(12.0).reshape(3, 4)
    image[1, 3] = np.nan
    values = filled(*parted(image, image == 0))
    assert values[0, 0] in (1.0, 4.0)
    assert values[1, 3] in (3.0, 6.0, 11.0)
    np.testing.assert_array_equal(values[2], image[2])


def test_an_image_without_a_good_pixel_is_refused():
    with pytest.raises(ValueError, match="must have a finite pixel"):
        Sound.of(np.full((16, 16), np.nan))
    with pytest.raises(ValueError, match="mask must have shape"):
        Sound.of(np.ones((16, 16)), np.ones((16, 17), bool))


# ------------------------------------------------------------------- what it changes


def by_network(image, detector):
    return Denoiser(clip=False, progress=False).denoise(image, detector=detector)


EXACT = ("gain", "dose_electrons_per_pixel")
NEARLY = {
    "mean_squared_error": 0.06,
    "uncertainty_median": 0.05,
    "share_of_noise_kept": 0.05,
    "inconsistent_share_at_1_percent": 0.5,  # coins scatter by an eighth
    "resolution_held_out_pixels": 0.2,
    "resolution_halves_pixels": 0.1,
}


@pytest.fixture(scope="module")
def alone():
    """Return reports of images without anything else, by camera and what is told of it."""
    return {
        (camera, told): assess(noisy_image(camera), by_network, detector=told)
        for camera in (COUNTER, CAMERA)
        for told in (None, camera)
    }


@pytest.mark.parametrize("camera", [COUNTER, CAMERA], ids=["counter", "camera"])
@pytest.mark.parametrize("what", ["bar", "NaN", "mask", "masked array"])
def test_a_report_is_that_of_the_image_alone(alone, camera, what):
    image, mask = noisy_image(camera), None
    if what == "bar":
        image = np.vstack([image, bar(192, 0, 255)])
    elif what == "NaN":
        image = np.pad(image, ((0, 40), (0, 16)), constant_values=np.nan)
    else:
        image = np.pad(image, ((0, 40), (0, 16)), constant_values=1e5)
        mask = image == 1e5
        mask[30:50, 60:90] = True
        image[30:50, 60:90] = -1e5
    # A hidden part of the specimen changes what is measured of a camera; so it is told.
    told, slack = (None, 1) if mask is None else (camera, 2)
    if what == "masked array":
        image, mask = np.ma.array(image, mask=mask), None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = assess(image, by_network, mask=mask, detector=told)
    numbers, expected = found.numbers, alone[camera, told].numbers
    for name in EXACT:
        assert numbers[name] == pytest.approx(expected[name], rel=0.01 * slack)
    for name, tolerance in NEARLY.items():
        assert numbers[name] == pytest.approx(expected[name], rel=slack * tolerance), name
    levels = [each.level for each in found.verdict]
    assert levels == [each.level for each in alone[camera, told].verdict]
    judged = found.sound.judged
    assert judged[:29, :192].all()
    assert not judged[160:].any()
    for each in (found.uncertainty.deviation, found.consistency.excess):
        np.testing.assert_array_equal(np.isfinite(each), judged)


def test_the_commands_take_files_with_bars_and_margins(tmp_path):
    image = noisy_image()
    files = {
        "alone": image.astype(np.uint8),
        "bar": np.vstack([image, bar(192, 0, 255)]).astype(np.uint8),
        "margin": framed(image, np.nan).astype(np.float32),
    }
    verdicts, plans = [], []
    for name, pixels in files.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, pixels)
        result = CliRunner().invoke(app, ["report", str(path), "--uncertainty"])
        assert result.exit_code == 0, result.output
        numbers = json.loads((tmp_path / f"{name}_report.json").read_text())
        assert numbers["share_of_pixels_judged"] == pytest.approx(image.size / pixels.size)
        verdicts.append([each["level"] for each in numbers["verdict"]])
        known = np.isfinite(tifffile.imread(tmp_path / f"{name}_uncertainty.tif"))
        assert known.sum() == image.size
        plan = CliRunner().invoke(app, ["plan", str(path), "--doses", "10"])
        assert plan.exit_code == 0, plan.output
        plans.append(plan.output)
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert plans[0] == plans[1] == plans[2]
