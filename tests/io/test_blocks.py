"""A part of an image is what it is in the whole image, and takes no more memory."""

import bz2
import gzip
import json

import h5py
import numpy as np
import pytest
import tifffile
from helpers.formats import write_dm, write_ser, write_velox, write_zspy

from emdn.io import (
    Metadata,
    list_images,
    open_micrograph,
    read_micrograph,
    write_bands,
    write_frames,
    write_micrograph,
)

WINDOWS = [(0, 90, 0, 107), (5, 6, 3, 100), (33, 80, 64, 65), (89, 90, 106, 107)]


def stack(dtype=np.uint16, images=3):
    numbers = np.random.default_rng(0).integers(0, 60000, (images, 90, 107))
    return numbers.astype(dtype)


TIFFS = {
    "strips": {"rowsperstrip": 17},
    "one strip": {},
    "tiles": {"tile": (32, 48)},
    "packed strips": {"rowsperstrip": 7, "compression": "zlib"},
    "packed tiles": {"tile": (48, 32), "compression": "lzw", "predictor": True},
    "BigTIFF": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "white is zero": {"photometric": "miniswhite"},
    "ImageJ": {"imagej": True},
}


@pytest.mark.parametrize("kind", TIFFS)
def test_parts_of_a_tiff(tmp_path, kind):
    path, options = tmp_path / "a.tif", {"photometric": "minisblack"} | TIFFS[kind]
    if kind == "ImageJ":
        del options["photometric"]
    tifffile.imwrite(path, stack(), **options)
    parts_are_those_of_the_whole(path)


@pytest.mark.parametrize("suffix", ["mrc", "npy", "zarr"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_parts_of_what_is_written_here(tmp_path, suffix, dtype):
    write_micrograph(tmp_path / f"a.{suffix}", stack(dtype))
    parts_are_those_of_the_whole(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("write", [write_dm, write_ser, write_velox, write_zspy])
def test_parts_of_other_formats(tmp_path, write):
    suffix = {write_dm: "dm4", write_ser: "ser", write_velox: "emd", write_zspy: "zspy"}
    path = tmp_path / f"a.{suffix[write]}"
    write(path, stack(images=1)[0])
    parts_are_those_of_the_whole(path)


def parts_are_those_of_the_whole(path):
    whole, _ = read_micrograph(path)
    source = open_micrograph(path)
    assert source.block is not None
    for number, image in enumerate(whole.reshape(-1, *whole.shape[-2:])):
        for top, bottom, left, right in WINDOWS:
            part = source.block(number, slice(top, bottom), slice(left, right))
            assert part.dtype == source.dtype
            np.testing.assert_array_equal(part, image[top:bottom, left:right])


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_file_that_is_packed_as_a_whole_has_no_parts(tmp_path, pack):
    write_micrograph(tmp_path / "a.mrc", stack())
    packed = tmp_path / ("a.mrc.gz" if pack is gzip.compress else "a.mrc.bz2")
    packed.write_bytes(pack((tmp_path / "a.mrc").read_bytes()))
    assert open_micrograph(packed).block is None


@pytest.mark.parametrize("suffix", ["tif", "mrc", "npy", "zarr"])
@pytest.mark.parametrize("height", [1, 7, 90])
def test_bands_make_the_file_that_images_make(tmp_path, suffix, height):
    images, about = stack(np.float32), Metadata(pixel_size=0.2, unit="nm", detector="HAADF")
    rows = images.reshape(-1, images.shape[-1])
    bands = (rows[top : top + height] for top in range(0, len(rows), height))
    paths = [tmp_path / f"{name}.{suffix}" for name in ("bands", "images")]
    write_bands(paths[0], bands, images.shape, np.float32, about)
    write_frames(paths[1], images, images.shape, np.float32, about)
    for path in paths:
        read, metadata = read_micrograph(path)
        np.testing.assert_array_equal(read, images)
        assert metadata == open_micrograph(paths[1]).metadata


@pytest.mark.parametrize("rows", [89, 91])
def test_too_few_and_too_many_rows_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="rows"):
        write_bands(tmp_path / "a.tif", [np.zeros((rows, 4), "f4")], (90, 4), np.float32)
    assert not list(tmp_path.iterdir())


def test_an_ome_zarr_holds_what_the_standard_asks_for(tmp_path):
    """https://ngff.openmicroscopy.org/0.5/: axes, and a scale for each level."""
    image = np.random.default_rng(0).normal(size=(1300, 900)).astype(np.float32)
    write_micrograph(tmp_path / "a.zarr", image, Metadata(pixel_size=0.3, unit="nm"))
    about = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    ome = about["attributes"]["ome"]
    (multiscale,) = ome["multiscales"]
    assert ome["version"] == "0.5"
    space = {"type": "space", "unit": "nanometer"}
    assert multiscale["axes"] == [{"name": "y", **space}, {"name": "x", **space}]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, move = dataset["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [0.3 * 2**level] * 2}
        # The middle of the first pixel of a level is the middle of those it is made of.
        assert move["translation"] == pytest.approx([0.3 * (2**level - 1) / 2] * 2)
        array = json.loads((tmp_path / "a.zarr" / str(level) / "zarr.json").read_text())
        assert array["shape"] == [1300 // 2**level, 900 // 2**level]
        assert array["dimension_names"] == ["y", "x"]


def test_each_pixel_of_a_coarser_level_is_the_mean_of_four(tmp_path):
    zarr = pytest.importorskip("zarr")
    image = np.random.default_rng(0).normal(size=(1301, 601)).astype(np.float32)
    write_micrograph(tmp_path / "a.zarr", image)
    coarse = zarr.open(str(tmp_path / "a.zarr"), mode="r")["1"][:]
    fours = image[:1300, :600].reshape(650, 2, 300, 2).mean((1, 3), dtype=float)
    np.testing.assert_allclose(coarse, fours, atol=1e-6)


def test_a_zarr_replaces_another_only_if_that_is_wanted(tmp_path):
    path = tmp_path / "a.zarr"
    write_micrograph(path, stack(images=1)[0])
    with pytest.raises(ValueError, match="exists already"):
        write_micrograph(path, stack(images=2)[1])
    write_micrograph(path, stack(images=2)[1], overwrite=True)
    np.testing.assert_array_equal(read_micrograph(path)[0], stack(images=2)[1])
    assert [each.name for each in tmp_path.iterdir()] == ["a.zarr"]


def test_a_plain_array_of_zarr_is_an_image(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.save_array(str(tmp_path / "a.zarr"), stack()[0])
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.zarr")[0], stack()[0])
    (source,) = list_images(tmp_path / "a.zarr")
    assert source.shape == (90, 107)


def test_parts_of_an_hdf5_stack_are_those_of_its_images(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        group = file.create_group("data/stack")
        group.attrs["emd_group_type"] = 1
        group["data"] = stack()
        for axis, (name, size) in enumerate(zip("zyx", (3, 90, 107), strict=True), 1):
            group[f"dim{axis}"] = np.arange(size, dtype=float)
            group[f"dim{axis}"].attrs["name"] = name
    parts_are_those_of_the_whole(tmp_path / "a.emd")
