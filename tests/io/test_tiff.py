"""TIFF: which image, whose size, which numbers, what damage."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
import tifffile
from helpers.formats import IMAGE, PLAIN, STACK, change, checked, fault_of, write_tiff

from emdn.io import Metadata, MicrographError, list_images, read_micrograph

U8 = np.arange(64 * 80, dtype=np.uint32).reshape(64, 80).astype(np.uint8)
U16 = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80)


def ome(path, *images):
    """Write an OME-TIFF of images, each with its sides and their units."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for image, width, unit, height, height_unit in images:
            size = {"PhysicalSizeX": width, "PhysicalSizeXUnit": unit}
            size |= {"PhysicalSizeY": height, "PhysicalSizeYUnit": height_unit}
            file.write(image, metadata={"axes": "ZYX"[-image.ndim :], **size})


def test_largest_image_of_a_tiff_is_read_not_its_thumbnail(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(IMAGE[::2, ::2])
        file.write(IMAGE)
    with pytest.warns(UserWarning, match="holds 2 images; 'Series 2' is read, left out"):
        image, _ = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, IMAGE)


def test_planar_grey_colours_are_one_image(tmp_path):
    planes = np.stack([IMAGE] * 3)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], IMAGE)


@pytest.mark.filterwarnings("ignore:.*is packed by JPEG")
def test_jpeg_in_a_tiff_is_read_to_its_own_accuracy(tmp_path):
    image = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    write_tiff(tmp_path / "a.tif", image, compression="jpeg")
    result, _ = read_micrograph(tmp_path / "a.tif")
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    np.testing.assert_allclose(result, image.astype(float), atol=4)


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


@pytest.mark.filterwarnings("ignore:.*is packed by JPEG")
@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd", "jpeg"])
def test_compressed_pixels_must_be_whole(compression, tmp_path, rng):
    image = rng.integers(0, 256, (64, 64), np.uint8)
    write_tiff(tmp_path / "a.tif", image, compression=compression)
    contents = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first = file.pages.first.dataoffsets[0]
    for length in [len(contents) - 1, (first + len(contents)) // 2, first + 1]:
        (tmp_path / "a.tif").write_bytes(contents[:length])
        assert "is cut short" in fault_of(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["lzw", "deflate"])
def test_damaged_compression_is_noticed(compression, tmp_path, rng):
    image = rng.integers(0, 9000, (64, 64), np.uint16)
    write_tiff(tmp_path / "a.tif", image, compression=compression)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages.first.dataoffsets[0]
    change(tmp_path / "a.tif", {start + 99: bytes(999)})
    assert "cannot be read as TIF" in fault_of(tmp_path / "a.tif")


def test_lost_pages_of_a_tiff_are_noticed(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, contiguous=False)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        second = file.pages[1].offset
    contents = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(contents[:second])
    assert "is cut short" in fault_of(tmp_path / "a.tif")


# Which image


def test_size_is_that_of_the_series_which_is_read(tmp_path):
    path = tmp_path / "a.ome.tif"
    ome(path, (U16[::8, ::8], 10.0, "µm", 10.0, "µm"), (U16, 4.0, "nm", 4.0, "nm"))
    with pytest.warns(UserWarning, match="left out: 'Image0'"):
        image, metadata = read_micrograph(path)
    np.testing.assert_array_equal(image, U16, strict=True)
    assert metadata == Metadata(4.0, "nm")
    assert read_micrograph(path, "Image0")[1] == Metadata(10.0, "um")
    assert read_micrograph(path, 1)[0].shape == (8, 10)


def test_a_calibrated_overview_lends_no_size(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(U16[::4, ::4], **PLAIN)
        file.write(U16, metadata=None)
    image, metadata = read_micrograph(tmp_path / "a.tif", "Series 2")
    assert (image.shape, metadata) == (U16.shape, Metadata())


def test_sides_of_an_ome_tiff_in_two_units_are_compared(tmp_path):
    ome(tmp_path / "a.ome.tif", (U16, 500.0, "nm", 0.5, "µm"))
    assert read_micrograph(tmp_path / "a.ome.tif")[1] == Metadata(500.0, "nm")
    ome(tmp_path / "b.ome.tif", (U16, 500.0, "nm", 500.0, "µm"))
    assert read_micrograph(tmp_path / "b.ome.tif")[1] == Metadata()


@pytest.mark.parametrize("unit", ["reference frame", "pixel", "in", "furlong"])
def test_an_ome_tiff_in_no_unit_has_no_size(unit, tmp_path):
    ome(tmp_path / "a.ome.tif", (U16, 1.0, unit, 1.0, unit))
    assert read_micrograph(tmp_path / "a.ome.tif")[1] == Metadata()


def test_a_stack_in_an_ome_tiff_is_larger_than_an_image(tmp_path):
    stack = np.stack([U16[:40, :40]] * 9)
    ome(tmp_path / "a.ome.tif", (U16, 1.0, "nm", 1.0, "nm"), (stack, 2.0, "nm", 2.0, "nm"))
    with pytest.warns(UserWarning, match="'Image1' is read"):
        image, metadata = read_micrograph(tmp_path / "a.ome.tif")
    assert (image.shape, metadata) == (stack.shape, Metadata(2.0, "nm"))


def test_levels_of_a_pyramid_are_not_images_of_their_own(tmp_path):
    size = {"PhysicalSizeX": 2.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 2.0}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(U16, subifds=2, metadata={**size, "PhysicalSizeYUnit": "nm"})
        for step in (2, 4):
            file.write(U16[::step, ::step], subfiletype=1)
    image, metadata = read_micrograph(tmp_path / "a.ome.tif")
    assert (image.shape, metadata) == (U16.shape, Metadata(2.0, "nm"))
    assert len(list_images(tmp_path / "a.ome.tif")) == 1


def test_a_page_that_is_marked_as_reduced_is_left_out_in_silence(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.kron(U16, np.ones((2, 2), np.uint16)), subfiletype=1, metadata=None)
        file.write(U16, metadata=None)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], U16)


def coloured():
    return np.stack([U8, U8 // 2, U8], axis=-1)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("first", ["preview", "image"])
def test_a_preview_in_colours_does_not_hide_the_image(scale, first, tmp_path):
    preview = np.kron(coloured(), np.ones((scale, scale, 1), np.uint8))
    pages = [(preview, "rgb"), (U16, "minisblack")]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for image, kind in pages if first == "preview" else pages[::-1]:
            file.write(image, photometric=kind, metadata=None)
    with pytest.warns(UserWarning, match="leaves out 'Series .', which holds an RGB image"):
        image, _ = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, U16, strict=True)


def test_a_preview_of_unknown_numbers_does_not_hide_the_image(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(U8, metadata=None)
        file.write(U16, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages.first.tags["BitsPerSample"].valueoffset
    change(tmp_path / "a.tif", {offset: struct.pack("<H", 48)})
    with pytest.warns(UserWarning, match="leaves out 'Series 1', which holds numbers of"):
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], U16)


def test_a_grey_image_in_colours_is_read_though_a_thumbnail_is_grey(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(U8[::4, ::4], photometric="minisblack", metadata=None)
        file.write(np.stack([U8] * 3, axis=-1), photometric="rgb", metadata=None)
    with pytest.warns(UserWarning, match="left out: 'Series 1'"):
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], U8)


def test_an_image_that_is_not_there_is_told_with_those_that_are(tmp_path):
    ome(tmp_path / "a.ome.tif", *[(U16[:n], 1.0, "nm", 1.0, "nm") for n in (9, 8)])
    for wrong in ("HAADF", 2, "-1"):
        with pytest.raises(MicrographError, match="holds no image") as caught:
            read_micrograph(tmp_path / "a.ome.tif", wrong)
        message = checked(str(caught.value), tmp_path / "a.ome.tif")
        assert "'Image0', 'Image1', or a number from 0 to 1" in message


def test_names_of_images_are_unique(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        for step in (1, 2, 4):
            file.write(U16[::step, ::step], metadata={"Name": "scan"})
    names = [source.name for source in list_images(tmp_path / "a.ome.tif")]
    assert names == ["scan", "scan 2", "scan 3"]
    assert read_micrograph(tmp_path / "a.ome.tif", "scan 3")[0].shape == (16, 20)


# Numbers as they were meant


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_numbers_grow_with_brightness_where_zero_is_white(dtype, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", U8.astype(dtype), photometric="miniswhite")
    image, _ = read_micrograph(tmp_path / "a.tif")
    assert image.dtype == dtype
    assert np.corrcoef(image.ravel(), U8.ravel())[0, 1] == pytest.approx(-1)
    if np.dtype(dtype).kind == "u":
        np.testing.assert_array_equal(image, np.iinfo(dtype).max - U8.astype(dtype))


def write_packed_tiff(path, pixels, tags):
    """Write a TIFF of one strip from the values of its tags; 273 is where the strip is."""
    tags = {256: 80, 257: 64, 259: 1, 277: 1, 278: 64, **tags, 273: 8}
    table = b"".join(
        struct.pack("<HHII", code, 4, 1, value) for code, value in sorted(tags.items())
    )
    head = struct.pack("<2sHI", b"II", 42, 8 + len(pixels))
    count = struct.pack("<H", len(tags))
    path.write_bytes(head + pixels + count + table + bytes(4))


@pytest.mark.parametrize(("white", "black"), [(0, 4095), (1, 0)])
def test_twelve_bits_are_inverted_in_twelve_bits(white, black, tmp_path):
    image = U16 % 4096
    even, odd = image[:, ::2], image[:, 1::2]  # three bytes hold two numbers
    three = [even >> 4, (even & 15) << 4 | odd >> 8, odd & 255]
    packed = np.stack(three, axis=-1).astype(np.uint8).tobytes()
    tags = {258: 12, 262: white, 279: len(packed)}
    write_packed_tiff(tmp_path / "a.tif", packed, tags)
    expected = black - image if black else image
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], expected)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.arange(256) * 257, np.arange(256)),
        (np.arange(256) * 256, np.arange(256)),
        (np.arange(255, -1, -1) * 257, np.arange(255, -1, -1)),
        (np.arange(256) * 256 + 255, np.arange(256) * 256 + 255),
    ],
)
def test_a_grey_palette_is_applied(levels, expected, tmp_path):
    palette = np.tile(levels.astype(np.uint16), (3, 1))
    tifffile.imwrite(tmp_path / "a.tif", U8, photometric="palette", colormap=palette)
    image, _ = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, expected[U8])


def test_of_a_coloured_palette_the_indices_are_read_with_a_warning(tmp_path):
    palette = (np.arange(256) * np.array([[1], [100], [257]])).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", U8, photometric="palette", colormap=palette)
    with pytest.warns(UserWarning, match="a palette of colours"):
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], U8)


def imagej(path, image, lines):
    text = "ImageJ=1.54f\n" + "".join(f"{line}\n" for line in lines)
    tifffile.imwrite(path, image, description=text, metadata=None, photometric="minisblack")


def test_signed_integers_of_imagej_are_signed(tmp_path):
    signed = np.array([[-32768, -1, 0], [1, 300, 32767]], np.int16)
    stored = (signed.astype(int) + 32768).astype(np.uint16)
    imagej(
        tmp_path / "a.tif", stored, ["cf=0", "c0=-32768.0", "c1=1.0", "vunit=Gray Value"]
    )
    np.testing.assert_array_equal(
        read_micrograph(tmp_path / "a.tif")[0], signed, strict=True
    )


def test_a_straight_line_of_imagej_is_applied(tmp_path):
    imagej(tmp_path / "a.tif", U8, ["cf=0", "c0=-1.5", "c1=0.25", "vunit=V"])
    image, _ = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, np.float32(U8 * 0.25 - 1.5), strict=True)


def test_what_imagej_does_not_calibrate_is_left_alone(tmp_path):
    imagej(tmp_path / "a.tif", U8.astype(np.float32), ["cf=0", "c0=-32768", "c1=1"])
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], U8)
    signed = U8.astype(np.int16) - 100
    imagej(tmp_path / "b.tif", signed, ["cf=0", "c0=-32768", "c1=1"])
    np.testing.assert_array_equal(read_micrograph(tmp_path / "b.tif")[0], signed)
    imagej(tmp_path / "c.tif", U8, ["cf=3", "c0=1", "c1=2", "c2=3"])
    with pytest.warns(UserWarning, match="a curve of calibration, which is not applied"):
        np.testing.assert_array_equal(read_micrograph(tmp_path / "c.tif")[0], U8)


def test_sides_in_two_units_of_imagej_are_compared(tmp_path):
    text = "ImageJ=1.54f\nunit=nm\nyunit=micron\n"
    options = {"description": text, "metadata": None, "resolutionunit": "NONE"}
    tifffile.imwrite(tmp_path / "a.tif", U8, resolution=(0.002, 2), **options)
    metadata = read_micrograph(tmp_path / "a.tif")[1]
    assert (metadata.pixel_size, metadata.unit) == (pytest.approx(500), "nm")
    tifffile.imwrite(tmp_path / "b.tif", U8, resolution=(2, 2), **options)
    assert read_micrograph(tmp_path / "b.tif")[1] == Metadata()


@pytest.mark.parametrize("unit", ["inch", "cm", "pixel", "parsec"])
def test_imagej_units_of_print_are_no_sizes(unit, tmp_path):
    text = f"ImageJ=1.54f\nunit={unit}\n"
    options = {"description": text, "metadata": None, "resolution": (72, 72)}
    tifffile.imwrite(tmp_path / "a.tif", U8, **options)
    assert read_micrograph(tmp_path / "a.tif")[1] == Metadata()


def test_images_in_one_lump_that_imagej_writes_are_read(tmp_path):
    stack = np.stack([U16, U16[::-1], U16 // 2])
    text = "ImageJ=1.54f\nimages=3\nslices=3\nunit=nm\n"
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, U16, description=text, metadata=None, resolution=(2, 2))
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    whole = path.read_bytes()
    assert start + U16.nbytes == len(whole), "the others could not follow"
    path.write_bytes(whole + stack[1:].tobytes())
    image, metadata = read_micrograph(path)
    np.testing.assert_array_equal(image, stack, strict=True)
    assert metadata == Metadata(0.5, "nm")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [2, 3, 4, 5])
def test_grey_samples_of_a_pixel_are_a_stack(samples, planar, tmp_path):
    stack = np.stack([U16 + np.uint16(n) for n in range(samples)])
    stored = stack if planar == "separate" else np.moveaxis(stack, 0, -1)
    options = {"photometric": "minisblack", "planarconfig": planar, "metadata": None}
    tifffile.imwrite(
        tmp_path / "a.tif", stored, extrasamples=[0] * (samples - 1), **options
    )
    image, _ = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, stack, strict=True)


def test_opacity_beside_grey_is_no_image(tmp_path):
    pixels = np.stack([U8, np.full_like(U8, 255)], axis=-1)
    options = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", pixels, extrasamples=["unassalpha"], **options)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif")[0], U8, strict=True)


@pytest.mark.parametrize("axes", ["TZYX", "ZCYX"])
def test_four_axes_are_refused(axes, tmp_path):
    stack = np.stack([np.stack([U16, U16 // 2])] * 3)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": axes})
    assert "array of shape (3, 2, 64, 80); save one image" in fault_of(tmp_path / "a.tif")


# Damage, and files that mean harm


def test_pages_in_a_ring_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as file:
        last, count = file.pages[-1].offset, len(file.pages[-1].tags)
    change(path, {last + 2 + 12 * count: struct.pack("<I", last)})
    assert "in a ring" in fault_of(path)


def test_pixels_that_were_never_written_are_not_black(tmp_path):
    write_tiff(
        tmp_path / "a.tif", np.ones((64, 64), np.uint8), tile=(16, 16), metadata=None
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages.first.tags["TileByteCounts"].valueoffset
    change(tmp_path / "a.tif", {offset: bytes(2)})
    assert "lacks some of its pixels" in fault_of(tmp_path / "a.tif")


def test_a_small_file_of_a_vast_image_is_refused_before_it_takes_memory(tmp_path):
    tags = {256: 10**5, 257: 10**5, 258: 8, 262: 1, 278: 10**5, 259: 8, 279: 99}
    write_packed_tiff(tmp_path / "a.tif", bytes(99), tags)
    tracemalloc.start()
    assert "would unpack" in fault_of(tmp_path / "a.tif")
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def linked_ome(folder, named):
    """Write an OME-TIFF of two images, the second in a file that it names."""
    first, second = folder / "a.ome.tif", folder / "b.ome.tif"
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        'SizeX="80" SizeY="64" SizeZ="2" SizeC="1" SizeT="1">'
        '<TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="a.ome.tif">'
        'urn:uuid:1</UUID></TiffData><TiffData IFD="0" FirstZ="1" PlaneCount="1">'
        f'<UUID FileName="{named}">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>'
    )
    for path, image in ((first, U16), (second, U16[::-1])):
        tifffile.imwrite(path, image, description=xml.encode(), metadata=None)
    return first


def test_an_ome_tiff_may_go_on_in_a_file_beside_it(tmp_path):
    image, _ = read_micrograph(linked_ome(tmp_path, "b.ome.tif"))
    np.testing.assert_array_equal(image, np.stack([U16, U16[::-1]]), strict=True)


@pytest.mark.parametrize("named", ["../b.ome.tif", "/etc/passwd", "..", "x\\b.ome.tif"])
def test_an_ome_tiff_may_not_name_files_elsewhere(named, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = linked_ome(folder, named)
    (folder / "b.ome.tif").rename(tmp_path / "b.ome.tif")
    assert "outside its folder" in fault_of(path)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_an_ome_tiff_may_not_name_what_is_no_file(kind, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = linked_ome(folder, "b.ome.tif")
    (folder / "b.ome.tif").rename(tmp_path / "b.ome.tif")
    beside = folder / "b.ome.tif"
    {
        "pipe": lambda: os.mkfifo(beside),
        "link": lambda: beside.symlink_to(tmp_path / "b.ome.tif"),
        "folder": beside.mkdir,
    }[kind]()
    assert "no regular file" in fault_of(path)


def test_an_ome_tiff_without_its_other_file_lacks_pages(tmp_path):
    assert "lacks some of its pages" in fault_of(linked_ome(tmp_path, "c.ome.tif"))
