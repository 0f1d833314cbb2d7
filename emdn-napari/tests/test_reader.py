"""Files come as layers that know how large a pixel is."""

import numpy as np
import pytest
from napari.layers import Image

from emdn.io import Metadata, write_micrograph
from emdn_napari.reader import get_reader


def read_one(path):
    ((data, settings, kind),) = get_reader(str(path))(str(path))
    assert kind == "image"
    return Image(data, **settings)


def test_a_layer_has_the_pixels_the_name_and_the_pixel_size_of_the_file(noisy, tmp_path):
    path = tmp_path / "grid.mrc"
    write_micrograph(path, noisy, Metadata(pixel_size=0.5, unit="nm"))
    layer = read_one(path)
    np.testing.assert_array_equal(layer.data, noisy)
    assert layer.name == "grid"
    lengths = [scale * unit for scale, unit in zip(layer.scale, layer.units, strict=True)]
    assert [length.to("nm").magnitude for length in lengths] == pytest.approx([0.5, 0.5])


def test_frames_of_a_stack_are_counted(noisy, tmp_path):
    path = tmp_path / "movie.mrc"
    write_micrograph(path, np.stack([noisy] * 3), Metadata(pixel_size=1.5, unit="A"))
    layer = read_one(path)
    assert layer.data.shape == (3, *noisy.shape)
    assert layer.scale[0] == 1
    assert str(layer.units[0]) == "pixel"
    length = layer.scale[1] * layer.units[1]
    assert length.to("angstrom").magnitude == pytest.approx(1.5)


def test_a_file_without_a_pixel_size_is_in_pixels(noisy, tmp_path):
    path = tmp_path / "plain.mrc"
    write_micrograph(path, noisy)
    layer = read_one(path)
    assert [*layer.scale] == [1, 1]
    assert {str(unit) for unit in layer.units} == {"pixel"}


def test_what_is_no_single_file_is_left_to_others(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("no micrograph")
    assert get_reader(str(other)) is None
    assert get_reader(str(tmp_path / "missing.mrc")) is None
    assert get_reader(["a.mrc", "b.mrc"]) is None
