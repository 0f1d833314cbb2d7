"""Velox, Berkeley, HyperSpy: which images a file holds, how they lie, what is refused."""

import itertools
import json
import time
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import rsciio.emd
import rsciio.hspy
from helpers.formats import (
    fault_of,
    signal,
    velox_metadata,
    write_berkeley,
    write_velox,
    write_zspy,
)

from emdn.io import Metadata, MicrographError, hdf5, list_images, read_micrograph
from emdn.io.child import DamageError, Limits

IMAGE = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)
STACK = np.arange(5 * 4 * 6, dtype=np.uint16).reshape(5, 4, 6)
QUICK = Limits(seconds=1)


def write_hspy(path, image, **told):
    rsciio.hspy.file_writer(str(path), signal(image, **told))


def write_ncem(path, image, **told):
    rsciio.emd.file_writer(str(path), signal(image, **told))


WRITERS = {
    "velox.emd": lambda path, image: write_velox(path, image, pixel_size=5e-10),
    "ncem.emd": lambda path, image: write_ncem(path, image, pixel_size=0.5),
    "a.hspy": lambda path, image: write_hspy(path, image, pixel_size=0.5),
    "a.hdf5": lambda path, image: write_hspy(path, image, pixel_size=0.5),
    "a.zspy": lambda path, image: write_zspy(path, image, pixel_size=0.5),
}
every_kind = pytest.mark.parametrize("name", WRITERS)


# What every kind gives


@every_kind
@pytest.mark.parametrize("image", [IMAGE, STACK], ids=["image", "stack"])
def test_a_file_is_described_as_it_is_read(name, image, tmp_path):
    WRITERS[name](tmp_path / name, image)
    (source,) = list_images(tmp_path / name)
    np.testing.assert_array_equal(source.read(), image, strict=True)
    assert (source.shape, source.dtype) == (image.shape, image.dtype)
    assert (source.metadata.pixel_size, source.metadata.unit) == (pytest.approx(0.5), "nm")


@every_kind
def test_frames_are_those_of_the_stack(name, tmp_path, monkeypatch):
    WRITERS[name](tmp_path / name, STACK)
    (source,) = list_images(tmp_path / name)
    # A block of two images, then one of less than an image.
    for block in (2 * STACK[0].nbytes, STACK[0].nbytes // 2):
        monkeypatch.setattr(hdf5, "BLOCK", block)
        np.testing.assert_array_equal(np.stack(list(source.frames())), STACK, strict=True)
        np.testing.assert_array_equal(source.read(), STACK, strict=True)


def test_frames_of_velox_that_lie_in_chunks_of_their_own_are_read(tmp_path):
    write_velox(tmp_path / "a.emd", STACK)
    with h5py.File(tmp_path / "a.emd", "a") as file:
        (group,) = file["Data/Image"].values()
        data = group["Data"][:]
        del group["Data"]
        group.create_dataset("Data", data=data, chunks=(*STACK.shape[1:], 1))
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.emd")[0], STACK)


def test_frames_of_a_large_stack_take_the_memory_of_a_few(tmp_path):
    shape = (512, 1024, 1024)  # 0.5 GB, which the file system need not store
    with h5py.File(tmp_path / "a.hspy", "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        group = file.create_group("Experiments/large")
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(group.id, b"data", h5py.h5t.NATIVE_UINT8, space, layout)
        group["data"][300, 7, 9] = 42
    (source,) = list_images(tmp_path / "a.hspy")
    assert source.shape == shape
    tracemalloc.start()
    try:
        brightest = [int(frame.max()) for frame in source.frames()]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert brightest == [42 * (n == 300) for n in range(512)]
    assert peak < 1.2 * hdf5.BLOCK


# Velox


def test_the_first_of_several_detectors_does_not_depend_on_keys(tmp_path):
    # Started later, the first by name comes last.
    told = {"HAADF": 5, "DF4": 5, "BF": 5, "A": 6}
    for run, order in enumerate(itertools.permutations(told)):
        path = tmp_path / f"{run}.emd"
        for key, detector in enumerate(order):
            image = np.full((4, 6), ord(detector[0]), np.uint16)
            write_velox(
                path, image, key=f"{key:032x}", detector=detector, started=told[detector]
            )
        found = list_images(path)
        assert [source.name for source in found] == ["BF", "DF4", "HAADF", "A"]
        assert [source.metadata.detector for source in found] == ["BF", "DF4", "HAADF", "A"]
        assert [chr(source.read()[0, 0]) for source in found] == ["B", "D", "H", "A"]


def test_images_of_one_detector_are_told_apart(tmp_path):
    for key in range(3):
        write_velox(tmp_path / "a.emd", IMAGE, key=f"{key:032x}", started=key)
    names = [source.name for source in list_images(tmp_path / "a.emd")]
    assert names == ["HAADF", "HAADF 2", "HAADF 3"]


def camera_metadata():
    return {
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "0"}},
        "Optics": {"AccelerationVoltage": "200000"},
        "Scan": {},
        "BinaryResult": {
            "DetectorIndex": "1",
            "Detector": "BM-Ceta",
            "PixelSize": {"width": "1e-9", "height": "1e-9"},
            "PixelUnitX": "m",
            "PixelUnitY": "m",
        },
        "Detectors": {
            "Detector-0": {"DetectorName": "HAADF", "DetectorType": "ScanningDetector"},
            "Detector-1": {"DetectorName": "BM-Ceta", "DetectorType": "ImagingDetector"},
        },
    }


def write_velox_json(path, frames, metadata, key="ab" * 16):
    text = np.frombuffer(json.dumps(metadata).encode().ljust(4000, b"\0"), np.uint8)
    with h5py.File(path, "a") as file:
        if "Version" not in file:
            file["Version"] = np.array([b'{"format": "Velox", "version": "11"}'])
        group = file.create_group(f"Data/Image/{key}")
        group["Data"] = frames
        group["Metadata"] = text[:, np.newaxis]


def write_operation(path, kind, told, key="cd" * 16):
    with h5py.File(path, "a") as file:
        text = np.array([json.dumps(told).encode()], object)
        where = f"Operations/{kind}/{key}"
        file.create_dataset(where, data=text, dtype=h5py.special_dtype(vlen=bytes))


@pytest.mark.parametrize("frames", [1, 3])
def test_a_velox_file_of_a_camera_is_read(frames, tmp_path):
    path = tmp_path / "ceta.emd"
    data = np.arange(64 * 80 * frames, dtype=np.int16).reshape(64, 80, frames)
    write_velox_json(path, data, camera_metadata())
    told = {"dataPath": "/Data/Image/" + "ab" * 16, "cameraName": "Ceta", "outputs": ""}
    write_operation(path, "CameraInputOperation", told)
    image, metadata = read_micrograph(path)
    expected = np.moveaxis(data, -1, 0) if frames > 1 else data[..., 0]
    np.testing.assert_array_equal(image, expected, strict=True)
    assert (metadata.pixel_size, metadata.unit) == (pytest.approx(1.0), "nm")
    assert (metadata.detector, metadata.voltage) == ("BM-Ceta", 200)


@pytest.mark.parametrize(
    ("kind", "word"),
    [("StemInputOperation", "detector"), ("CameraInputOperation", "cameraName")],
)
def test_an_old_velox_file_names_the_detector_in_its_operations(kind, word, tmp_path):
    metadata = camera_metadata()
    del metadata["BinaryResult"]["Detector"], metadata["BinaryResult"]["DetectorIndex"]
    write_velox_json(tmp_path / "a.emd", IMAGE[..., None], metadata)
    told = {"dataPath": "/Data/Image/" + "ab" * 16, word: "DF2"}
    write_operation(tmp_path / "a.emd", kind, told)
    (source,) = list_images(tmp_path / "a.emd")
    assert (source.name, source.metadata.detector) == ("DF2", "DF2")


def test_the_texts_of_a_long_movie_are_not_taken_for_one(tmp_path):
    write_velox(tmp_path / "a.emd", STACK)
    with h5py.File(tmp_path / "a.emd", "a") as file:
        (group,) = file["Data/Image"].values()
        text = group["Metadata"][:, 0]
        del group["Metadata"]
        shape = (60_000, 3000)  # Velox's 60 kB for each of 3000 frames
        group.create_dataset("Metadata", shape, np.uint8, chunks=(60_000, 1))
        group["Metadata"][: len(text), 0] = text
    assert list_images(tmp_path / "a.emd")[0].metadata.detector == "HAADF"


def test_the_detector_is_looked_up_where_the_image_does_not_name_it(tmp_path):
    metadata = camera_metadata()
    del metadata["BinaryResult"]["Detector"]
    write_velox_json(tmp_path / "a.emd", IMAGE[..., None], metadata)
    assert list_images(tmp_path / "a.emd")[0].name == "BM-Ceta"


@pytest.mark.parametrize("gone", ["Scan", "Optics", "Acquisition", "Detectors", "all"])
def test_velox_metadata_may_lack_any_part(gone, tmp_path):
    metadata = velox_metadata()
    kept = {} if gone == "all" else {k: v for k, v in metadata.items() if k != gone}
    write_velox_json(tmp_path / "a.emd", IMAGE[..., None], kept)
    image, found = read_micrograph(tmp_path / "a.emd")
    np.testing.assert_array_equal(image, IMAGE)
    assert found.pixel_size == (None if gone == "all" else pytest.approx(1.0))


def test_velox_tells_voltage_and_dwell_time(tmp_path):
    write_velox(tmp_path / "a.emd", IMAGE)
    _, metadata = read_micrograph(tmp_path / "a.emd")
    assert (metadata.detector, metadata.voltage) == ("HAADF", 200)
    assert metadata.dwell_time == pytest.approx(1e-6)


def test_computed_and_complex_images_come_after_recorded_ones(tmp_path):
    path = tmp_path / "a.emd"
    keys = {name: f"{n:032x}" for n, name in enumerate(["FFT", "DPC", "iDPC", "HAADF"])}
    pair = [("realFloat", "<f4"), ("imagFloat", "<f4")]
    half = [("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")]
    write_velox_json(path, np.zeros((4, 3, 1), half), velox_metadata(), keys["FFT"])
    dpc = velox_metadata(detector="DPC")
    write_velox_json(path, np.zeros((4, 6, 1), pair), dpc, keys["DPC"])
    write_velox(path, IMAGE[:4, :6] / 2, key=keys["iDPC"], detector="DF4")
    write_velox(path, IMAGE[:4, :6], key=keys["HAADF"])
    told = {"dataPath": f"/Data/Image/{keys['iDPC']}", "integrationMode": "true"}
    write_operation(path, "SurfaceReconstructionOperation", told)
    found = list_images(path)
    names = ["HAADF", "iDPC of DF4", "DPC", "FFT of HAADF"]
    assert [source.name for source in found] == names
    np.testing.assert_array_equal(found[0].read(), IMAGE[:4, :6])
    np.testing.assert_array_equal(found[1].read(), IMAGE[:4, :6] / 2)
    assert [source.dtype.kind for source in found] == ["f", "f", "c", "c"]
    for source in found[2:]:
        with pytest.raises(MicrographError, match="complex numbers; save their size"):
            source.read()


def test_spectra_of_a_velox_file_are_left_out(tmp_path):
    write_velox(tmp_path / "a.emd", IMAGE)
    with h5py.File(tmp_path / "a.emd", "a") as file:
        file["Data/Spectrum/" + "ef" * 16 + "/Data"] = np.zeros((4096, 1), np.uint32)
        file["Data/SpectrumStream/" + "ef" * 16 + "/Data"] = np.zeros((9, 1), np.uint16)
        file["Data/SpectrumImage/" + "ef" * 16 + "/Data"] = np.zeros((1, 1))
    assert [source.name for source in list_images(tmp_path / "a.emd")] == ["HAADF"]


# Berkeley


@pytest.mark.parametrize(
    "names",
    ["YX", "yx", ("", ""), ("Rx", "Ry"), ("q_y", "q_x"), "ab", ("Y [nm]", "X [nm]")],
)
def test_axes_lie_as_they_are_stored_whatever_their_names(names, tmp_path):
    axes = [(name, "nm", 0.5) for name in names]
    write_berkeley(tmp_path / "b.emd", IMAGE, axes)
    image, metadata = read_micrograph(tmp_path / "b.emd")
    np.testing.assert_array_equal(image, IMAGE, strict=True)
    assert (metadata.pixel_size, metadata.unit) == (0.5, "nm")


@pytest.mark.parametrize("names", ["xy", "XY"])
def test_rows_that_the_file_calls_x_become_columns(names, tmp_path):
    # HyperSpy writes its arrays so, which it calls y, x, and reads them turned back.
    write_berkeley(tmp_path / "b.emd", IMAGE, [(name, "nm", 0.5) for name in names])
    np.testing.assert_array_equal(read_micrograph(tmp_path / "b.emd")[0], IMAGE.T)


@pytest.mark.parametrize(
    ("names", "turn"),
    [
        (("t", "Y", "X"), (0, 1, 2)),
        (("Y", "X", "t"), (2, 0, 1)),
        (("x", "y", "z"), (2, 1, 0)),
        (("", "", ""), (0, 1, 2)),
    ],
)
def test_images_of_a_berkeley_stack_come_one_after_the_other(names, turn, tmp_path):
    write_berkeley(tmp_path / "b.emd", STACK, [(name, "nm", 0.5) for name in names])
    image, metadata = read_micrograph(tmp_path / "b.emd")
    np.testing.assert_array_equal(image, np.transpose(STACK, turn), strict=True)
    assert metadata.unit == "nm"


@pytest.mark.parametrize("columns", [3, 4])
def test_unnamed_axes_of_few_columns_may_be_colours(columns, tmp_path):
    write_berkeley(tmp_path / "b.emd", STACK[..., :columns], [("", "", 1.0)] * 3)
    assert "the last may be colours" in fault_of(tmp_path / "b.emd")


@pytest.mark.parametrize(
    "last", [("E", "", 1.0), ("", "eV", 0.1), ("energy", "[k_e_V]", 1)]
)
def test_a_spectrum_image_of_a_berkeley_file_is_refused(last, tmp_path):
    axes = [("y", "nm", 1.0), ("x", "nm", 1.0), last]
    write_berkeley(tmp_path / "b.emd", STACK, axes)
    assert "no image, but data of shape (5, 4, 6)" in fault_of(tmp_path / "b.emd")


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("n_m", "nm"),
        ("[n_m]", "nm"),
        ("Å", "A"),
        ("A^-1", "1/A"),
        ("[]", None),
        ("", None),
        ("pixels", None),
        ("reference frame", None),
    ],
)
def test_units_are_of_a_known_vocabulary_or_none(written, unit, tmp_path):
    axes = [("y", written, 0.5), ("x", written, 0.5)]
    write_berkeley(tmp_path / "b.emd", IMAGE, axes)
    _, metadata = read_micrograph(tmp_path / "b.emd")
    assert (metadata.unit, metadata.pixel_size) == (unit, unit and 0.5)


def test_sides_in_different_units_are_compared_as_lengths(tmp_path):
    write_berkeley(tmp_path / "b.emd", IMAGE, [("y", "um", 0.002), ("x", "nm", 2.0)])
    _, metadata = read_micrograph(tmp_path / "b.emd")
    assert (metadata.pixel_size, metadata.unit) == (pytest.approx(2.0), "nm")
    write_berkeley(tmp_path / "c.emd", IMAGE, [("y", "1/nm", 2.0), ("x", "nm", 2.0)])
    assert read_micrograph(tmp_path / "c.emd")[1].pixel_size is None


def test_arrays_of_py4dstem_are_read_and_its_four_dimensions_left_out(tmp_path):
    path = tmp_path / "a.h5"
    q, r = ("Qx", "A^-1", 0.02), ("Rx", "A", 5.0)
    cube = np.zeros((3, 3, 4, 6), np.uint16)
    place = "4DSTEM/{}".format
    write_berkeley(path, cube, [r, r, q, q], group=place("cube"), start=0, kind="array")
    write_berkeley(path, IMAGE, [q, q], group=place("mean"), start=0, kind="array")
    slices = np.moveaxis(STACK, 0, -1)
    labels = [r, r, ["BF", "ADF", "COM", "x", "y"]]
    write_berkeley(path, slices, labels, group=place("slices"), start=0, kind="array")
    mean, stack = list_images(path)
    assert [mean.name, stack.name] == ["mean", "slices"]
    np.testing.assert_array_equal(mean.read(), IMAGE)
    np.testing.assert_array_equal(stack.read(), STACK)
    assert (mean.metadata.pixel_size, mean.metadata.unit) == (pytest.approx(0.02), "1/A")
    assert (stack.metadata.pixel_size, stack.metadata.unit) == (pytest.approx(5), "A")


def test_a_file_of_four_dimensions_alone_says_so(tmp_path):
    axes = [("", "nm", 1.0)] * 4
    write_berkeley(tmp_path / "a.h5", np.zeros((3, 3, 4, 6)), axes)
    message = fault_of(tmp_path / "a.h5")
    assert "no image, but data of shape (3, 3, 4, 6); export an image" in message


def test_hdf5_of_another_layout_says_so(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data"] = IMAGE
    assert "layout" in fault_of(tmp_path / "a.h5")


# HyperSpy


def test_axes_to_navigate_come_first(tmp_path):
    told = signal(STACK, axes=["y", "x", "t"])
    for axis in told["axes"]:
        axis["navigate"] = axis["name"] == "t"
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), told)
    image, _ = read_micrograph(tmp_path / "a.hspy")
    np.testing.assert_array_equal(image, np.moveaxis(STACK, -1, 0), strict=True)


def test_a_series_over_energy_is_a_stack_and_a_spectrum_image_none(tmp_path):
    told = signal(STACK, axes=["E", "y", "x"])
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), told)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.hspy")[0], STACK)
    for axis in told["axes"]:
        axis["navigate"] = not axis["navigate"]
    rsciio.hspy.file_writer(str(tmp_path / "b.hspy"), told)
    assert "no image, but data of shape (5, 4, 6)" in fault_of(tmp_path / "b.hspy")


def test_experiments_are_listed_by_name(tmp_path):
    path = tmp_path / "both.hspy"
    for name in ("b", "a"):
        write_hspy(tmp_path / f"{name}.hspy", STACK[0] + ord(name))
    with h5py.File(path, "w") as file:
        for name in ("b", "a"):
            with h5py.File(tmp_path / f"{name}.hspy") as other:
                other.copy(
                    "Experiments/__unnamed__", file.require_group("Experiments"), name
                )
    assert [(s.name, s.read()[0, 0]) for s in list_images(path)] == [("a", 97), ("b", 98)]


@pytest.mark.parametrize("microscope", ["TEM", "SEM"])
def test_hyperspy_tells_voltage_and_dwell_time(microscope, tmp_path):
    told = signal(IMAGE)
    facts = {"beam_energy": 200.0, "dwell_time": 2e-6, "microscope": "Titan"}
    told["metadata"]["Acquisition_instrument"] = {microscope: facts}
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), told)
    _, metadata = read_micrograph(tmp_path / "a.hspy")
    assert (metadata.voltage, metadata.dwell_time) == (200, 2e-6)
    assert metadata.other["instrument"] == "Titan"


@pytest.mark.parametrize("unit", ["", "pixel", "<undefined>"])
def test_pixels_measured_in_pixels_have_no_size(unit, tmp_path):
    write_hspy(tmp_path / "a.hspy", IMAGE, unit=unit)
    assert read_micrograph(tmp_path / "a.hspy")[1] == Metadata()


# Zarr


@pytest.mark.parametrize("compressor", ["blosc", "zstd", "zlib", None])
@pytest.mark.parametrize("rows", [1, 3, 4])
@pytest.mark.parametrize("folder", [True, False])
def test_zspy_is_read_from_a_folder_and_from_a_zip(folder, rows, compressor, tmp_path):
    path = tmp_path / "a.zspy"
    if folder:
        path.mkdir()
    write_zspy(path, STACK, compressor=compressor, rows=rows)
    np.testing.assert_array_equal(read_micrograph(path)[0], STACK, strict=True)


def test_a_chunk_that_is_not_stored_is_blank(tmp_path):
    path = tmp_path / "a.zspy"
    path.mkdir()
    write_zspy(path, STACK, rows=2)
    (path / "Experiments/__unnamed__/data/1/1/0").unlink()
    expected = STACK.copy()
    expected[1, 2:] = 0
    np.testing.assert_array_equal(read_micrograph(path)[0], expected)


@pytest.mark.parametrize(
    "change",
    [
        {"compressor": {"id": "pickle"}},
        {"filters": [{"id": "pickle"}]},
        {"dtype": "|O"},
        {"chunks": [0, 4, 6]},
        {"chunks": [1, 2**20, 2**20]},
        {"shape": [2**20, 2**20, 2**20], "chunks": [1, 4, 6]},
    ],
)
def test_nothing_hostile_in_a_zspy_is_followed(change, tmp_path):
    path = tmp_path / "a.zspy"
    path.mkdir()
    write_zspy(path, STACK)
    array = path / "Experiments/__unnamed__/data/.zarray"
    array.write_text(json.dumps(json.loads(array.read_text()) | change))
    fault_of(path)


def test_a_zspy_that_is_another_file_is_refused(tmp_path):
    (tmp_path / "a.zspy").write_text("no ZIP")
    (tmp_path / "b.zspy").mkdir()
    with zipfile.ZipFile(tmp_path / "c.zspy", "w") as file:
        file.writestr("readme", "nothing")
    for name in "abc":
        fault_of(tmp_path / f"{name}.zspy")


# No file pulls in another


def hspy_with_data(path, replace):
    """Write a file whose pixels `replace` puts elsewhere, given the group and the name."""
    write_hspy(path, np.zeros((8, 64), np.uint8))
    with h5py.File(path, "a") as file:
        group = file["Experiments/__unnamed__"]
        del group["data"]
        replace(group)


def velox_with_data(path, replace):
    write_velox(path, np.zeros((8, 64), np.uint8))
    with h5py.File(path, "a") as file:
        (group,) = file["Data/Image"].values()
        del group["Data"]
        replace(group, "Data")


def berkeley_with_data(path, replace):
    write_berkeley(path, np.zeros((8, 64), np.uint8), [("y", "nm", 1.0), ("x", "nm", 1.0)])
    with h5py.File(path, "a") as file:
        del file["data/image/data"]
        replace(file["data/image"])


def external_storage(group, name="data", secret="secret.raw"):
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_external(secret.encode(), 0, 512)
    space, kind = h5py.h5s.create_simple((8, 64)), h5py.h5t.NATIVE_UINT8
    h5py.h5d.create(group.id, name.encode(), kind, space, layout)


def external_link(group, name="data"):
    group[name] = h5py.ExternalLink("secret.h5", "/d")


def soft_link_out(group, name="data"):
    group.file["out"] = h5py.ExternalLink("secret.h5", "/")
    group[name] = h5py.SoftLink("/out/d")


def virtual_dataset(group, name="data"):
    layout = h5py.VirtualLayout((8, 64), np.uint8)
    layout[:] = h5py.VirtualSource("secret.h5", "d", (8, 64))
    group.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    "trick", [external_storage, external_link, soft_link_out, virtual_dataset]
)
@pytest.mark.parametrize("write", [hspy_with_data, velox_with_data, berkeley_with_data])
def test_a_file_that_would_read_another_is_refused(write, trick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret = np.full((8, 64), 42, np.uint8)
    secret.tofile("secret.raw")
    with h5py.File("secret.h5", "w") as file:
        file["d"] = secret
    write(tmp_path / "a.emd", trick)
    with h5py.File(tmp_path / "a.emd") as file:  # else the test would prove nothing
        found = []
        file.visititems_links(lambda name, _: found.append(name))
        assert any(name.lower().endswith("data") for name in found)
    assert "another file, which is not opened; save it in one file" in fault_of(
        tmp_path / "a.emd"
    )


def test_links_inside_the_file_are_followed_and_circles_refused(tmp_path):
    def inside(group):
        group.file["real"] = IMAGE
        group["data"] = h5py.SoftLink("/real")

    def circle(group):
        group.file["a"] = h5py.SoftLink("/b")
        group.file["b"] = h5py.SoftLink("/a")
        group["data"] = h5py.SoftLink("/a")

    hspy_with_data(tmp_path / "a.hspy", inside)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.hspy")[0], IMAGE)
    hspy_with_data(tmp_path / "b.hspy", circle)
    assert "in a circle" in fault_of(tmp_path / "b.hspy")


def test_a_group_that_contains_itself_is_read_once(tmp_path):
    write_berkeley(tmp_path / "b.emd", IMAGE, [("y", "nm", 1.0), ("x", "nm", 1.0)])
    with h5py.File(tmp_path / "b.emd", "a") as file:
        file["data/image/again"] = file["data"]
    assert len(list_images(tmp_path / "b.emd")) == 1


@pytest.mark.parametrize("outside", [True, False])
def test_links_of_a_zspy_lead_nowhere_outside(outside, tmp_path):
    path, place = tmp_path / "a.zspy", "Experiments/__unnamed__/data/0/0/0"
    path.mkdir()
    write_zspy(path, STACK, compressor=None)
    (path / place).unlink()
    secret = (tmp_path if outside else path) / "secret"
    secret.write_bytes(STACK[0].tobytes())
    (path / place).symlink_to(secret)
    if outside:
        assert "another file, which is not opened" in fault_of(path)
    else:
        np.testing.assert_array_equal(read_micrograph(path)[0], STACK)


# Damage and bombs


@pytest.mark.parametrize("side", [60_000, 2**31])
def test_pixels_that_are_declared_but_not_stored_are_refused(side, tmp_path):
    with h5py.File(tmp_path / "a.hspy", "w") as file:
        group = file.create_group("Experiments/bomb")
        group.create_dataset("data", (side, side), np.uint8, chunks=(64, 64))
    assert "bytes of pixels, but holds 0; copy" in fault_of(tmp_path / "a.hspy")


@pytest.mark.slow
def test_one_chunk_of_gigabytes_is_refused(tmp_path):
    packer, zeros = zlib.compressobj(1), bytes(2**20)
    packed = b"".join([*(packer.compress(zeros) for _ in range(2**11)), packer.flush()])
    shape = (2**15, 2**16)  # 2 GB, in 9 MB
    with h5py.File(tmp_path / "a.hspy", "w") as file:
        group = file.create_group("Experiments/bomb")
        group.create_dataset("data", shape, np.uint8, chunks=shape, compression="gzip")
        group["data"].id.write_direct_chunk((0, 0), packed)
    assert "has chunks of 2,147,483,648 bytes" in fault_of(tmp_path / "a.hspy")


@pytest.mark.slow
def test_a_large_image_in_one_chunk_is_read_as_hyperspy_writes_it(tmp_path, rng):
    image = rng.integers(0, 1000, (5_000, 16_000), np.uint16)
    with h5py.File(tmp_path / "a.hspy", "w") as file:
        group = file.create_group("Experiments/large")
        shape = image.shape
        group.create_dataset("data", data=image, chunks=shape, compression="lzf")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.hspy")[0], image)


def test_what_does_not_fit_into_memory_is_refused_but_described(tmp_path, monkeypatch):
    write_hspy(tmp_path / "a.hspy", STACK)
    monkeypatch.setattr("os.sysconf", lambda _: 4)  # pages of 4 bytes, of which 4
    (source,) = list_images(tmp_path / "a.hspy")
    with pytest.raises(MicrographError, match="memory; read it image by image"):
        source.read()
    monkeypatch.undo()
    np.testing.assert_array_equal(source.read(), STACK)


def whole_file(tmp_path, name):
    path = tmp_path / name
    if name.startswith("ncem"):
        write_ncem(path, np.zeros((8, 8), np.uint8), pixel_size=0.5)
    else:
        told = signal(np.zeros((8, 8), np.uint8), pixel_size=0.5)
        rsciio.hspy.file_writer(str(path), told, compression=None)
    return path, bytearray(path.read_bytes())


# Found by scans of every byte with HDF5 1.14.6; another version may tell of them itself.


def test_damage_on_which_hdf5_hangs_is_told_in_time(tmp_path):
    path, contents = whole_file(tmp_path, "a.hspy")
    contents[contents.find(b"GCOL") + 80] = 0  # the heap of texts of attributes
    path.write_bytes(contents)
    start = time.monotonic()
    with pytest.raises((MicrographError, DamageError)):
        hdf5.sources(path, QUICK)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(("name", "number"), [("a.hspy", 4), ("ncem.emd", 2)])
def test_damage_on_which_hdf5_crashes_is_told(name, number, tmp_path):
    path, contents = whole_file(tmp_path, name)
    # The type of an attribute, a text of its own length.
    at = -1
    for _ in range(number + 1):
        at = contents.find(b"\x19\x01\x01", at + 1)
    contents[at + 1] = 9
    path.write_bytes(contents)
    fault_of(path)


@every_kind
def test_a_file_of_zeros_in_any_place_is_told_or_read(name, tmp_path):
    path = tmp_path / name
    WRITERS[name](path, STACK)
    whole = path.read_bytes()
    for start in range(0, len(whole), len(whole) // 12):
        contents = bytearray(whole)
        contents[start : start + 300] = bytes(len(contents[start : start + 300]))
        path.write_bytes(contents)
        try:
            found = hdf5.sources(path, QUICK)[0].read()
        except (MicrographError, DamageError):
            continue
        assert found.ndim in (2, 3)
