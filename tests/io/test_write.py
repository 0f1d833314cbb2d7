"""Files out: bit for bit, whole or not at all, refused early."""

import io
import os

import mrcfile
import numpy as np
import pytest
import tifffile
from formats import (
    BAD_IMAGES,
    IMAGE,
    NARROW,
    STACK,
    checked,
    every_writable,
    quick,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from emdn.io import (
    Metadata,
    MicrographError,
    read_micrograph,
    write_micrograph,
)


@every_writable
@quick
@given(data=st.data())
def test_reading_gives_back_what_was_written(suffix, data, tmp_path):
    if suffix == ".mrc":
        dtypes = st.sampled_from(["i1", "i2", "u2", "f2", "f4"]).map(np.dtype)
    else:
        dtypes = st.one_of(
            nps.integer_dtypes(endianness="?"),
            nps.unsigned_integer_dtypes(endianness="?"),
            nps.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        )
    images = nps.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
    columns = st.integers(1, 9)
    if suffix == ".npy":
        columns = columns.filter(lambda n: n not in (3, 4))  # they may be colours
    stacks = st.tuples(st.integers(2, 4), st.integers(1, 9), columns)
    image = data.draw(nps.arrays(dtypes, st.one_of(images, stacks)))
    write_micrograph(tmp_path / f"a{suffix}", image, overwrite=True)
    result, metadata = read_micrograph(tmp_path / f"a{suffix}")
    native = image.astype(image.dtype.newbyteorder("="))
    assert (result.dtype, result.shape) == (native.dtype, native.shape)
    assert result.tobytes() == native.tobytes()
    assert metadata == Metadata()


@pytest.mark.parametrize("unit", ["nm", "um", "A", "pm", "1/nm"])
@quick
@given(pixel_size=st.floats(1e-6, 1e6))
def test_tiff_keeps_the_pixel_size(unit, pixel_size, tmp_path):
    path = tmp_path / "a.tif"
    write_micrograph(path, IMAGE, Metadata(pixel_size, unit), overwrite=True)
    metadata = read_micrograph(path)[1]
    assert metadata.unit == unit
    assert metadata.pixel_size == pytest.approx(pixel_size, rel=1e-6)


@pytest.mark.parametrize(("unit", "nanometres"), [("nm", 1), ("um", 1000), ("A", 0.1)])
@quick
@given(pixel_size=st.floats(1e-4, 1e4))
def test_mrc_keeps_the_pixel_size_in_its_own_unit(unit, nanometres, pixel_size, tmp_path):
    path = tmp_path / "a.mrc"
    write_micrograph(path, STACK, Metadata(pixel_size, unit), overwrite=True)
    metadata = read_micrograph(path)[1]
    assert metadata.unit == "nm"
    assert metadata.pixel_size == pytest.approx(pixel_size * nanometres, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_imagej_would_find_pixels_unit_and_number_of_images(dtype, tmp_path):
    image = STACK.astype(dtype)
    write_micrograph(tmp_path / "a.tif", image, Metadata(0.25, "um"))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.imagej_metadata["unit"] == "um"
        assert file.imagej_metadata["images"] == 2
        assert file.pages.first.resolution == (4.0, 4.0)
        # ImageJ reads all images as one block that starts where the first does.
        start = file.pages.first.dataoffsets[0]
    block = (tmp_path / "a.tif").read_bytes()[start : start + image.nbytes]
    assert block == image.tobytes()


@pytest.mark.parametrize("columns", [1, 3, 4, 7])
def test_imagej_would_find_images_not_colours(columns, tmp_path):
    write_micrograph(tmp_path / "a.tif", STACK[..., :columns])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages.first
        assert len(file.pages) == file.imagej_metadata["images"] == 2
        assert file.imagej_metadata["frames"] == 2
        assert (page.photometric.name, page.samplesperpixel) == ("MINISBLACK", 1)


@pytest.mark.parametrize(
    "image", [IMAGE, STACK, NARROW], ids=["image", "stack", "narrow stack"]
)
def test_mrcfile_finds_our_mrc_valid(image, tmp_path):
    write_micrograph(tmp_path / "a.mrc", image.astype(np.float32), Metadata(0.25, "nm"))
    report = io.StringIO()
    valid = mrcfile.validate(tmp_path / "a.mrc", print_file=report)
    assert valid, report.getvalue()
    with mrcfile.open(tmp_path / "a.mrc") as file:
        np.testing.assert_array_equal(file.data, image)
        assert file.is_image_stack() == (image.ndim == 3)
        assert file.voxel_size.x == pytest.approx(2.5)
        assert file.voxel_size.y == pytest.approx(2.5)


@every_writable
def test_image_to_write_is_left_alone(suffix, tmp_path):
    image = IMAGE.copy()
    write_micrograph(tmp_path / f"a{suffix}", image)
    np.testing.assert_array_equal(image, IMAGE)


@every_writable
@pytest.mark.parametrize("words", [*BAD_IMAGES, "object values"])
def test_arrays_that_are_no_micrographs_are_not_written(words, suffix, tmp_path):
    image = BAD_IMAGES.get(words, IMAGE.astype(object))
    with pytest.raises(MicrographError) as caught:
        write_micrograph(tmp_path / f"a{suffix}", image)
    assert words in checked(str(caught.value), tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


@every_writable
def test_every_writer_keeps_an_existing_file(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"precious")
    with pytest.raises(MicrographError, match="pass overwrite=True") as caught:
        write_micrograph(path, IMAGE)
    checked(str(caught.value), path)
    assert path.read_bytes() == b"precious"


@every_writable
def test_every_writer_replaces_it_when_told_to(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"precious")
    write_micrograph(path, IMAGE, overwrite=True)
    np.testing.assert_array_equal(read_micrograph(path)[0], IMAGE)
    assert list(tmp_path.iterdir()) == [path]


@every_writable
def test_every_writer_wants_the_folder_to_exist(suffix, tmp_path):
    path = tmp_path / "missing" / f"a{suffix}"
    with pytest.raises(MicrographError, match="does not exist; make it") as caught:
        write_micrograph(path, IMAGE)
    checked(str(caught.value), path)


@every_writable
def test_every_writer_does_not_take_a_folder_for_a_file(suffix, tmp_path):
    (tmp_path / f"a{suffix}").mkdir()
    with pytest.raises(MicrographError, match="is a folder"):
        write_micrograph(tmp_path / f"a{suffix}", IMAGE, overwrite=True)


@every_writable
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_every_writer_leaves_nothing_behind_when_it_fails(
    step, suffix, tmp_path, monkeypatch
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"precious")
    monkeypatch.setattr(os, step, fail)
    if step == "replace":
        monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(MicrographError, match="No space left") as caught:
        write_micrograph(path, IMAGE, overwrite=True)
    checked(str(caught.value), path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


@every_writable
def test_every_writer_leaves_nothing_behind_when_interrupted(suffix, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_micrograph(tmp_path / f"a{suffix}", IMAGE)
    assert not list(tmp_path.iterdir())


def test_a_name_is_needed():
    for path in ["", "."]:
        with pytest.raises(MicrographError, match="unknown suffix"):
            write_micrograph(path, IMAGE)


def test_capitals_of_a_suffix_are_kept(tmp_path):
    for name in ["A.NPY", "A.Tif", "A.MRC"]:
        write_micrograph(tmp_path / name, IMAGE)
        np.testing.assert_array_equal(read_micrograph(tmp_path / name)[0], IMAGE)
    assert {path.name for path in tmp_path.iterdir()} == {"A.NPY", "A.Tif", "A.MRC"}


def test_formats_that_are_only_read_are_not_written(tmp_path):
    with pytest.raises(MicrographError, match="unknown suffix; use one of"):
        write_micrograph(tmp_path / "a.dm3", IMAGE)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_mrc_says_what_it_cannot_hold(dtype, tmp_path):
    with pytest.raises(MicrographError, match=r"write image.astype\(np.float32\)"):
        write_micrograph(tmp_path / "a.mrc", IMAGE.astype(dtype))
    with pytest.raises(MicrographError, match="pixels in 1/nm"):
        write_micrograph(tmp_path / "a.mrc", IMAGE, Metadata(1.0, "1/nm"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pixel_size", [5e-324, 1e-7, 1e7, 1e300])
def test_pixel_sizes_that_a_tiff_cannot_hold_are_refused(pixel_size, tmp_path):
    with pytest.raises(MicrographError, match="use another unit"):
        write_micrograph(tmp_path / "a.tif", IMAGE, Metadata(pixel_size, "nm"))
    assert not list(tmp_path.iterdir())
