"""PNG, JPEG and BMP."""

import struct
import tracemalloc
import zlib

import imagecodecs
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from helpers.formats import IMAGE, change, fault_of
from PIL import Image

from emdn.io import Metadata, read_micrograph


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


@pytest.mark.parametrize("last", [IMAGE, IMAGE // 2], ids=["grey", "coloured"])
def test_sixteen_bit_colours_of_a_png_are_not_cut_to_eight(last, tmp_path):
    colours = np.stack([IMAGE, IMAGE, last], axis=-1)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(colours))
    if last is IMAGE:
        image, _ = read_micrograph(tmp_path / "a.png")
        np.testing.assert_array_equal(image, IMAGE, strict=True)
    else:
        assert "an RGB image of shape (5, 7, 3)" in fault_of(tmp_path / "a.png")


def test_one_bit_pictures_are_refused(tmp_path):
    iio.imwrite(tmp_path / "a.png", IMAGE > 3)
    tifffile.imwrite(tmp_path / "a.tif", IMAGE > 3)
    for name in ["a.png", "a.tif"]:
        assert "true and false" in fault_of(tmp_path / name)


def chunk(kind, data):
    sum_ = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + sum_


def png(path, rows, width, depth, colours, *chunks):
    """Write a PNG of packed rows, with more chunks before its pixels."""
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colours, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(
    ("depth", "row", "expected"),
    [(2, b"\x1b", [0, 1, 2, 3]), (4, b"\x1f\x80", [1, 15, 8, 0])],
)
def test_levels_of_few_bits_are_as_stored(depth, row, expected, tmp_path):
    png(tmp_path / "a.png", [row], 4, depth, 0)
    image, _ = read_micrograph(tmp_path / "a.png")
    assert image.tolist() == [expected]


def test_a_grey_palette_of_a_png_is_applied(tmp_path):
    palette = b"".join(bytes([level] * 3) for level in range(255, -1, -1))
    png(tmp_path / "a.png", [b"\x00\x10\xff"], 3, 8, 3, chunk(b"PLTE", palette))
    assert read_micrograph(tmp_path / "a.png")[0].tolist() == [[255, 239, 0]]


def test_a_grey_palette_of_a_bmp_is_applied(tmp_path):
    grey = IMAGE.astype(np.uint8)
    picture = Image.fromarray(grey).convert("P")
    picture.putpalette([level for level in range(255, -1, -1) for _ in range(3)])
    picture.save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.bmp")[0], 255 - grey)


def test_bmp_gives_its_pixels(tmp_path):
    grey = IMAGE.astype(np.uint8)
    for name, mode in {"a.bmp": "L", "b.bmp": "RGB"}.items():
        Image.fromarray(grey).convert(mode).save(tmp_path / name)
        np.testing.assert_array_equal(
            read_micrograph(tmp_path / name)[0], grey, strict=True
        )


def test_bmp_of_colours_and_of_one_bit_are_refused(tmp_path, rng):
    Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).save(tmp_path / "a.bmp")
    assert "an RGB image" in fault_of(tmp_path / "a.bmp")
    Image.fromarray(IMAGE > 9).save(tmp_path / "b.bmp")
    assert "true and false" in fault_of(tmp_path / "b.bmp")


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg"])
def test_jpeg_is_read_with_a_warning(mode, name, tmp_path):
    grey = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / name, quality=95)
    with pytest.warns(UserWarning, match="JPEG, which changed its noise"):
        image, metadata = read_micrograph(tmp_path / name)
    assert (image.shape, image.dtype, metadata) == (grey.shape, np.uint8, Metadata())
    np.testing.assert_allclose(image, grey.astype(float), atol=4)


@pytest.mark.filterwarnings("ignore:.*is packed by JPEG")
def test_jpeg_of_colours_is_refused(tmp_path, rng):
    for mode in ("RGB", "CMYK"):
        colours = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).convert(mode)
        colours.save(tmp_path / "a.jpg")
        assert "holds an RGB image" in fault_of(tmp_path / "a.jpg")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_jpeg_that_is_cut_short_is_refused(share, tmp_path, rng):
    Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(tmp_path / "a.jpg")
    contents = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(contents[: int(share * len(contents))])
    fault_of(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".png"])
@pytest.mark.filterwarnings("ignore:.*is packed by JPEG")
def test_resolutions_of_a_picture_count_where_no_printer_has_them(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(IMAGE.astype(np.uint8)).save(path, dpi=(300, 300))
    assert read_micrograph(path)[1] == Metadata()
    fine = 50_000  # dots per inch, of 508 nm each
    Image.fromarray(IMAGE.astype(np.uint8)).save(path, dpi=(fine, fine))
    size = read_micrograph(path)[1].pixel_size
    assert size == pytest.approx(508, rel=1e-3)


def test_an_animation_is_refused_as_such(tmp_path):
    actl = chunk(b"acTL", struct.pack(">II", 2, 0))
    png(tmp_path / "a.png", [b"\0\1"], 2, 8, 0, actl)
    assert "several pictures, an animation" in fault_of(tmp_path / "a.png")


def test_damage_of_a_png_is_noticed_in_every_part(tmp_path):
    iio.imwrite(tmp_path / "a.png", IMAGE)
    contents = (tmp_path / "a.png").read_bytes()
    for place in range(8, len(contents)):
        (tmp_path / "b.png").write_bytes(contents)
        change(tmp_path / "b.png", {place: bytes([contents[place] ^ 1])})
        fault_of(tmp_path / "b.png")


def test_a_small_picture_of_vast_sides_is_refused_before_it_takes_memory(tmp_path):
    png(tmp_path / "a.png", [b"\0"] * 9, 60_000, 8, 0)
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    contents = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(contents[:8] + chunk(b"IHDR", head) + contents[33:])
    (tmp_path / "a.bmp").write_bytes(
        struct.pack(
            "<2sIIIIiiHHIIiiII", b"BM", 0, 0, 54, 40, 60_000, 60_000, 1, 8, 1, *[0] * 5
        )
    )
    tracemalloc.start()
    for name in ("a.png", "a.bmp"):
        assert "would unpack" in fault_of(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()
