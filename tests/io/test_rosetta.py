"""DigitalMicrograph and TIA: which images, in which units, and what is refused."""

import struct
import time

import numpy as np
import pytest
from helpers.formats import CODES, fault_of, write_dm, write_ser

from emdn.io import MicrographError, list_images, read_micrograph, rosetta
from emdn.io.child import DamageError, Limits

IMAGE = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1001
STACK = np.stack([IMAGE, IMAGE // 2, IMAGE // 3])
COMPLEX = (IMAGE * 1j).astype(np.complex64)

every_version = pytest.mark.parametrize("name", ["a.dm3", "a.dm4"])


WRITERS = {"a.dm3": write_dm, "a.dm4": write_dm, "a.ser": write_ser}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("image", [IMAGE, STACK], ids=["image", "stack"])
def test_a_file_is_described_as_it_is_read(image, dtype, name, tmp_path):
    WRITERS[name](tmp_path / name, image.astype(dtype))
    (source,) = list_images(tmp_path / name)
    assert (source.shape, source.dtype) == (image.shape, np.dtype(dtype))
    np.testing.assert_array_equal(source.read(), image.astype(dtype), strict=True)
    frames = list(source.frames())
    assert len(frames) == (1 if image.ndim == 2 else 3)
    np.testing.assert_array_equal(
        np.stack(frames).reshape(image.shape), image.astype(dtype), strict=True
    )


# DM


@every_version
@pytest.mark.parametrize("thumbnail", [0, 1, 2])
def test_all_images_are_listed_but_the_thumbnail(thumbnail, name, tmp_path):
    images = [IMAGE, IMAGE[:, :4] + 1, STACK]
    names = ["HAADF", "", "HAADF"]
    write_dm(tmp_path / name, *images, names=names, thumbnail=thumbnail)
    kept = [n for n in range(3) if n != thumbnail]
    found = list_images(tmp_path / name)
    for source, n in zip(found, kept, strict=True):
        np.testing.assert_array_equal(source.read(), images[n], strict=True)
    expected = {0: ["image", "HAADF"], 1: ["HAADF", "HAADF 2"], 2: ["HAADF", "image"]}
    assert [source.name for source in found] == expected[thumbnail]


@every_version
def test_a_thumbnail_alone_is_no_image(name, tmp_path):
    write_dm(tmp_path / name, IMAGE, thumbnail=0)
    assert "only a thumbnail" in fault_of(tmp_path / name)


@every_version
def test_the_first_image_of_real_numbers_comes_first(name, tmp_path):
    write_dm(tmp_path / name, COMPLEX, IMAGE, data_type=3)
    found = list_images(tmp_path / name)
    assert [source.dtype.kind for source in found] == ["u", "c"]
    np.testing.assert_array_equal(found[0].read(), IMAGE)


@every_version
def test_a_damaged_image_does_not_hide_those_before_it(name, tmp_path):
    write_dm(tmp_path / name, IMAGE, STACK)
    contents = (tmp_path / name).read_bytes()
    at = contents.rindex(struct.pack("<I", 5))
    damaged = contents[:at] + struct.pack("<I", 2**31 - 1) + contents[at + 4 :]
    (tmp_path / name).write_bytes(damaged)
    whole, lost = list_images(tmp_path / name)
    np.testing.assert_array_equal(whole.read(), IMAGE)
    with pytest.raises(MicrographError, match="is cut short"):
        lost.read()
    with pytest.raises(MicrographError, match="is cut short"):
        next(iter(lost.frames()))


@every_version
def test_complex_images_and_colours_are_refused(name, tmp_path):
    write_dm(tmp_path / name, COMPLEX, data_type=3)
    assert "complex numbers; save their size" in fault_of(tmp_path / name)
    write_dm(tmp_path / name, IMAGE.astype(np.int64), data_type=23)
    fault_of(tmp_path / name)


@every_version
@pytest.mark.parametrize(
    ("written", "unit"),
    [("nm", "nm"), ("µm", "um"), ("1/nm", "1/nm"), ("Å", "A"), ("", None)],
)
def test_units_are_of_a_known_vocabulary_or_none(written, unit, name, tmp_path):
    write_dm(tmp_path / name, IMAGE, pixel_size=0.5, unit=written)
    _, metadata = read_micrograph(tmp_path / name)
    assert (metadata.unit, metadata.pixel_size) == (unit, unit and 0.5)


@every_version
def test_voltage_dwell_time_and_detector_are_read(name, tmp_path):
    tags = {
        "Microscope Info": {"Voltage": 2e5, "Indicated Magnification": 5e4},
        "DigiScan": {"Sample Time": 8.0},  # us
        "DataBar": {"Signal Name": "HAADF", "Device Name": "DigiScan"},
    }
    write_dm(tmp_path / name, IMAGE, tags=tags)
    _, metadata = read_micrograph(tmp_path / name)
    assert (metadata.detector, metadata.voltage) == ("HAADF", 200)
    assert metadata.dwell_time == pytest.approx(8e-6)
    assert metadata.other["magnification"] == 5e4


SPECTRAL = {
    "format": {"tags": {"Meta Data": {"Format": "Spectrum image"}}},
    "signal": {"tags": {"Meta Data": {"Format": "Spectrum image", "Signal": "EELS"}}},
    "unit": {"third_unit": "eV"},
}


@every_version
@pytest.mark.parametrize("kind", SPECTRAL)
def test_a_spectrum_image_is_refused(kind, name, tmp_path):
    write_dm(tmp_path / name, STACK, **SPECTRAL[kind])
    assert "no image, but data of shape (3, 5, 7)" in fault_of(tmp_path / name)


@every_version
def test_a_line_of_spectra_is_refused(name, tmp_path):
    write_dm(tmp_path / name, IMAGE, tags={"Meta Data": {"Format": "Spectrum"}})
    assert "no image, but data of shape (5, 7)" in fault_of(tmp_path / name)


@every_version
def test_a_map_of_patterns_is_refused(name, tmp_path):
    write_dm(tmp_path / name, np.stack([STACK, STACK]))
    assert "no image, but data of shape (2, 3, 5, 7)" in fault_of(tmp_path / name)


@every_version
def test_an_image_beside_a_spectrum_image_is_read(name, tmp_path):
    write_dm(tmp_path / name, STACK, IMAGE, third_unit="eV")
    (source,) = list_images(tmp_path / name)
    np.testing.assert_array_equal(source.read(), IMAGE)


HOSTILE = {
    "structs without fields": [20, 15, 0, 0, 2**31 - 1],
    "strings for ever": [20, 18, 0, 2**31 - 1],
    "an endless text": [18, 2**31 - 1],
    "a struct of many fields": [15, 0, 2**31 - 1, 0, 2],
    "an array of arrays": [20, 20, 2, 2**31 - 1, 2**31 - 1],
}


@every_version
@pytest.mark.parametrize("kind", HOSTILE)
def test_tags_that_would_be_read_for_hours_are_told_in_time(kind, name, tmp_path):
    info = [len(HOSTILE[kind]), *HOSTILE[kind]]
    form = ">q" if name.endswith("4") else ">i"
    extra = b"".join(struct.pack(form, n) for n in info)
    write_dm(tmp_path / name, IMAGE, extra=extra)
    start = time.monotonic()
    with pytest.raises((MicrographError, DamageError)):
        rosetta.sources(tmp_path / name, Limits(seconds=2))
    # It would take hours. A new server imports for 3 s, and on a busy machine for a minute.
    assert time.monotonic() - start < 300


@every_version
def test_sides_that_do_not_fit_the_pixels_are_refused(name, tmp_path):
    write_dm(tmp_path / name, IMAGE)
    contents = (tmp_path / name).read_bytes()
    # The last tags of an image are its sides.
    at = contents.rindex(struct.pack("<I", 5))
    damaged = contents[:at] + struct.pack("<I", 6) + contents[at + 4 :]
    (tmp_path / name).write_bytes(damaged)
    assert "is cut short" in fault_of(tmp_path / name)


# SER


@pytest.mark.parametrize(
    ("step", "size", "unit"),
    [
        (5e-10, 0.5, "nm"),
        (2e-8, 20, "nm"),
        (4.2e7, 0.042, "1/nm"),
        (1e9, 1, "1/nm"),
        (1e-3, None, None),
        (0.02, None, None),
        (0, None, None),
        (-1e-9, None, None),
        (float("nan"), None, None),
        (1e300, None, None),
    ],
)
def test_calibrations_of_diffraction_patterns_are_no_metres(step, size, unit, tmp_path):
    write_ser(tmp_path / "a.ser", IMAGE, pixel_size=step)
    _, metadata = read_micrograph(tmp_path / "a.ser")
    assert metadata.pixel_size == (size and pytest.approx(size))
    assert metadata.unit == unit


def change(path, at, form, value):
    contents = bytearray(path.read_bytes())
    struct.pack_into(form, contents, at % len(contents), value)
    path.write_bytes(contents)


# The last six integers are the offsets of three images, then of their tags.
DAMAGE = {
    "outside": (-24, "<I", 2**31),
    "twice": (-20, "<I", 62),
    "into the header": (-24, "<I", 0),
    "a wrong type": (62 + 40, "<H", 77),
    "another width": (62 + 42, "<I", 8),
    "a wide image": (62 + 42, "<I", 2**30),
    "many images": (18, "<I", 2**32 - 1),
    "no images": (18, "<I", 0),
    "many dimensions": (26, "<I", 2**31),
    "spectra": (6, "<I", 0x4120),
    "another file": (2, "<H", 0),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_series_is_refused(kind, tmp_path):
    write_ser(tmp_path / "a.ser", STACK)
    change(tmp_path / "a.ser", *DAMAGE[kind])
    fault_of(tmp_path / "a.ser")


def test_images_of_a_series_with_calibrations_of_their_own_have_no_one_size(tmp_path):
    write_ser(tmp_path / "a.ser", STACK, pixel_size=1e-9)
    change(tmp_path / "a.ser", 62 + 8, "<d", 2e-9)
    change(tmp_path / "a.ser", 62 + 28, "<d", 2e-9)
    image, metadata = read_micrograph(tmp_path / "a.ser")
    np.testing.assert_array_equal(image, STACK)
    assert metadata.pixel_size is None


def test_a_map_of_ser_images_is_refused(tmp_path):
    write_ser(tmp_path / "a.ser", STACK)
    contents = (tmp_path / "a.ser").read_bytes()
    # A second dimension behind the first; all that follows moves by its 32 bytes.
    dimension = struct.pack("<IddIII", 3, 0, 1, 0, 0, 0)
    (tmp_path / "a.ser").write_bytes(contents[:62] + dimension + contents[62:])
    change(tmp_path / "a.ser", 26, "<I", 2)
    change(tmp_path / "a.ser", 22, "<I", struct.unpack_from("<I", contents, 22)[0] + 32)
    for at in (-24, -20, -16):
        offset = struct.unpack_from("<I", contents, len(contents) + at)[0]
        change(tmp_path / "a.ser", at, "<I", offset + 32)
    assert "a map (3, 3) of images" in fault_of(tmp_path / "a.ser")


@pytest.mark.parametrize("lost", [1, 8, 9, 12, 25, 60, 300])
def test_a_series_cut_short_is_refused_or_still_whole(lost, tmp_path):
    write_ser(tmp_path / "a.ser", STACK)
    contents = (tmp_path / "a.ser").read_bytes()
    (tmp_path / "a.ser").write_bytes(contents[:-lost])
    if lost > 12:  # the offsets of the tags come last, and are not needed
        assert "is cut short" in fault_of(tmp_path / "a.ser")
    else:
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.ser")[0], STACK)
