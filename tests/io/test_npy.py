"""NPY."""

import pickle
import tracemalloc

import numpy as np
import pytest
import rsciio.emd
import rsciio.hspy
from helpers.formats import (
    BAD_IMAGES,
    IMAGE,
    NARROW,
    checked,
    fault_of,
    signal,
)

from emdn.io import (
    MicrographError,
    open_micrograph,
    read_micrograph,
    write_micrograph,
)


@pytest.mark.parametrize("words", BAD_IMAGES)
def test_arrays_that_are_no_micrographs_are_refused_with_a_remedy(words, tmp_path):
    np.save(tmp_path / "a.npy", BAD_IMAGES[words])
    assert words in fault_of(tmp_path / "a.npy")


AMBIGUOUS = "but the last may be colours; save image.mean"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_that_may_be_colours_are_neither_read_nor_written(channels, tmp_path):
    array = np.zeros((5, 7, channels))
    np.save(tmp_path / "a.npy", array)
    unnamed = signal(array, axes=["", "", ""])
    rsciio.hspy.file_writer(str(tmp_path / "a.hspy"), unnamed)
    # HyperSpy's axes of one element are no axes.
    for name in ["a.npy", "a.hspy"] if channels > 1 else ["a.npy"]:
        assert AMBIGUOUS in fault_of(tmp_path / name)
    with pytest.raises(MicrographError, match=AMBIGUOUS) as caught:
        write_micrograph(tmp_path / "b.npy", array)
    checked(str(caught.value), tmp_path / "b.npy")
    assert not (tmp_path / "b.npy").exists()


def test_a_stack_of_one_narrow_image_is_not_ambiguous(tmp_path):
    np.save(tmp_path / "a.npy", NARROW[:1])
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.npy")[0], NARROW[0])


def test_pickles_are_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE.astype(object))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(IMAGE))
    for name in ["a.npy", "b.npy"]:
        assert "cannot be read as NPY" in fault_of(tmp_path / name)


def test_an_npy_file_is_read_though_another_thread_disturbs_the_parser(
    tmp_path, monkeypatch
):
    """Python 3.11 raises SystemError by chance when two threads parse at once."""
    np.save(tmp_path / "a.npy", IMAGE)
    read, calls = np.lib.format.read_array_header_1_0, []

    def disturbed_once(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            raise SystemError("AST constructor recursion depth mismatch")
        return read(*args, **options)

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", disturbed_once)
    image, _ = read_micrograph(tmp_path / "a.npy")
    np.testing.assert_array_equal(image, IMAGE)
    assert len(calls) >= 2


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 7), (1, 1, 5, 7)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">f4"])
def test_arrays_in_any_order_are_read_whole_and_image_by_image(
    shape, order, dtype, tmp_path
):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    source = open_micrograph(tmp_path / "a.npy")
    expected = array.reshape(source.shape).astype(array.dtype.newbyteorder("="))
    np.testing.assert_array_equal(source.read(), expected, strict=True)
    frames = np.stack(list(source.frames()))
    np.testing.assert_array_equal(frames, expected.reshape(-1, 5, 7), strict=True)


@pytest.mark.parametrize("length", [1, 60, 80, 128, 197])
def test_an_array_that_is_cut_short_is_refused(length, tmp_path):
    np.save(tmp_path / "a.npy", IMAGE)  # 128 bytes of header and 70 of numbers
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:length])
    fault_of(tmp_path / "a.npy")


def test_a_header_that_promises_terabytes_takes_no_memory(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**7)}
        np.lib.format.write_array_header_1_0(file, header)
    tracemalloc.start()
    assert "is cut short" in fault_of(tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()
