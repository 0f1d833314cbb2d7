"""PNG, JPEG and BMP."""

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from formats import (
    IMAGE,
    change,
    fault_of,
)

from emdn.io import (
    Metadata,
    read_micrograph,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_gives_its_pixels(dtype, tmp_path):
    iio.imwrite(tmp_path / "a.png", IMAGE.astype(dtype))
    image, metadata = read_micrograph(tmp_path / "a.png")
    np.testing.assert_array_equal(image, IMAGE.astype(dtype), strict=True)
    assert metadata == Metadata()


def test_grey_colours_are_one_image(tmp_path):
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    alpha = np.full_like(grey, 255)
    for name, channels in {
        "rgb.png": [grey] * 3,
        "rgba.png": [grey] * 3 + [alpha],
        "la.png": [grey, alpha],
        "rgb.tif": [grey] * 3,
    }.items():
        iio.imwrite(tmp_path / name, np.stack(channels, axis=-1))
        np.testing.assert_array_equal(
            read_micrograph(tmp_path / name)[0], grey, strict=True
        )


def test_colours_are_refused(tmp_path, rng):
    colours = rng.integers(0, 256, (5, 7, 3), np.uint8)
    for name in ["a.png", "a.tif"]:
        iio.imwrite(tmp_path / name, colours)
        assert "an RGB image of shape (5, 7, 3)" in fault_of(tmp_path / name)


def test_transparency_that_varies_is_refused(tmp_path):
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    iio.imwrite(tmp_path / "a.png", np.stack([grey, grey], axis=-1))
    assert "a transparent image of shape (5, 7, 2)" in fault_of(tmp_path / "a.png")


def test_sixteen_bit_colours_of_a_png_are_not_cut_to_eight(tmp_path):
    iio.imwrite(tmp_path / "a.png", np.zeros((5, 7, 3), np.uint8))
    change(tmp_path / "a.png", {24: bytes([16])})
    assert "16-bit colours" in fault_of(tmp_path / "a.png")


def test_one_bit_pictures_are_refused(tmp_path):
    iio.imwrite(tmp_path / "a.png", IMAGE > 3)
    tifffile.imwrite(tmp_path / "a.tif", IMAGE > 3)
    for name in ["a.png", "a.tif"]:
        assert "true and false" in fault_of(tmp_path / name)
