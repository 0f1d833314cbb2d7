"""Instances are functions of seed and number, of single finite images."""

import numpy as np
import pytest

from emdn.benchmark.instances import BenchmarkConfig, make_instance
from emdn.data.corpus import Entry, write_manifest
from emdn.io import write_micrograph


def test_an_instance_depends_on_its_number_and_the_seed_alone(config, folder):
    first = make_instance(config, "low", 3)
    make_instance(config, "low", 0)
    again = make_instance(config, "low", 3)
    np.testing.assert_array_equal(first.noisy, again.noisy)
    assert first.scale == again.scale
    others = [
        make_instance(config, "low", 7),
        make_instance(BenchmarkConfig(folder, crop=48, seed=1), "low", 3),
        make_instance(config, "ordinary", 3),
    ]
    assert len({first.scale, *(other.scale for other in others)}) == 4


def test_the_gain_takes_the_noisy_image_back_to_whole_electrons(config):
    instance = make_instance(config, "low", 1)
    counts = instance.noisy / instance.gain
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
    assert instance.dose == pytest.approx(counts.mean(), rel=1e-5)


def test_small_micrographs_are_taken_whole(config):
    assert make_instance(config, "low", 0).noisy.shape == (40, 48)


def test_only_the_micrographs_of_the_split_take_turns(config):
    entries = [make_instance(config, "low", number).entry for number in range(5)]
    assert [entry.file for entry in entries] == [f"{n}.tif" for n in (0, 1, 2, 3, 0)]
    assert {entry.source for entry in entries} == {"a", "b"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instances": 0}, "instances must be at least 1, got 0"),
        ({"crop": 8}, "crop must be at least 16 pixels, got 8"),
        ({"dose_ranges": ("low", "any")}, "must be of low, ordinary, got .*'any'"),
        ({"dose_ranges": ()}, "must be of low, ordinary"),
    ],
)
def test_bad_settings_are_named(folder, change, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig(folder, **change)


def test_a_folder_without_a_manifest_or_split_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.csv: does not exist"):
        make_instance(BenchmarkConfig(tmp_path), "low", 0)
    with pytest.raises(ValueError, match="no micrograph of the split 'train'"):
        make_instance(BenchmarkConfig(folder, "train"), "low", 0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((3, 32, 32)), r"a\.npy: is a stack of 3 images; name a file for each"),
        (np.where(np.eye(32), np.nan, 1.0), r"a\.npy: has pixels that are NaN or infinite"),
    ],
)
def test_stacks_and_broken_pixels_are_named(tmp_path, image, message):
    write_micrograph(tmp_path / "a.npy", image.astype(np.float32))
    write_manifest(tmp_path, [Entry("a.npy", "a", "test")])
    with pytest.raises(ValueError, match=message):
        make_instance(BenchmarkConfig(tmp_path), "low", 0)
