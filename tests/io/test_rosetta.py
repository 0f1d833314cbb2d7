"""DM, SER, EMD and HDF5 through RosettaSciIO."""

import h5py
import numpy as np
import pytest
import rsciio.emd
import rsciio.hspy
from formats import (
    CODES,
    IMAGE,
    STACK,
    fault_of,
    signal,
    write_dm,
    write_ser,
    write_velox,
)

from emdn.io import (
    Metadata,
    read_micrograph,
)


@pytest.mark.parametrize("name", ["a.dm3", "a.dm4", "a.ser", "a.emd"])
@pytest.mark.parametrize("dtype", CODES)
def test_microscope_formats_keep_the_type_of_pixel(name, dtype, tmp_path):
    writer = {".ser": write_ser, ".emd": write_velox}.get(name[1:], write_dm)
    writer(tmp_path / name, STACK.astype(dtype))
    image, _ = read_micrograph(tmp_path / name)
    np.testing.assert_array_equal(image, STACK.astype(dtype), strict=True)


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


def test_velox_names_its_detector(tmp_path):
    write_velox(tmp_path / "a.emd", IMAGE, detector="BF")
    assert read_micrograph(tmp_path / "a.emd")[1].detector == "BF"


@pytest.mark.parametrize("unit", ["", "pixel", "<undefined>"])
def test_pixels_measured_in_pixels_have_no_size(unit, tmp_path):
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), signal(IMAGE, unit=unit))
    assert read_micrograph(tmp_path / "a.hspy")[1] == Metadata()


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


def test_file_of_spectra_tells_what_it_holds(tmp_path):
    spectra = signal(STACK, axes=["y", "x", "E"])
    for axis in spectra["axes"]:
        axis["navigate"] = axis["name"] != "E"
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), spectra)
    message = fault_of(tmp_path / "a.hspy")
    assert "no image, but data of shape (2, 5, 7)" in message
