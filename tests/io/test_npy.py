"""NPY."""

import pickle

import numpy as np
import pytest
import rsciio.emd
import rsciio.hspy
from formats import (
    BAD_IMAGES,
    IMAGE,
    NARROW,
    checked,
    fault_of,
    signal,
)

from emdn.io import (
    MicrographError,
    read_micrograph,
    write_micrograph,
)


@pytest.mark.parametrize("words", BAD_IMAGES)
def test_arrays_that_are_no_micrographs_are_refused_with_a_remedy(words, tmp_path):
    np.save(tmp_path / "a.npy", BAD_IMAGES[words])
    assert words in fault_of(tmp_path / "a.npy")


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
