"""MRC and its relatives."""

import tracemalloc

import mrcfile
import numpy as np
import pytest
from formats import (
    IMAGE,
    STACK,
    change,
    fault_of,
    write_mrc,
)

from emdn.io import (
    Metadata,
    read_micrograph,
)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_mrc_keeps_the_type_of_pixel(dtype, tmp_path):
    image = (np.arange(-20, 15).reshape(5, 7)).astype(dtype)
    write_mrc(tmp_path / "a.mrc", image)
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / "a.mrc")[0], image, strict=True
    )


def test_bytes_of_an_mrc_older_than_its_standard_are_unsigned(tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE.astype(np.int8))
    change(tmp_path / "a.mrc", {108: bytes(4)})
    image, _ = read_micrograph(tmp_path / "a.mrc")
    np.testing.assert_array_equal(image, IMAGE.astype(np.uint8), strict=True)


@pytest.mark.parametrize(
    "changes",
    [
        {208: bytes(8)},  # neither the letters MAP nor the order of bytes
        {208: b"\0\0\0\0DA\0\0", 104: bytes(8)},
        {212: bytes([0x11, 0x11, 0, 0])},  # the wrong order
        {-1: b"\0 and more than the header says"},
    ],
    ids=["no MAP", "old", "wrong order", "longer"],
)
def test_mrc_with_an_odd_header_is_read(changes, tmp_path):
    write_mrc(tmp_path / "a.mrc", STACK)
    change(tmp_path / "a.mrc", changes)
    image, metadata = read_micrograph(tmp_path / "a.mrc")
    assert image.shape == STACK.shape
    np.testing.assert_array_equal(image.ravel()[:-1], STACK.ravel()[:-1], strict=True)
    assert (metadata.pixel_size, metadata.unit) == (pytest.approx(0.5), "nm")


@pytest.mark.parametrize("offset", [28, 40])
def test_mrc_without_cell_or_sampling_has_no_pixel_size(offset, tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE)
    change(tmp_path / "a.mrc", {offset: bytes(12)})
    image, metadata = read_micrograph(tmp_path / "a.mrc")
    np.testing.assert_array_equal(image, IMAGE)
    assert metadata == Metadata()


def test_extended_mrc_header_is_skipped(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc", IMAGE) as file:
        file.set_extended_header(np.zeros(64, "V1"))
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.mrc")[0], IMAGE)


def test_pixel_size_of_an_old_fei_mrc_is_in_its_extended_header(tmp_path):
    extension = np.zeros(131072, "V1")
    extension[44:48] = np.array([5e-10], "<f4").view("V1")
    with mrcfile.new(tmp_path / "a.mrc", IMAGE) as file:
        file.voxel_size = 1.0
        file.set_extended_header(extension)
        file.header.nversion = 0
    image, metadata = read_micrograph(tmp_path / "a.mrc")
    np.testing.assert_array_equal(image, IMAGE)
    assert (metadata.pixel_size, metadata.unit) == (pytest.approx(0.5), "nm")


@pytest.mark.parametrize("order", ["little", "big"])
def test_mrc_with_a_senseless_extension_does_not_take_its_memory(order, tmp_path):
    dtype = IMAGE.dtype.newbyteorder(order)
    write_mrc(tmp_path / "a.mrc", IMAGE.astype(dtype))
    change(tmp_path / "a.mrc", {92: (2**31 - 1).to_bytes(4, order)})
    tracemalloc.start()
    assert "the header is cut short" in fault_of(tmp_path / "a.mrc")
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_mrc_with_unknown_pixels_tells_their_mode(tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE)
    change(tmp_path / "a.mrc", {12: b"\x65\0\0\0"})
    assert "pixels of mode 101 are unknown" in fault_of(tmp_path / "a.mrc")


@pytest.mark.parametrize("length", [1000, 1024, 1050, 1024 + IMAGE.nbytes - 1])
def test_mrc_must_be_whole(length, tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE)
    contents = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(contents[:length])
    assert "cannot be read as MRC" in fault_of(tmp_path / "a.mrc")
