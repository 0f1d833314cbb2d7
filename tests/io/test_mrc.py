"""MRC and its relatives."""

import gzip
import struct
import tracemalloc

import mrcfile
import numpy as np
import pytest
from helpers.formats import IMAGE, STACK, change, fault_of, write_mrc
from mrcfile.dtypes import get_ext_header_dtype

from emdn.io import Metadata, read_micrograph

IMOD = struct.pack("<I", 1146047817)  # the stamp, at byte 152; flags follow


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_mrc_keeps_the_type_of_pixel(dtype, tmp_path):
    image = (np.arange(-20, 15).reshape(5, 7)).astype(dtype)
    write_mrc(tmp_path / "a.mrc", image)
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / "a.mrc")[0], image, strict=True
    )


def test_bytes_of_an_mrc_older_than_its_standard_are_unsigned(tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE.astype(np.int8))
    extremes = struct.pack("<ff", 0, 255)  # as a program wrote that knew no signed bytes
    change(tmp_path / "a.mrc", {108: bytes(4), 76: extremes})
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
    change(tmp_path / "a.mrc", {12: b"\x63\0\0\0"})
    assert "pixels of mode 99 are unknown" in fault_of(tmp_path / "a.mrc")


@pytest.mark.parametrize("length", [1000, 1024, 1050, 1024 + IMAGE.nbytes - 1])
def test_mrc_must_be_whole(length, tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE)
    contents = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(contents[:length])
    assert "cannot be read as MRC" in fault_of(tmp_path / "a.mrc")


BYTES = np.arange(-118, 31, dtype=np.int8)[:147].reshape(7, 21)


@pytest.mark.parametrize(
    ("version", "imod", "extremes", "signed"),
    [
        (0, IMOD + struct.pack("<I", 1), (-118, 28), True),
        (0, IMOD + struct.pack("<I", 1), (0, 0), True),
        (0, IMOD + struct.pack("<I", 0), (0, 255), False),
        (20140, IMOD + struct.pack("<I", 0), (0, 0), False),
        (20140, IMOD + struct.pack("<I", 1 + 4), (0, 0), True),
        (20140, b"", (0, -1), True),
        (20140, b"", (-118, 28), True),
        (20140, b"", (0, 255), False),  # against the standard, but so it was meant
        (0, b"", (0, 0), False),
        (0, b"", (-118, 28), True),
        (0, b"", (1, 254), False),
    ],
)
def test_bytes_are_signed_as_they_were_meant(version, imod, extremes, signed, tmp_path):
    write_mrc(tmp_path / "a.mrc", BYTES)
    changes = {
        108: struct.pack("<i", version),
        152: imod,
        76: struct.pack("<ff", *extremes),
    }
    change(tmp_path / "a.mrc", changes)
    expected = BYTES if signed else BYTES.view(np.uint8)
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / "a.mrc")[0], expected, strict=True
    )


@pytest.mark.parametrize(
    ("extremes", "dtype"),
    [((0, 60000), np.uint16), ((-5, 30000), np.int16), ((0, 30000), np.int16)],
)
def test_sixteen_bits_of_mode_1_are_unsigned_where_the_header_says_so(
    extremes, dtype, tmp_path
):
    image = np.array([[0, 1, 30000], [32768, 60000, 65535]], np.uint16).view(np.int16)
    write_mrc(tmp_path / "a.mrc", image)
    change(tmp_path / "a.mrc", {76: struct.pack("<ff", *extremes)})
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / "a.mrc")[0], image.view(dtype), strict=True
    )


def nibbles(columns):
    """Return a stack of four-bit numbers, and its bytes, whose rows are whole bytes."""
    stack = np.arange(3 * 5 * columns, dtype=np.uint8).reshape(3, 5, columns) % 16
    padded = np.pad(stack, ((0, 0), (0, 0), (0, columns % 2)))
    return stack, padded[..., ::2] | padded[..., 1::2] << 4


@pytest.mark.parametrize("columns", [8, 7, 1])
def test_four_bits_a_pixel_are_unpacked(columns, tmp_path):
    stack, packed = nibbles(columns)
    write_mrc(tmp_path / "a.mrc", packed.view(np.int8))
    change(tmp_path / "a.mrc", {12: struct.pack("<i", 101), 0: struct.pack("<i", columns)})
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / "a.mrc")[0], stack, strict=True
    )


def test_bytes_of_two_pixels_are_unpacked_where_imod_marks_them(tmp_path):
    stack, packed = nibbles(8)
    write_mrc(tmp_path / "a.mrc", packed.view(np.int8))
    change(tmp_path / "a.mrc", {152: IMOD + struct.pack("<I", 16)})
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / "a.mrc")[0], stack, strict=True
    )


def test_integers_of_four_bytes_are_read(tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE.astype(np.float32))
    numbers = IMAGE.astype("<i4") * 1000
    contents = (tmp_path / "a.mrc").read_bytes()[:1024] + numbers.tobytes()
    (tmp_path / "a.mrc").write_bytes(contents)
    change(tmp_path / "a.mrc", {12: struct.pack("<i", 7)})
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.mrc")[0], numbers)


@pytest.mark.parametrize(
    ("mode", "words"), [(16, "colours"), (3, "complex"), (4, "complex")]
)
def test_pixels_that_are_no_grey_levels_are_refused(mode, words, tmp_path):
    write_mrc(tmp_path / "a.mrc", np.zeros((5, 7), np.float32))
    change(tmp_path / "a.mrc", {12: struct.pack("<i", mode)})
    assert words in fault_of(tmp_path / "a.mrc")


def test_rows_come_in_the_order_of_the_file(tmp_path):
    write_mrc(tmp_path / "a.mrc", STACK)
    pixels = np.frombuffer((tmp_path / "a.mrc").read_bytes()[1024:], np.uint16)
    image, _ = read_micrograph(tmp_path / "a.mrc")
    np.testing.assert_array_equal(image.ravel(), pixels)


def test_sizes_belong_to_columns_and_rows_whatever_their_axes(tmp_path):
    write_mrc(tmp_path / "a.mrc", STACK)  # (2, 5, 7)
    cell = struct.pack("<iii", 2, 7, 5) + struct.pack("<fff", 1e4, 14.0, 10.0)
    change(tmp_path / "a.mrc", {28: cell, 64: struct.pack("<iii", 2, 3, 1)})
    assert read_micrograph(tmp_path / "a.mrc")[1].pixel_size == pytest.approx(0.2)


@pytest.mark.parametrize(
    "cell", [(70.0, 100.0), (-70.0, 50.0), (np.nan, 50.0), (1e20, 1e20)]
)
def test_cells_that_make_no_square_pixels_give_no_size(cell, tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE)
    change(tmp_path / "a.mrc", {40: struct.pack("<ff", *cell)})
    assert read_micrograph(tmp_path / "a.mrc")[1] == Metadata()


@pytest.mark.parametrize("kind", [b"FEI1", b"FEI2"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_facts_of_fei_are_in_the_extended_header(kind, order, tmp_path):
    extension = np.zeros(1, get_ext_header_dtype(kind, order))
    for name, value in {
        "Pixel size X": 1.1e-10,
        "Pixel size Y": 1.1e-10,
        "HT": 300000.0,
        "Dwell time": 2e-6,
        "STEM Detector name": b"HAADF",
        "Magnification": 105000.0,
    }.items():
        extension[name] = value
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(IMAGE.astype(IMAGE.dtype.newbyteorder(order)))
        file.set_extended_header(extension)
        file.header.exttyp = kind
    image, metadata = read_micrograph(tmp_path / "a.mrc")
    np.testing.assert_array_equal(image, IMAGE, strict=True)
    assert (metadata.pixel_size, metadata.unit) == (pytest.approx(0.11), "nm")
    assert (metadata.detector, metadata.voltage) == ("HAADF", 300.0)
    assert metadata.dwell_time == pytest.approx(2e-6)
    assert metadata.other["magnification"] == 105000.0


def test_a_packed_mrc_that_is_cut_short_is_refused(tmp_path):
    write_mrc(tmp_path / "a.mrc", STACK)
    packed = gzip.compress((tmp_path / "a.mrc").read_bytes())
    for length in (len(packed) - 1, len(packed) // 2, 20):
        (tmp_path / "b.mrc.gz").write_bytes(packed[:length])
        assert "cannot be read as MRC.GZ" in fault_of(tmp_path / "b.mrc.gz")


@pytest.mark.parametrize("side", ["nx", "ny", "nz"])
@pytest.mark.parametrize("value", [-1, 0, 2**31 - 1])
def test_senseless_sides_are_refused_in_little_memory(side, value, tmp_path):
    write_mrc(tmp_path / "a.mrc", IMAGE)
    change(
        tmp_path / "a.mrc", {("nx", "ny", "nz").index(side) * 4: struct.pack("<i", value)}
    )
    tracemalloc.start()
    fault_of(tmp_path / "a.mrc")
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()
