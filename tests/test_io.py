"""Files in and out: values, sizes of pixels, and one-line faults."""

import io
import logging
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import rsciio.emd
import rsciio.hspy
import tifffile
from helpers.formats import CODES, signal, write_dm, write_ser, write_velox
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from emdn.io import (
    READABLE,
    WRITABLE,
    Metadata,
    MicrographError,
    read_micrograph,
    write_micrograph,
)

IMAGE = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1001
STACK = np.stack([IMAGE, IMAGE // 2])
NARROW = STACK[..., :3].copy()  # of the shape that a small RGB picture would have

PLAIN = {
    "metadata": None,
    "resolution": (2e7, 2e7),
    "resolutionunit": "CENTIMETER",
}
# Each format, written by its own library or by hand: {name: (writer, keeps a pixel size)}.
# The size written is 0.5 nm.
BUILDERS = {
    "imagej.tif": lambda path, image: _write_tiff(
        path, image, imagej=True, resolution=(2, 2), metadata={"unit": "nm"}
    ),
    "ome.tif": lambda path, image: _write_tiff(
        path,
        image,
        ome=True,
        metadata={"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "nm"},
    ),
    "plain.tif": lambda path, image: _write_tiff(path, image, **PLAIN),
    "big.tiff": lambda path, image: _write_tiff(path, image, **PLAIN, bigtiff=True),
    "tiles.tif": lambda path, image: _write_tiff(
        path,
        image,
        tile=(16, 16),
        compression="zlib",
        resolution=(5.08e7, 5.08e7),
        resolutionunit="INCH",
    ),
    "lzw.tif": lambda path, image: _write_tiff(path, image, **PLAIN, compression="lzw"),
    "deflate.tif": lambda path, image: _write_tiff(
        path, image, **PLAIN, compression="deflate", predictor=True
    ),
    "zstd.tif": lambda path, image: _write_tiff(path, image, **PLAIN, compression="zstd"),
    "a.npy": np.save,
    "a.mrc": lambda path, image: _write_mrc(path, image),
    "big-endian.mrc": lambda path, image: _write_mrc(path, image.astype(">u2")),
    "a.dm3": lambda path, image: write_dm(path, image, pixel_size=0.5),
    "a.dm4": lambda path, image: write_dm(path, image, pixel_size=0.5),
    "a.ser": lambda path, image: write_ser(path, image, pixel_size=5e-10),
    "velox.emd": lambda path, image: write_velox(path, image, pixel_size=5e-10),
    "ncem.emd": lambda path, image: rsciio.emd.file_writer(
        str(path), signal(image, pixel_size=0.5)
    ),
    "a.hspy": lambda path, image: rsciio.hspy.file_writer(
        str(path), signal(image, pixel_size=0.5)
    ),
    "a.hdf5": lambda path, image: rsciio.hspy.file_writer(
        str(path), signal(image, pixel_size=0.5)
    ),
}
ALL_BUILDERS = {**BUILDERS, "a.png": lambda path, image: iio.imwrite(path, image[0])}

every_readable = pytest.mark.parametrize("suffix", READABLE)
every_writable = pytest.mark.parametrize("suffix", WRITABLE)
quick = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _write_tiff(path, image, **options):
    tifffile.imwrite(path, image, photometric="minisblack", **options)


def _write_mrc(path, image):
    with mrcfile.new(path) as file:
        file.set_data(image)
        file.voxel_size = 5.0  # ångströms


def _change(path, changes):
    """Overwrite bytes of a file, given as {offset: bytes}, negative from the end."""
    contents = bytearray(path.read_bytes())
    for offset, new in changes.items():
        start = offset % len(contents)
        contents[start : start + len(new)] = new
    path.write_bytes(contents)


def fault_of(path):
    """Read a file that must be refused, check the form of the message, and return it."""
    with pytest.raises(MicrographError) as caught:
        read_micrograph(path)
    return checked(str(caught.value), path)


def checked(message, path):
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message, "no remedy"
    assert len(message) < 400 + len(str(path))
    return message.removeprefix(f"{path}: ")


# What is read


@pytest.mark.parametrize("image", [IMAGE, STACK], ids=["image", "stack"])
@pytest.mark.parametrize("name", BUILDERS)
def test_every_format_gives_its_pixels_and_their_size(name, image, tmp_path):
    BUILDERS[name](tmp_path / name, image)
    result, metadata = read_micrograph(tmp_path / name)
    np.testing.assert_array_equal(result, image, strict=True)
    assert result.dtype.isnative
    assert type(result) is np.ndarray
    if name != "a.npy":
        assert (metadata.pixel_size, metadata.unit) == (pytest.approx(0.5), "nm")


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "a.npy"])
def test_narrow_stacks_are_not_taken_for_colours(name, columns, tmp_path):
    BUILDERS[name](tmp_path / name, STACK[..., :columns])
    result, _ = read_micrograph(tmp_path / name)
    np.testing.assert_array_equal(result, STACK[..., :columns], strict=True)


@pytest.mark.parametrize("name", ALL_BUILDERS)
def test_what_is_read_may_be_changed_and_leaves_the_file_alone(name, tmp_path):
    ALL_BUILDERS[name](tmp_path / name, STACK)
    before = (tmp_path / name).read_bytes()
    read_micrograph(tmp_path / name)[0][:] = 0
    assert (tmp_path / name).read_bytes() == before


def test_the_tests_build_every_readable_format():
    assert {f".{name.split('.')[-1]}" for name in ALL_BUILDERS} == set(READABLE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_gives_its_pixels(dtype, tmp_path):
    iio.imwrite(tmp_path / "a.png", IMAGE.astype(dtype))
    image, metadata = read_micrograph(tmp_path / "a.png")
    np.testing.assert_array_equal(image, IMAGE.astype(dtype), strict=True)
    assert metadata == Metadata()


@pytest.mark.parametrize("name", ["a.dm3", "a.dm4", "a.ser", "a.emd"])
@pytest.mark.parametrize("dtype", CODES)
def test_microscope_formats_keep_the_type_of_pixel(name, dtype, tmp_path):
    writer = {".ser": write_ser, ".emd": write_velox}.get(name[1:], write_dm)
    writer(tmp_path / name, STACK.astype(dtype))
    image, _ = read_micrograph(tmp_path / name)
    np.testing.assert_array_equal(image, STACK.astype(dtype), strict=True)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_mrc_keeps_the_type_of_pixel(dtype, tmp_path):
    image = (np.arange(-20, 15).reshape(5, 7)).astype(dtype)
    _write_mrc(tmp_path / "a.mrc", image)
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / "a.mrc")[0], image, strict=True
    )


def test_bytes_of_an_mrc_older_than_its_standard_are_unsigned(tmp_path):
    _write_mrc(tmp_path / "a.mrc", IMAGE.astype(np.int8))
    _change(tmp_path / "a.mrc", {108: bytes(4)})
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
    _write_mrc(tmp_path / "a.mrc", STACK)
    _change(tmp_path / "a.mrc", changes)
    image, metadata = read_micrograph(tmp_path / "a.mrc")
    assert image.shape == STACK.shape
    np.testing.assert_array_equal(image.ravel()[:-1], STACK.ravel()[:-1], strict=True)
    assert (metadata.pixel_size, metadata.unit) == (pytest.approx(0.5), "nm")


@pytest.mark.parametrize("offset", [28, 40])
def test_mrc_without_cell_or_sampling_has_no_pixel_size(offset, tmp_path):
    _write_mrc(tmp_path / "a.mrc", IMAGE)
    _change(tmp_path / "a.mrc", {offset: bytes(12)})
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


def test_suffix_may_be_in_capitals(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE)
    (tmp_path / "a.npy").rename(tmp_path / "A.NPY")
    np.testing.assert_array_equal(read_micrograph(str(tmp_path / "A.NPY"))[0], IMAGE)


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.mrc", "a.hspy"])
def test_a_stack_of_one_is_an_image(name, tmp_path):
    builders = {**BUILDERS, "a.tif": BUILDERS["plain.tif"]}
    builders[name](tmp_path / name, IMAGE[np.newaxis])
    assert read_micrograph(tmp_path / name)[0].shape == IMAGE.shape


def test_largest_image_of_a_tiff_is_read_not_its_thumbnail(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(IMAGE[::2, ::2])
        file.write(IMAGE)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], IMAGE)


def test_first_real_image_of_an_emd_file_is_read(tmp_path):
    path = tmp_path / "a.emd"
    write_velox(path, IMAGE)
    fourier = [("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")]
    with h5py.File(path, "a") as file:
        # The name sorts first, so that the complex image is met first.
        images, first = file["Data/Image"], "00000000000000000000000000000000"
        group = images.create_group(first)
        group["Data"] = np.zeros((5, 7, 1), fourier)
        (text,) = (image["Metadata"] for name, image in images.items() if name != first)
        group["Metadata"] = text[:]
    np.testing.assert_array_equal(read_micrograph(path)[0], IMAGE)


def test_emd_axes_are_turned_by_their_names(tmp_path):
    turned = signal(np.transpose(STACK, (2, 1, 0)), axes=["x", "y", "z"])
    rsciio.emd.file_writer(str(tmp_path / "a.emd"), turned)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.emd")[0], STACK)


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


def test_planar_grey_colours_are_one_image(tmp_path):
    planes = np.stack([IMAGE] * 3)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], IMAGE)


def test_jpeg_in_a_tiff_is_read_to_its_own_accuracy(tmp_path):
    image = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    _write_tiff(tmp_path / "a.tif", image, compression="jpeg")
    result, _ = read_micrograph(tmp_path / "a.tif")
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    np.testing.assert_allclose(result, image.astype(float), atol=4)


# What is read beside the pixels


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("micron", "um"),
        ("microns", "um"),
        ("µm", "um"),
        ("\N{GREEK SMALL LETTER MU}m", "um"),
        ("\\u00B5m", "um"),
        ("nm", "nm"),
        ("Å", "A"),
        ("\N{ANGSTROM SIGN}", "A"),
        ("1 / nm", "1/nm"),
    ],
)
def test_units_have_one_spelling_in_ascii(written, kept):
    assert Metadata(1.0, written).unit == kept


@pytest.mark.parametrize(
    ("pixel_size", "unit", "words"),
    [
        (0.0, "nm", "must be positive, got 0.0"),
        (float("nan"), "nm", "must be positive, got nan"),
        (1.0, None, "given together"),
        (None, "nm", "given together"),
    ],
)
def test_senseless_metadata_is_refused(pixel_size, unit, words):
    with pytest.raises(ValueError, match=words):
        Metadata(pixel_size, unit)


def test_imagej_escape_of_micro_is_understood(tmp_path):
    metadata = {"unit": "\\u00B5m"}
    tifffile.imwrite(
        tmp_path / "a.tif", IMAGE, imagej=True, resolution=(4, 4), metadata=metadata
    )
    assert read_micrograph(tmp_path / "a.tif")[1] == Metadata(0.25, "um")


@pytest.mark.parametrize("dots_per_inch", [72, 96, 300, 600, 0])
def test_dots_per_inch_of_paper_are_no_pixel_size(dots_per_inch, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        IMAGE,
        resolution=(dots_per_inch, dots_per_inch),
        resolutionunit="INCH",
    )
    assert read_micrograph(tmp_path / "a.tif")[1] == Metadata()


def test_pixels_that_are_not_square_have_no_one_size(tmp_path):
    metadata = {"unit": "nm"}
    tifffile.imwrite(
        tmp_path / "a.tif", IMAGE, imagej=True, resolution=(2, 3), metadata=metadata
    )
    assert read_micrograph(tmp_path / "a.tif")[1] == Metadata()


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (
            34682,  # FEI_HELIOS
            "[Scan]\nPixelWidth=2.5e-009\nPixelHeight=2.5e-009\n[Detectors]\nName=ETD\n",
            Metadata(2.5, "nm", "ETD"),
        ),
        (34682, "[Scan]\nPixelWidth=unknown\n", Metadata()),
        (
            34118,  # CZ_SEM
            "\nAP_IMAGE_PIXEL_SIZE\nImage Pixel Size = 2.5 nm\n"
            "DP_DETECTOR_TYPE\nDetector = InLens\n",
            Metadata(2.5, "nm", "InLens"),
        ),
    ],
)
def test_pixel_size_and_detector_of_a_scanning_microscope_are_read(
    code, text, expected, tmp_path
):
    tag = (code, "s", 0, text.encode(), True)
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, metadata=None, extratags=[tag])
    metadata = read_micrograph(tmp_path / "a.tif")[1]
    assert metadata.pixel_size == pytest.approx(expected.pixel_size)
    assert (metadata.unit, metadata.detector) == (expected.unit, expected.detector)


def test_velox_names_its_detector(tmp_path):
    write_velox(tmp_path / "a.emd", IMAGE, detector="BF")
    assert read_micrograph(tmp_path / "a.emd")[1].detector == "BF"


@pytest.mark.parametrize("unit", ["", "pixel", "<undefined>"])
def test_pixels_measured_in_pixels_have_no_size(unit, tmp_path):
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), signal(IMAGE, unit=unit))
    assert read_micrograph(tmp_path / "a.hspy")[1] == Metadata()


# What is written


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


# What is refused


def test_missing_file_is_named(tmp_path):
    assert "does not exist" in fault_of(tmp_path / "a.tif")


def test_unknown_suffix_gets_a_list_of_known_ones(tmp_path):
    message = fault_of(tmp_path / "a.xyz")
    assert all(suffix in message for suffix in READABLE)


@every_readable
def test_every_reader_refuses_a_folder(suffix, tmp_path):
    (tmp_path / f"a{suffix}").mkdir()
    assert "is not a file" in fault_of(tmp_path / f"a{suffix}")


@every_readable
def test_every_reader_refuses_an_empty_file(suffix, tmp_path):
    (tmp_path / f"a{suffix}").touch()
    assert "is empty, 0 bytes" in fault_of(tmp_path / f"a{suffix}")


@every_readable
@pytest.mark.parametrize("length", [1, 30, 3000])
def test_every_reader_refuses_text(suffix, length, tmp_path):
    (tmp_path / f"a{suffix}").write_text("To be or not to be\n" * length)
    assert "cannot be read as" in fault_of(tmp_path / f"a{suffix}")


@every_readable
def test_every_reader_refuses_a_picture_of_another_kind(suffix, tmp_path):
    other = "a.mrc" if suffix == ".tif" else "imagej.tif"
    BUILDERS[other](tmp_path / other, IMAGE)
    (tmp_path / other).rename(tmp_path / f"b{suffix}")
    if suffix == ".tiff":
        read_micrograph(tmp_path / "b.tiff")
    else:
        fault_of(tmp_path / f"b{suffix}")


@pytest.mark.parametrize("name", ALL_BUILDERS)
@settings(parent=quick, max_examples=60)
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused_or_still_whole(name, part, tmp_path):
    whole, cut = tmp_path / name, tmp_path / f"cut-{name}"
    if not whole.exists():
        ALL_BUILDERS[name](whole, STACK)
    contents = whole.read_bytes()
    cut.write_bytes(contents[: int(part * len(contents))])
    try:
        image, _ = read_micrograph(cut)
    except MicrographError as fault:
        checked(str(fault), cut)
    else:
        np.testing.assert_array_equal(image, read_micrograph(whole)[0], strict=True)


@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd", "jpeg"])
def test_compressed_pixels_must_be_whole(compression, tmp_path, rng):
    image = rng.integers(0, 256, (64, 64), np.uint8)
    _write_tiff(tmp_path / "a.tif", image, compression=compression)
    contents = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first = file.pages.first.dataoffsets[0]
    for length in [len(contents) - 1, (first + len(contents)) // 2, first + 1]:
        (tmp_path / "a.tif").write_bytes(contents[:length])
        assert "is cut short" in fault_of(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["lzw", "deflate"])
def test_damaged_compression_is_noticed(compression, tmp_path, rng):
    image = rng.integers(0, 9000, (64, 64), np.uint16)
    _write_tiff(tmp_path / "a.tif", image, compression=compression)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages.first.dataoffsets[0]
    _change(tmp_path / "a.tif", {start + 99: bytes(999)})
    assert "cannot be read as TIF" in fault_of(tmp_path / "a.tif")


@pytest.mark.parametrize("order", ["little", "big"])
def test_mrc_with_a_senseless_extension_does_not_take_its_memory(order, tmp_path):
    dtype = IMAGE.dtype.newbyteorder(order)
    _write_mrc(tmp_path / "a.mrc", IMAGE.astype(dtype))
    _change(tmp_path / "a.mrc", {92: (2**31 - 1).to_bytes(4, order)})
    tracemalloc.start()
    assert "the header is cut short" in fault_of(tmp_path / "a.mrc")
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_mrc_with_unknown_pixels_tells_their_mode(tmp_path):
    _write_mrc(tmp_path / "a.mrc", IMAGE)
    _change(tmp_path / "a.mrc", {12: b"\x65\0\0\0"})
    assert "pixels of mode 101 are unknown" in fault_of(tmp_path / "a.mrc")


@pytest.mark.parametrize("length", [1000, 1024, 1050, 1024 + IMAGE.nbytes - 1])
def test_mrc_must_be_whole(length, tmp_path):
    _write_mrc(tmp_path / "a.mrc", IMAGE)
    contents = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(contents[:length])
    assert "cannot be read as MRC" in fault_of(tmp_path / "a.mrc")


@pytest.mark.parametrize("lost", range(1, 9))
def test_ser_without_its_last_offsets_is_refused_or_still_whole(lost, tmp_path):
    write_ser(tmp_path / "a.ser", STACK)
    contents = (tmp_path / "a.ser").read_bytes()
    (tmp_path / "a.ser").write_bytes(contents[:-lost])
    # The offsets of two tags come last; of these RosettaSciIO reads the first.
    if lost > 4:
        assert "is cut short" in fault_of(tmp_path / "a.ser")
    else:
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.ser")[0], STACK)


BAD_IMAGES = {
    "complex numbers; save their size, np.abs": IMAGE * 1j,
    "true and false": IMAGE > 3,
    "no pixels": IMAGE[:0],
    "array of shape (35,)": IMAGE.ravel(),
    "array of shape (2, 2, 5, 7)": np.stack([STACK, STACK]),
    "<U1 values": np.full((5, 7), "a"),
}


@pytest.mark.parametrize("words", BAD_IMAGES)
def test_arrays_that_are_no_micrographs_are_refused_with_a_remedy(words, tmp_path):
    np.save(tmp_path / "a.npy", BAD_IMAGES[words])
    assert words in fault_of(tmp_path / "a.npy")


@every_writable
@pytest.mark.parametrize("words", [*BAD_IMAGES, "object values"])
def test_arrays_that_are_no_micrographs_are_not_written(words, suffix, tmp_path):
    image = BAD_IMAGES.get(words, IMAGE.astype(object))
    with pytest.raises(MicrographError) as caught:
        write_micrograph(tmp_path / f"a{suffix}", image)
    assert words in checked(str(caught.value), tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


AMBIGUOUS = "which may be an RGB image; save greyscale, or a stack of narrow images as TIFF"


@pytest.mark.parametrize("channels", [3, 4])
def test_arrays_that_may_be_colours_are_neither_read_nor_written(channels, tmp_path):
    array = np.zeros((5, 7, channels))
    np.save(tmp_path / "a.npy", array)
    unnamed = signal(array, axes=["", "", ""])
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), unnamed)
    for name in ["a.npy", "a.hspy"]:
        assert AMBIGUOUS in fault_of(tmp_path / name)
    with pytest.raises(MicrographError, match=AMBIGUOUS) as caught:
        write_micrograph(tmp_path / "b.npy", array)
    checked(str(caught.value), tmp_path / "b.npy")
    assert not (tmp_path / "b.npy").exists()


def test_a_stack_of_one_narrow_image_is_not_ambiguous(tmp_path):
    np.save(tmp_path / "a.npy", NARROW[:1])
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.npy")[0], NARROW[0])


@pytest.mark.parametrize("name", ["a.tif", "a.mrc", "a.dm3", "a.emd", "a.hspy"])
def test_complex_images_are_refused_in_every_format(name, tmp_path):
    image = (IMAGE * 1j).astype(np.complex64)
    {
        "a.tif": tifffile.imwrite,
        "a.mrc": lambda path, image: _write_mrc(path, image),
        "a.dm3": lambda path, image: write_dm(path, image, data_type=3),
        "a.emd": lambda path, image: rsciio.emd.file_writer(str(path), signal(image)),
        "a.hspy": lambda path, image: rsciio.hspy.file_writer(str(path), signal(image)),
    }[name](tmp_path / name, image)
    assert "complex" in fault_of(tmp_path / name)


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
    _change(tmp_path / "a.png", {24: bytes([16])})
    assert "16-bit colours" in fault_of(tmp_path / "a.png")


def test_one_bit_pictures_are_refused(tmp_path):
    iio.imwrite(tmp_path / "a.png", IMAGE > 3)
    tifffile.imwrite(tmp_path / "a.tif", IMAGE > 3)
    for name in ["a.png", "a.tif"]:
        assert "true and false" in fault_of(tmp_path / name)


def test_pickles_are_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE.astype(object))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(IMAGE))
    for name in ["a.npy", "b.npy"]:
        assert "cannot be read as NPY" in fault_of(tmp_path / name)


def test_file_of_spectra_tells_what_it_holds(tmp_path):
    spectra = signal(STACK, axes=["y", "x", "E"])
    for axis in spectra["axes"]:
        axis["navigate"] = axis["name"] != "E"
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), spectra)
    message = fault_of(tmp_path / "a.hspy")
    assert "no image, but data of shape (2, 5, 7)" in message


def test_lost_pages_of_a_tiff_are_noticed(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, contiguous=False)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        second = file.pages[1].offset
    contents = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(contents[:second])
    assert "cannot be read as TIF" in fault_of(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("suffix", "library", "opener"),
    [
        (".dm3", "rsciio.digitalmicrograph", "file_reader"),
        (".tif", "tifffile", "TiffFile"),
    ],
)
def test_nothing_but_the_error_reaches_the_user(
    suffix, library, opener, tmp_path, capfd, monkeypatch
):
    def grumble(*_):
        warnings.warn("a warning", stacklevel=2)
        logging.getLogger(library).warning("a line")
        raise KeyError("first line\nsecond line")

    monkeypatch.setattr(f"{library}.{opener}", grumble)
    (tmp_path / f"a{suffix}").write_bytes(b"anything")
    assert "first line" in fault_of(tmp_path / f"a{suffix}")
    assert capfd.readouterr() == ("", "")


# How it is written


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


def test_importing_loads_no_reader_that_is_not_needed():
    heavy = "{'rsciio', 'imageio', 'skimage', 'h5py', 'dask', 'tensorflow'}"
    code = f"import sys, emdn.io; print({heavy} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_an_npy_file_is_read_though_another_thread_disturbs_the_parser(
    tmp_path, monkeypatch
):
    """Python 3.11 raises SystemError by chance when two threads parse at once."""
    np.save(tmp_path / "a.npy", IMAGE)
    read, calls = np.lib.format.read_array, []

    def disturbed_once(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            raise SystemError("AST constructor recursion depth mismatch")
        return read(*args, **options)

    monkeypatch.setattr(np.lib.format, "read_array", disturbed_once)
    image, _ = read_micrograph(tmp_path / "a.npy")
    np.testing.assert_array_equal(image, IMAGE)
    assert len(calls) == 2
