"""Files out: bit for bit, whole or not at all, refused early."""

import io
import os
import subprocess
import sys

import mrcfile
import numpy as np
import pytest
import tifffile
from helpers.formats import (
    BAD_IMAGES,
    IMAGE,
    NARROW,
    STACK,
    WRITABLE,
    checked,
    every_writable,
    quick,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from emdn.io import (
    Metadata,
    MicrographError,
    check_output,
    is_readable,
    read_micrograph,
    write_frames,
    write_micrograph,
)


@every_writable
@quick
@given(data=st.data())
def test_reading_gives_back_what_was_written(suffix, data, tmp_path):
    if suffix in (".mrc", ".mrcs"):
        dtypes = st.sampled_from(["i1", "i2", "u2", "f2", "f4"]).map(np.dtype)
    elif suffix == ".png":
        dtypes = st.sampled_from(["u1", "u2", ">u2"]).map(np.dtype)
    else:
        dtypes = st.one_of(
            nps.integer_dtypes(endianness="?"),
            nps.unsigned_integer_dtypes(endianness="?"),
            nps.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        )
    images = nps.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
    columns = st.integers(1, 9)
    if suffix == ".npy":
        columns = st.integers(5, 9)  # fewer may be colours
    stacks = st.tuples(st.integers(2, 4), st.integers(1, 9), columns)
    shapes = images if suffix == ".png" else st.one_of(images, stacks)
    image = data.draw(nps.arrays(dtypes, shapes))
    write_micrograph(tmp_path / f"a{suffix}", image, overwrite=True)
    result, metadata = read_micrograph(tmp_path / f"a{suffix}")
    native = image.astype(image.dtype.newbyteorder("="))
    assert (result.dtype, result.shape) == (native.dtype, native.shape)
    assert result.tobytes() == native.tobytes()
    assert metadata == Metadata()


@pytest.mark.parametrize("suffix", sorted(set(WRITABLE) - {".png"}))
def test_infinite_pixels_come_back(suffix, tmp_path):
    """Their sum is not a number, which is no fault of the image."""
    image = np.array([[-np.inf, np.inf]], np.float32)
    write_micrograph(tmp_path / f"a{suffix}", image)
    assert np.array_equal(read_micrograph(tmp_path / f"a{suffix}")[0], image)


# Sizes that a microscope can mean, and a TIFF's fractions can hold, in each unit.
SIZES = {"nm": (1e-4, 1e6), "um": (1e-6, 1e3), "A": (1e-3, 1e6), "pm": (0.1, 1e6)}
SIZES |= {"1/nm": (1e-6, 1e3), "mrad": (1e-6, 1e3)}


@pytest.mark.parametrize("unit", SIZES)
@quick
@given(data=st.data())
def test_tiff_keeps_the_pixel_size(unit, data, tmp_path):
    path, pixel_size = tmp_path / "a.tif", data.draw(st.floats(*SIZES[unit]))
    write_micrograph(path, IMAGE, Metadata(pixel_size, unit), overwrite=True)
    # A hair beyond the ends, where the fraction may lie, no microscope has a size.
    assume(SIZES[unit][0] * 1.000001 < pixel_size < SIZES[unit][1] * 0.999999)
    metadata = read_micrograph(path)[1]
    assert metadata.unit == unit
    assert metadata.pixel_size == pytest.approx(pixel_size, rel=1e-6)


@pytest.mark.parametrize(("unit", "nanometres"), [("nm", 1), ("um", 1000), ("A", 0.1)])
@quick
@given(data=st.data())
def test_mrc_keeps_the_pixel_size_in_its_own_unit(unit, nanometres, data, tmp_path):
    path, pixel_size = tmp_path / "a.mrc", data.draw(st.floats(2e-4, 9e5)) / nanometres
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


# What goes with the numbers

FACTS = Metadata(
    0.25,
    "nm",
    detector="HAADF é",
    voltage=200.0,
    dwell_time=2e-6,
    other={"microscope": "Titan = 'A\\B'", "magnification": 5e5, "frames": 3},
)


@pytest.mark.parametrize("suffix", [".tif", ".mrc", ".png"])
def test_all_facts_are_read_back(suffix, tmp_path):
    write_micrograph(tmp_path / f"a{suffix}", IMAGE, FACTS)
    _, metadata = read_micrograph(tmp_path / f"a{suffix}")
    assert metadata.pixel_size == pytest.approx(FACTS.pixel_size)
    for name in ("unit", "detector", "voltage", "dwell_time", "other"):
        assert getattr(metadata, name) == getattr(FACTS, name)


def test_imagej_reads_a_description_with_facts(tmp_path):
    write_micrograph(tmp_path / "a.tif", STACK, FACTS)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        text = file.pages.first.description
        about = file.imagej_metadata
    assert (about["unit"], about["images"]) == ("nm", 2)
    # ImageJ parses lines of "name=value"; nothing of the facts may look like another.
    assert text.isascii()
    assert text.startswith("ImageJ=")
    names = [line.partition("=")[0] for line in text.splitlines()]
    assert len(names) == len(set(names))
    assert names[-1] == "emdn"


def test_an_mrc_of_more_facts_than_its_labels_hold_keeps_the_first(tmp_path):
    many = {f"fact {number}": "x" * 60 for number in range(40)}
    facts = Metadata(1.0, "nm", "BF", other=many)
    write_micrograph(tmp_path / "a.mrc", IMAGE, facts)
    _, metadata = read_micrograph(tmp_path / "a.mrc")
    assert metadata.detector == "BF"
    assert 0 < len(metadata.other) < len(many)
    assert metadata.other.items() < many.items()
    report = io.StringIO()
    assert mrcfile.validate(tmp_path / "a.mrc", print_file=report), report.getvalue()


def test_a_volume_of_another_program_keeps_its_labels_to_itself(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc", IMAGE) as file:
        file.add_label("emdn={broken")
    assert read_micrograph(tmp_path / "a.mrc")[1] == Metadata()


# To look at


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_a_png_of_other_types_has_grey_levels_in_the_order_of_the_numbers(dtype, tmp_path):
    image = (np.arange(1000).reshape(20, 50) - 500).astype(dtype)
    write_micrograph(tmp_path / "a.png", image)
    levels, _ = read_micrograph(tmp_path / "a.png")
    assert (levels.dtype, levels.min(), levels.max()) == (np.uint8, 0, 255)
    assert (np.diff(levels.ravel().astype(int)) >= 0).all()


def test_a_png_of_what_is_not_finite_or_flat_is_written(tmp_path):
    image = np.array([[0, 1, np.nan], [2, np.inf, -np.inf]], np.float32)
    write_micrograph(tmp_path / "a.png", image)
    levels, _ = read_micrograph(tmp_path / "a.png")
    assert levels.tolist() == [[0, 127, 0], [255, 255, 0]]
    for number, flat in enumerate([np.full((4, 4), np.nan), np.full((4, 4), 7.0)]):
        write_micrograph(tmp_path / f"{number}.png", flat)
        assert not read_micrograph(tmp_path / f"{number}.png")[0].any()


# Refused before the work


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "metadata", "words"),
    [
        ("a.dm4", (5, 7), "f4", Metadata(), "unknown suffix; use one of .tif"),
        ("a", (5, 7), "f4", Metadata(), "unknown suffix"),
        ("a.mrc", (5, 7), "f8", Metadata(), "MRC cannot hold float64"),
        ("a.mrc", (5, 7), "f4", Metadata(1, "1/nm"), "MRC cannot hold pixels in 1/nm"),
        ("a.mrc", (5, 7), "f4", Metadata(1, "mrad"), "MRC cannot hold pixels in mrad"),
        ("a.tif", (5, 7), "f4", Metadata(1e-7, "nm"), "use another unit"),
        ("a.png", (2, 5, 7), "u1", Metadata(), "PNG holds one image, not a stack of 2"),
        ("a.npy", (2, 5, 3), "u1", Metadata(), "the last may be colours"),
        ("a.tif", (5, 7), "c8", Metadata(), "complex"),
        ("a.tif", (2, 2, 5, 7), "f4", Metadata(), "array of shape (2, 2, 5, 7)"),
        ("none/a.tif", (5, 7), "f4", Metadata(), "folder does not exist"),
        ("there.tif", (5, 7), "f4", Metadata(), "pass overwrite=True"),
        ("a.tif", (10**6, 10**5, 10**4), "f4", Metadata(), "free some space"),
    ],
)
def test_outputs_are_refused_before_the_work(name, shape, dtype, metadata, words, tmp_path):
    path = tmp_path / name
    (tmp_path / "there.tif").write_bytes(b"precious")
    with pytest.raises(MicrographError) as caught:
        check_output(path, shape, dtype, metadata)
    assert words in checked(str(caught.value), path)
    taken = []

    def frames():
        taken.append(1)
        yield np.zeros(shape[-2:], dtype)

    with pytest.raises(MicrographError) as caught:
        write_frames(path, frames(), shape, dtype, metadata)
    assert words in str(caught.value)
    assert not taken
    assert [each.name for each in tmp_path.iterdir()] == ["there.tif"]


@every_writable
def test_what_can_be_written_is_not_refused(suffix, tmp_path):
    check_output(tmp_path / f"a{suffix}")
    check_output(tmp_path / f"a{suffix}", (5, 7), np.uint16, Metadata(1.0, "nm"))
    assert not list(tmp_path.iterdir())


# Image by image

every_writer_of_stacks = pytest.mark.parametrize("suffix", [".tif", ".mrc", ".npy"])


@every_writer_of_stacks
@pytest.mark.parametrize("shape", [(4, 5, 7), (1, 5, 7), (5, 7)])
def test_images_one_by_one_make_the_file_of_the_whole(suffix, shape, tmp_path, rng):
    stack = rng.integers(0, 9999, shape).astype(np.uint16)
    frames = iter(stack.reshape(-1, 5, 7))
    write_frames(tmp_path / f"a{suffix}", frames, shape, stack.dtype, FACTS)
    write_micrograph(tmp_path / f"b{suffix}", stack, FACTS)
    one, other = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert one == other
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / f"a{suffix}")[0], np.squeeze(stack)
    )


@every_writer_of_stacks
@pytest.mark.parametrize(
    "wrong",
    [
        [IMAGE] * 2,
        [IMAGE] * 4,
        [IMAGE, IMAGE[:4], IMAGE],
        [IMAGE, IMAGE.astype(np.float32), IMAGE],
        [],
    ],
    ids=["too few", "too many", "another shape", "another type", "none"],
)
def test_images_that_are_not_as_announced_leave_nothing_behind(suffix, wrong, tmp_path):
    with pytest.raises(MicrographError, match="image"):
        write_frames(tmp_path / f"a{suffix}", iter(wrong), (3, 5, 7), np.uint16)
    assert not list(tmp_path.iterdir())


@every_writer_of_stacks
def test_what_fails_on_the_way_comes_out_as_it_is(suffix, tmp_path):
    def frames():
        yield IMAGE
        raise ZeroDivisionError("of the network")

    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"precious")
    with pytest.raises(ZeroDivisionError, match="of the network"):
        write_frames(path, frames(), (3, 5, 7), np.uint16, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


@every_writer_of_stacks
def test_a_file_that_is_being_written_has_a_hidden_name(suffix, tmp_path):
    def frames():
        for _ in range(3):
            seen.extend(each.name for each in tmp_path.iterdir())
            yield IMAGE

    seen = []
    write_frames(tmp_path / f"a{suffix}", frames(), (3, 5, 7), np.uint16)
    assert seen
    assert all(name.startswith(".") and not is_readable(name) for name in seen)


@pytest.mark.parametrize("suffix", [".tif", ".mrc", ".npy", "lzw.tif"])
def test_memory_does_not_grow_with_the_number_of_images(suffix, tmp_path):
    """Read and write 8 and 64 images of 512 kB, in fresh processes, and compare peaks."""
    code = """
import resource, sys
import numpy as np
import tifffile
from emdn.io import open_micrograph, write_frames
path, number = sys.argv[1], int(sys.argv[2])
frames = (np.full((512, 512), n, np.uint16) for n in range(number))
if path.endswith("lzw.tif"):
    tifffile.imwrite(
        path, frames, shape=(number, 512, 512), dtype="u2", compression="lzw",
        photometric="minisblack", metadata=None,
    )
else:
    write_frames(path, frames, (number, 512, 512), np.uint16)
source = open_micrograph(path)
assert source.shape == (number, 512, 512)
for n, frame in enumerate(source.frames()):
    assert (frame == n).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for number in (8, 64):
        path = tmp_path / f"{number}{suffix}"
        command = [sys.executable, "-c", code, str(path), str(number)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout))
    assert peaks[1] < peaks[0] + 5000  # kB; all 64 images have 33,000


@every_writable
def test_a_full_disk_is_called_so_and_leaves_nothing_behind(suffix, tmp_path):
    """A limit on the size of files, in a process of its own, stands for a full disk."""
    code = """
import resource, signal, sys
import numpy as np
from emdn.io import MicrographError, write_micrograph
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (99_000, 99_000))
noise = np.random.default_rng(0).integers(0, 60_000, (300, 300), np.uint16)
try:
    write_micrograph(sys.argv[1], noise)
except MicrographError as fault:
    print(fault)
"""
    command = [sys.executable, "-c", code, str(tmp_path / f"a{suffix}")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    message = checked(result.stdout.strip(), tmp_path / f"a{suffix}")
    assert "is full; free space" in message or "File too large" in message
    assert not list(tmp_path.iterdir())
