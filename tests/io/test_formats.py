"""What holds for every format alike."""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rsciio.emd
import rsciio.hspy
import tifffile
from helpers.formats import (
    ALL_BUILDERS,
    BUILDERS,
    IMAGE,
    STACK,
    checked,
    every_readable,
    fault_of,
    quick,
    signal,
    write_dm,
    write_mrc,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from emdn.io import (
    READABLE,
    WRITABLE,
    MicrographError,
    is_readable,
    open_micrograph,
    read_micrograph,
    write_micrograph,
)

# Each picture in JPEG is read with a warning, which a test of its own expects.
pytestmark = pytest.mark.filterwarnings("ignore:.*is packed by JPEG")


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
    built = {"." + name.partition(".")[2] for name in ALL_BUILDERS}
    built |= {"." + name.rpartition(".")[2] for name in ALL_BUILDERS}
    packed = {name for name in READABLE if name.endswith((".gz", ".bz2"))}
    # Two are built where HDF5 is tested, and Zarr where parts of images are.
    assert set(READABLE) - packed - built == {".h5", ".zspy", ".zarr"}
    assert {name for name in built if name.endswith((".gz", ".bz2"))} - {
        ".gz",
        ".bz2",
    } < packed


def test_suffix_may_be_in_capitals(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE)
    (tmp_path / "a.npy").rename(tmp_path / "A.NPY")
    np.testing.assert_array_equal(read_micrograph(str(tmp_path / "A.NPY"))[0], IMAGE)


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.mrc", "a.hspy"])
def test_a_stack_of_one_is_an_image(name, tmp_path):
    builders = {**BUILDERS, "a.tif": BUILDERS["plain.tif"]}
    builders[name](tmp_path / name, IMAGE[np.newaxis])
    assert read_micrograph(tmp_path / name)[0].shape == IMAGE.shape


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
    other = "a.mrc" if suffix.startswith(".tif") else "imagej.tif"
    BUILDERS[other](tmp_path / other, IMAGE)
    (tmp_path / other).rename(tmp_path / f"b{suffix}")
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


@pytest.mark.parametrize("name", ["a.tif", "a.mrc", "a.dm3", "a.emd", "a.hspy"])
def test_complex_images_are_refused_in_every_format(name, tmp_path):
    image = (IMAGE * 1j).astype(np.complex64)
    {
        "a.tif": tifffile.imwrite,
        "a.mrc": lambda path, image: write_mrc(path, image),
        "a.dm3": lambda path, image: write_dm(path, image, data_type=3),
        "a.emd": lambda path, image: rsciio.emd.file_writer(str(path), signal(image)),
        "a.hspy": lambda path, image: rsciio.hspy.file_writer(str(path), signal(image)),
    }[name](tmp_path / name, image)
    assert "complex" in fault_of(tmp_path / name)


def test_importing_loads_no_reader_that_is_not_needed():
    heavy = "{'rsciio', 'imageio', 'skimage', 'h5py', 'dask', 'tensorflow'}"
    code = f"import sys, emdn.io; print({heavy} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("name", BUILDERS)
def test_frames_are_the_images_of_the_array(name, tmp_path):
    BUILDERS[name](tmp_path / name, STACK)
    source = open_micrograph(tmp_path / name)
    assert (source.shape, source.dtype) == (STACK.shape, STACK.dtype)
    frames = list(source.frames())
    assert all(frame.dtype.isnative for frame in frames)
    np.testing.assert_array_equal(np.stack(frames), STACK, strict=True)
    np.testing.assert_array_equal(source.read(), STACK, strict=True)


@pytest.mark.parametrize("name", ["a\nb.tif", "a\x1b[31m.mrc", "\u202ea.npy", "a\tb.xyz"])
def test_names_of_files_cannot_break_the_line_or_colour_it(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"nonsense")
    with pytest.raises(MicrographError) as caught:
        read_micrograph(path)
    assert str(caught.value).isprintable()
    with pytest.raises(MicrographError) as caught:
        write_micrograph(path, IMAGE)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["nothing", "nothing.tif", "nothing.docx"])
def test_what_does_not_exist_is_said_not_to_exist(name, tmp_path):
    assert "does not exist" in fault_of(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("a.tif", True),
        ("A.MRC", True),
        ("scan.001.ser", True),
        ("tilt.st.GZ", True),
        ("notes.txt", False),
        ("notes.gz", False),
        ("notes.tar.gz", False),
        ("a.png.gz", False),
        ("._a.tif", False),
        (".emdn-0123.tif", False),
        ("tif", False),
    ],
)
def test_names_of_micrographs_are_known(name, readable):
    assert is_readable(name) == readable


def test_special_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.mrc").symlink_to("c.mrc")
    for name in ["a.tif", "b.png"]:
        assert "is not a file" in fault_of(tmp_path / name)
    assert "does not exist" in fault_of(tmp_path / "c.mrc")


def test_what_unpacks_without_end_is_refused(tmp_path):
    (tmp_path / "b.mrc.gz").write_bytes(gzip.compress(bytes(2**24)) * 40)  # 0.7 GB
    assert "would unpack" in fault_of(tmp_path / "b.mrc.gz")


def test_the_table_of_formats_names_every_suffix():
    table = Path(__file__).parents[2] / "book" / "tables" / "formats.md"
    rows = table.read_text().splitlines()
    told = {word.strip("`") for row in rows for word in re.findall(r"`\.[\w.]+`", row)}
    plain = {each for each in READABLE if not each.endswith((".gz", ".bz2"))}
    assert {each for each in told if not each.endswith((".gz", ".bz2"))} == plain | {
        ".txt",
        ".hdr",
    }
    assert {each for each in told if each.endswith((".gz", ".bz2"))} < set(READABLE)
    written = next(row for row in rows if row.startswith("Written are"))
    assert set(re.findall(r"`(\.\w+)`", written)) == set(WRITABLE)
