"""Pairs are functions of their number, splits never share a source, nothing bad gets in."""

import math
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
from scipy import stats

from emdn.data import augment
from emdn.data import sampler as sampler_module
from emdn.data.augment import PARTIAL, SYMMETRIES, augmented, symmetric
from emdn.data.corpus import (
    SPLITS,
    DataConfig,
    Record,
    describe,
    noise_to_signal,
    read_manifest,
    require_few_lost,
    survey,
    write_manifest,
)
from emdn.data.pipeline import pairs
from emdn.data.sampler import ACTIVE, Sampler, shrink
from emdn.io import write_micrograph
from emdn.noise import ORDINARY_HIGH
from emdn.specimens.micrographs import membranes

ALL_TRAIN = (1.0, 0.0, 0.0)


def counts(seed, shape=(24, 20), mean=1000.0):
    """Return an image that is no constant and like no other's."""
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


def fill(folder, *names, **options):
    """Write different images under names relative to a folder, and return the folder."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_micrograph(path, counts(number, **options))
    return folder


def config_of(folder, **changes):
    """Return settings for small files, all of them for training."""
    small = DataConfig(folder, crop=16, downsizing=1, fractions=ALL_TRAIN)
    return replace(small, **changes)


def sampler_of(images, folder, *, seed=0, **changes):
    """Write named images and return the sampler of all of them."""
    for name, image in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, image)
    config = config_of(folder, **changes)
    return Sampler(survey(config), config, seed=seed)


def levels(number, shape=(16, 16)):
    """Return an image whose pixels tell which one it is: 10 number to 10 number + 1."""
    return (10 * number + np.linspace(0, 1, math.prod(shape)).reshape(shape)).astype("f4")


def drawn(sampler, numbers):
    """Return which of the `levels` images the crops of some numbers are from."""
    rng = np.random.default_rng(0)
    return [int(sampler.crop(number, rng).min() / 10 + 0.01) for number in numbers]


KINDS_OF_PAIRS = [{}, {"augment": True}, {"scenes": 0.5}, {"scenes": 0.5, "augment": True}]
"""Settings that decide on what pairs are of."""


def splits_of(records):
    return {record.file: record.split for record in records}


def faults_of(folder, **changes):
    records = survey(config_of(folder, **changes))
    return {record.file: record.fault for record in records}


# Downsizing.


def test_downsizing_by_2_is_the_mean_of_2_x_2_pixels(rng):
    image = rng.integers(0, 4096, (10, 14)).astype(np.float32)
    corners = (image[y::2, x::2] for y in (0, 1) for x in (0, 1))
    np.testing.assert_array_equal(shrink(image, 2), sum(corners) / 4)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(15, 30), (7, 9), (3, 11, 8), (5, 5)])
def test_downsizing_is_the_mean_of_whole_areas(factor, shape, rng):
    """Rows and columns that fill no area are left away."""
    image = rng.uniform(size=shape)
    height, width = (side // factor for side in shape[-2:])
    whole = image[..., : height * factor, : width * factor]
    areas = whole.reshape(*shape[:-2], height, factor, width, factor)
    small = shrink(image, factor)
    assert small.dtype == np.float32
    np.testing.assert_allclose(small, areas.mean(axis=(-3, -1)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64])
def test_downsizing_the_largest_values_does_not_overflow(dtype):
    most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1e30
    np.testing.assert_allclose(shrink(np.full((4, 4), most, dtype), 2), most, rtol=1e-6)


def test_downsizing_leaves_the_image_alone(rng):
    image = rng.uniform(size=(6, 6))
    before = image.copy()
    shrink(image, 2)
    np.testing.assert_array_equal(image, before)


# Symmetries and crops.


def test_the_eight_symmetries_are_those_of_the_square(rng):
    image = rng.uniform(size=(5, 5))
    turned = {symmetric(image, number).tobytes() for number in range(SYMMETRIES)}
    flips = (image, image[::-1], image[:, ::-1], image[::-1, ::-1])
    assert turned == {each.tobytes() for flip in flips for each in (flip, flip.T)}
    assert len(turned) == 8


def test_crops_reach_every_place_in_every_symmetry_alike(tmp_path):
    """2 x 3 places and 8 symmetries, told apart by two corners."""
    image = np.arange(17 * 18).reshape(17, 18).astype(np.float32)
    sampler = sampler_of({"a.npy": image}, tmp_path)
    rng = np.random.default_rng(0)
    crops = (sampler.crop(number, rng) for number in range(4800))
    found = Counter((crop[0, 0], crop[0, -1]) for crop in crops)
    assert len(found) == 2 * 3 * SYMMETRIES
    assert stats.chisquare(list(found.values())).pvalue > 0.01


def test_a_crop_is_a_piece_of_the_downsized_image(tmp_path):
    image = counts(0, (40, 34))
    sampler = sampler_of({"a.npy": image}, tmp_path, downsizing=2)
    small = shrink(image, 2)
    pieces = {small[y : y + 16, x : x + 16].tobytes() for y in range(5) for x in range(2)}
    for number in range(20):
        crop = sampler.crop(number, np.random.default_rng(number))
        assert pieces & {symmetric(crop, n).tobytes() for n in range(SYMMETRIES)}


def test_crops_of_a_stack_are_from_one_image_each_and_from_all(tmp_path):
    stack = np.stack([levels(number, (18, 18)) for number in range(3)])
    sampler = sampler_of({"stack.npy": stack}, tmp_path)
    rng = np.random.default_rng(0)
    crops = [sampler.crop(number, rng) for number in range(60)]
    assert all(np.ptp(crop) <= 1 for crop in crops)
    assert {int(crop.min() // 10) for crop in crops} == {0, 1, 2}


# Pairs.


@pytest.fixture
def sampler(tmp_path):
    images = {f"{number}.npy": counts(number, (20, 40)) for number in range(9)}
    return sampler_of(images, tmp_path)


def test_pairs_are_float32_in_0_to_1_of_equal_means(sampler):
    for number in range(50):
        noisy, clean, _ = sampler.pair(number)
        for image in (noisy, clean):
            assert image.shape == (16, 16)
            assert image.dtype == np.float32
            assert image.min() >= 0
        assert noisy.max() == 1
        assert noisy.mean() == pytest.approx(clean.mean(), rel=1e-5)


def test_counts_are_what_1_stands_for(sampler):
    """Whole numbers of electrons, the most of them at 1."""
    for number in range(50):
        noisy, _, at_1 = sampler.pair(number)
        assert at_1.dtype == np.float32
        assert at_1 == round(at_1) > 25
        np.testing.assert_allclose(noisy * at_1, np.round(noisy * at_1), atol=1e-3)


@pytest.mark.parametrize("changes", KINDS_OF_PAIRS, ids=str)
def test_a_pair_is_a_function_of_seed_and_number_alone(changes, sampler):
    """Not of the order, of what was asked before, of the thread or of the Sampler."""
    config = replace(sampler.config, **changes)
    first, other = (Sampler(sampler.records, config) for _ in range(2))
    numbers = [0, 1, 17, 64, 65, 5000, 10**12]
    expected = {number: first.pair(number) for number in numbers}
    with ThreadPoolExecutor(4) as pool:
        shuffled = numbers[::-1] * 5
        again = [*map(first.pair, shuffled), *pool.map(other.pair, shuffled)]
    for number, pair in zip(shuffled * 2, again, strict=True):
        for found, array in zip(pair, expected[number], strict=True):
            np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("changes", KINDS_OF_PAIRS, ids=str)
def test_other_numbers_seeds_and_splits_give_other_pairs(changes, sampler):
    sampler = Sampler(sampler.records, replace(sampler.config, **changes))
    renamed = [record._replace(split="val") for record in sampler.records]
    samplers = [
        sampler,
        Sampler(sampler.records, sampler.config, seed=1),
        Sampler(renamed, sampler.config, "val"),
    ]
    noisy = {each.pair(number)[0].tobytes() for each in samplers for number in range(100)}
    assert len(noisy) == 300


def test_the_same_crop_gets_fresh_noise_each_time(tmp_path):
    """The image has one place for a crop and looks alike in all symmetries."""
    y, x = np.indices((16, 16)) - 7.5
    sampler = sampler_of({"a.npy": np.exp(-(y**2 + x**2) / 30).astype("f4")}, tmp_path)
    noisy, clean, _ = zip(*map(sampler.pair, range(20)), strict=True)
    assert len({each.tobytes() for each in noisy}) == 20
    shapes = np.stack([each / each.max() for each in clean])
    np.testing.assert_allclose(shapes, shapes[:1].repeat(20, axis=0), atol=1e-5)


def test_ordinary_doses_are_less_noisy_than_low_ones(sampler):
    ordinary = Sampler(sampler.records, replace(sampler.config, dose_range="ordinary"))

    def error(each):
        found = (each.pair(n) for n in range(50))
        return np.mean([np.square(pair.noisy - pair.clean).mean() for pair in found])

    assert error(ordinary) < error(sampler) / 3


# Augmented pairs.


@pytest.fixture
def many():
    """Return augmented pairs of 64 x 64 pixels, whose counts are told as they are."""
    image, rng = membranes((128, 128), np.random.default_rng(0)), np.random.default_rng(1)
    scales = np.exp(rng.uniform(np.log(25), np.log(ORDINARY_HIGH), 300))
    sides = rng.integers(43, 129, 300)
    crops = [image[:side, :side] for side in sides]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment, "MISTOLD", 0.0)
        return [
            augmented(crop, 64, scale, rng)
            for crop, scale in zip(crops, scales, strict=True)
        ]


def test_augmented_pairs_are_float32_of_the_side_asked_for(many):
    for noisy, clean, at_1 in many:
        assert noisy.shape == clean.shape == (64, 64)
        assert noisy.dtype == clean.dtype == at_1.dtype == np.float32
        assert 0 <= noisy.min() < noisy.max() <= 1
        assert 0 <= clean.min() < clean.max() < 1.5


def test_the_noise_of_augmented_pairs_is_shot_noise_around_the_clean_image(many):
    """In sum over an image, and in each pixel that expects a count: mean 0, variance 1."""
    sums, pixels = [], []
    for noisy, clean, at_1 in many:
        counts, expected = (at_1.astype(float) * each for each in (noisy, clean))
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)
        sums.append((counts.sum() - expected.sum()) / math.sqrt(expected.sum()))
        seen = expected > 1
        pixels.append(((counts - expected)[seen] / np.sqrt(expected[seen])).ravel())
    assert stats.kstest(sums, stats.norm.cdf).pvalue > 0.01
    assert np.std(sums) == pytest.approx(1, abs=0.16)  # four deviations
    assert np.concatenate(pixels).mean() == pytest.approx(0, abs=0.01)
    assert np.concatenate(pixels).var() == pytest.approx(1, abs=0.01)


def test_half_of_the_augmented_pairs_reach_neither_0_nor_1_as_parts_of_an_image(many):
    """Some reach one of them by chance."""
    brightest = np.array([pair.noisy.max() for pair in many])
    assert (brightest == 1).mean() == pytest.approx(1 - PARTIAL, abs=0.15)
    darkest = np.array([pair.clean.min() / pair.clean.max() for pair in many])
    assert (darkest > 0.01).mean() == pytest.approx(PARTIAL, abs=0.1)
    assert np.quantile(darkest, 0.9) > 0.3


def test_misjudged_counts_are_told_off_and_change_nothing_else(monkeypatch):
    image, off_by = membranes((32, 32), np.random.default_rng(0)), []
    for seed in range(300):
        both = []
        for share in (0.0, 1.0):
            monkeypatch.setattr(augment, "MISTOLD", share)
            both.append(augmented(image, 32, 100.0, np.random.default_rng(seed)))
        told, mistold = both
        np.testing.assert_array_equal(told.noisy, mistold.noisy)
        np.testing.assert_array_equal(told.clean, mistold.clean)
        off_by.append(mistold.counts / told.counts)
    assert np.mean(np.log(off_by)) == pytest.approx(0, abs=0.046)  # four deviations
    assert np.std(np.log(off_by)) == pytest.approx(0.2, rel=0.16)


def test_half_of_the_truths_have_a_grain_as_strong_as_that_of_micrographs(monkeypatch):
    """The same but for the grain, in units of the brightest pixel of the image."""
    image, deviations = membranes((64, 64), np.random.default_rng(0)), []
    monkeypatch.setattr(augment, "MISTOLD", 0.0)
    share = augment.GRAINY

    def truth(seed, grainy):
        monkeypatch.setattr(augment, "GRAINY", grainy)
        pair = augmented(image, 64, 1e4, np.random.default_rng(seed))
        return pair.clean * pair.counts / 1e4

    for seed in range(200):
        smooth = truth(seed, 0.0)
        inside = (smooth > 0.1) & (smooth < 0.9)  # where no grain is cut off
        deviations.append(np.std((truth(seed, 1.0) - smooth)[inside]))
    low, high = augment.GRAIN
    assert 0.9 * low < min(deviations) < max(deviations) < 1.1 * high
    assert np.mean(np.log(deviations)) == pytest.approx(np.log(low * high) / 2, abs=0.22)
    grains = sum(
        (truth(seed, share) != truth(seed, 0.0)).mean() > 0.5 for seed in range(200)
    )
    assert stats.binomtest(int(grains), 200, 0.5).pvalue > 0.01


def test_augmented_crops_are_bent_by_a_gamma_and_some_inverted_or_blurred(monkeypatch):
    """The order of the greys tells which; the middle grey, by how much."""
    monkeypatch.setattr(augment, "GRAINY", 0.0)  # it has no order
    image = membranes((48, 48), np.random.default_rng(0))
    rng, orders, gammas = np.random.default_rng(1), [], []
    for _ in range(200):
        clean = augmented(image, 48, 100.0, rng).clean
        orders.append(stats.spearmanr(image, clean, axis=None).statistic)
        if abs(orders[-1]) > 0.9999:  # not blurred
            unit = (clean - clean.min()) / np.ptp(clean)
            middle = np.median(unit if orders[-1] > 0 else 1 - unit)
            gammas.append(np.log(middle) / np.log(np.median(image)))
    inverted, sharp = (sum(np.array(orders) < 0), len(gammas))
    assert stats.binomtest(int(inverted), 200, augment.INVERTED).pvalue > 0.01
    assert stats.binomtest(sharp, 200, 1 - augment.BLURRED).pvalue > 0.01
    assert np.mean(np.log(gammas)) == pytest.approx(0, abs=0.1)  # four deviations
    assert np.std(np.log(gammas)) == pytest.approx(0.3, rel=0.23)
    assert min(np.abs(orders)) > 0.7  # the blur leaves the specimen


@pytest.mark.parametrize("side", [21, 32, 45, 64])
def test_a_crop_of_any_size_is_magnified_to_the_pairs(side):
    """A wave of three periods has as many in the pair."""
    wave = np.sin(6 * np.pi * (np.arange(side) + 0.5) / side).astype("f4")
    crop = np.broadcast_to(wave, (side, side))
    clean = augmented(crop, 32, 1e6, np.random.default_rng(0)).clean
    assert clean.shape == (32, 32)
    power = np.abs(np.fft.rfft(clean.mean(axis=0) - clean.mean()))
    assert power.argmax() == 3


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_crop_and_one_without_electrons_make_finite_pairs(value):
    for seed in range(20):
        for scale in (100.0, 1e-9):
            crop = np.full((20, 20), value, np.float32)
            noisy, clean, at_1 = augmented(crop, 16, scale, np.random.default_rng(seed))
            assert 0 <= noisy.min() <= noisy.max() <= 1
            assert np.isfinite(clean).all()
            assert 0 < at_1 < math.inf
            assert scale > 1 or (noisy == 0).all()


def test_crops_are_from_two_thirds_to_the_double_of_the_side(tmp_path):
    sampler = sampler_of({"a.npy": counts(0, (80, 50))}, tmp_path, augment=True, crop=32)
    rng = np.random.default_rng(0)
    sides = [sampler.crop(number, rng).shape for number in range(300)]
    assert all(height == width for height, width in sides)
    lengths = np.array(sides)[:, 0]
    assert lengths.min() == 21
    assert lengths.max() == 50  # all that there is of the double
    assert len(np.unique(lengths)) > 20


# Scenes.


def scenes_of(sampler, numbers):
    """Return which numbers are crops of scenes, whose values reach from 0 to 1 at most."""
    rng = np.random.default_rng(0)
    return [sampler.crop(number, rng).max() <= 1 for number in numbers]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_scenes_is_that_of_the_settings(share, tmp_path):
    images = {f"{number}.npy": levels(number + 1) for number in range(3)}
    sampler = sampler_of(images, tmp_path, scenes=share, crops_per_visit=1)
    number = 400
    found = sum(scenes_of(sampler, range(number)))
    assert stats.binomtest(found, number, share).pvalue > 0.01


def test_no_micrograph_is_read_where_all_crops_are_of_scenes(tmp_path):
    sampler = sampler_of({"a.npy": counts(0)}, tmp_path, scenes=1.0)
    (tmp_path / "a.npy").unlink()
    assert sampler.pair(0).noisy.shape == (16, 16)


def test_no_scene_is_drawn_where_none_is_wanted(tmp_path, monkeypatch):
    monkeypatch.delattr(sampler_module, "scene")
    sampler = sampler_of({"a.npy": counts(0)}, tmp_path)
    assert sampler.pair(0).noisy.shape == (16, 16)
    wanting = Sampler(sampler.records, replace(sampler.config, scenes=1.0))
    with pytest.raises(NameError, match="scene"):
        wanting.pair(0)


def test_a_scene_gives_some_crops_before_it_is_left(tmp_path, monkeypatch):
    drawn_scenes = []

    def scene(shape, rng):
        drawn_scenes.append(shape)
        return np.full(shape, rng.uniform(), np.float32)

    monkeypatch.setattr(sampler_module, "scene", scene)
    sampler = sampler_of({"a.npy": counts(0)}, tmp_path, scenes=1.0, crops_per_visit=3)
    rng = np.random.default_rng(0)
    values = [sampler.crop(number, rng)[0, 0] for number in range(6 * ACTIVE)]
    visits = np.reshape(values, (2, 3, ACTIVE))
    np.testing.assert_array_equal(visits, visits[:, :1].repeat(3, axis=1))
    assert len(np.unique(visits)) == 2 * ACTIVE
    assert drawn_scenes == [(32, 32)] * (2 * ACTIVE)  # each once


@pytest.mark.parametrize("split", ["val", "test"])
def test_pairs_to_judge_by_are_neither_augmented_nor_of_scenes(split, tmp_path):
    images = {f"{number}.npy": levels(number + 1, (40, 40)) for number in range(3)}
    sampler = sampler_of(images, tmp_path)
    records = [record._replace(split=split) for record in sampler.records]
    changed = replace(sampler.config, scenes=1.0, augment=True)
    plain = Sampler(records, sampler.config, split)
    other = Sampler(records, changed, split)
    for number in range(20):
        assert_batches_equal(other.pair(number), plain.pair(number))
    training = Sampler(sampler.records, changed).pair(0), sampler.pair(0)
    assert not np.array_equal(training[0].noisy, training[1].noisy)


# Which micrographs are drawn.


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0])
def test_sources_are_drawn_in_proportion_to_a_power_of_their_size(exponent, tmp_path):
    sizes = np.array([1, 4, 16])
    names = [f"{source}/{n}.npy" for source, size in enumerate(sizes) for n in range(size)]
    images = {name: levels(number) for number, name in enumerate(names)}
    sampler = sampler_of(images, tmp_path, source_exponent=exponent, crops_per_visit=1)
    draws = 6000
    found = np.bincount(drawn(sampler, range(draws)), minlength=len(names))
    shares = sizes**exponent / (sizes**exponent).sum()
    expected = np.repeat(draws * shares / sizes, sizes)  # alike within a source
    assert stats.chisquare(found, expected).pvalue > 0.01


def test_a_micrograph_gives_some_crops_before_it_is_left(tmp_path):
    images = {f"{number:03}.npy": levels(number) for number in range(200)}
    sampler = sampler_of(images, tmp_path, crops_per_visit=3)
    visits = np.array(drawn(sampler, range(6 * ACTIVE))).reshape(2, 3, ACTIVE)
    np.testing.assert_array_equal(visits, visits[:, :1].repeat(3, axis=1))
    # Two draws of 200 are the same in 1 of 200 cases.
    assert (visits[0, 0] == visits[1, 0]).mean() < 0.1


def test_all_records_but_those_of_other_splits_or_with_faults_are_drawn(tmp_path):
    images = {f"{number}.npy": levels(number) for number in range(4)}
    records = sampler_of(images, tmp_path).records
    records[1] = records[1]._replace(split="val")
    records[2] = records[2]._replace(fault="dim")
    config = config_of(tmp_path, crops_per_visit=1)
    assert set(drawn(Sampler(records, config), range(100))) == {0, 3}
    assert set(drawn(Sampler(records, config, "val"), range(100))) == {1}
    with pytest.raises(ValueError, match="no micrograph is in the split 'test'"):
        Sampler(records, config, "test")


# Memory and disk.


def test_images_in_memory_never_take_more_bytes_than_allowed(tmp_path):
    images = {f"{number}.npy": levels(number) for number in range(30)}
    size = 5.5 * 16 * 16 * 4
    sampler = sampler_of(images, tmp_path, cache=size / 1e9, crops_per_visit=1)
    cache = sampler._images
    held = []

    def draw(number):
        sampler.pair(number)
        with cache.lock:
            held.append(sum(image.nbytes for image in cache.images.values()))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(300)))
    assert max(held) <= size
    assert max(held) > size / 2  # it is used
    assert cache.held == held[-1]


def test_an_image_larger_than_the_cache_can_be_used(tmp_path):
    sampler = sampler_of({"a.npy": counts(0), "b.npy": counts(1)}, tmp_path, cache=0.0)
    assert sampler.pair(3)[0].shape == (16, 16)


def test_an_image_in_memory_is_not_read_again(tmp_path, monkeypatch):
    sampler = sampler_of({f"{n}.npy": levels(n) for n in range(4)}, tmp_path)
    reads = []
    read = sampler._images.read
    monkeypatch.setattr(
        sampler._images, "read", lambda file: (reads.append(file), read(file))[1]
    )
    for number in range(500):
        sampler.pair(number)
    assert sorted(reads) == ["0.npy", "1.npy", "2.npy", "3.npy"]


def test_a_file_that_becomes_unreadable_is_skipped(tmp_path):
    """One of a hundred may be lost; others take its place in the same way each time."""
    images = {f"{number:03}.npy": levels(number) for number in range(100)}
    sampler = sampler_of(images, tmp_path, crops_per_visit=1)
    before = drawn(sampler, range(400))
    gone = before[70]
    (tmp_path / f"{gone:03}.npy").write_bytes(b"overwritten")
    samplers = [Sampler(sampler.records, sampler.config) for _ in range(2)]
    after, again = (drawn(each, range(400)) for each in samplers)
    assert gone not in after
    assert after == again
    assert [new for new, old in zip(after, before, strict=True) if old != gone] == [
        old for old in before if old != gone
    ]
    assert samplers[0].lost == {f"{gone:03}.npy"}


def test_too_many_files_that_become_unreadable_stop_the_training(tmp_path):
    images = {f"{number:03}.npy": levels(number) for number in range(100)}
    sampler = sampler_of(images, tmp_path, crops_per_visit=1)
    for number in drawn(sampler, range(5)):
        (tmp_path / f"{number:03}.npy").unlink()
    sampler = Sampler(sampler.records, sampler.config)
    with pytest.raises(ValueError, match=r"2 of 100 micrographs became unreadable.*\.npy"):
        drawn(sampler, range(5))


def test_a_file_that_gets_nan_later_is_never_used(tmp_path):
    sampler = sampler_of({"a.npy": counts(0)}, tmp_path)
    np.save(tmp_path / "a.npy", np.full((24, 20), np.nan))
    with pytest.raises(ValueError, match=r"a\.npy: holds NaN"):
        sampler.pair(0)


# Splits.


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a folder of 60 sources of one to four micrographs."""
    sizes = np.random.default_rng(0).integers(1, 5, 60)
    names = [f"{s:02}/{n}.npy" for s, size in enumerate(sizes) for n in range(size)]
    return fill(tmp_path_factory.mktemp("sources"), *names, shape=(16, 16))


def test_the_seed_decides_on_the_split(sources):
    config = config_of(sources, fractions=(0.66, 0.14, 0.20))
    first = survey(config, seed=3)
    assert survey(config, seed=3) == first
    assert splits_of(survey(config, seed=4)) != splits_of(first)


@pytest.mark.parametrize("fractions", [(0.66, 0.14, 0.20), (0.5, 0.5, 0.0), ALL_TRAIN])
def test_fractions_are_met_to_the_size_of_a_source(fractions, sources):
    records = survey(config_of(sources, fractions=fractions), seed=1)
    for split, fraction in zip(SPLITS, fractions, strict=True):
        found = sum(record.split == split for record in records)
        assert found == pytest.approx(fraction * len(records), abs=4)
        assert fraction or not found


@pytest.mark.parametrize("seed", range(5))
def test_no_source_is_in_two_splits(seed, sources):
    records = survey(config_of(sources, fractions=(0.4, 0.3, 0.3)), seed=seed)
    both = {(record.source, record.split) for record in records}
    assert {split for _, split in both} == set(SPLITS)
    assert len(both) == len({record.source for record in records}) == 60


def test_a_source_is_a_subfolder_or_else_a_file(tmp_path):
    fill(tmp_path, "s/a.npy", "s/deep/b.npy", "t/a.npy", "c.npy", "d.npy")
    records = survey(config_of(tmp_path))
    assert {record.file: record.source for record in records} == {
        "c.npy": "c.npy",
        "d.npy": "d.npy",
        "s/a.npy": "s",
        "s/deep/b.npy": "s",
        "t/a.npy": "t",
    }


def test_subfolders_train_val_and_test_are_splits(tmp_path):
    """Equal names of files in two of them do not make one source."""
    fill(tmp_path, "train/a.npy", "train/s/b.npy", "val/a.npy", "test/t/a.npy")
    records = survey(config_of(tmp_path))
    assert splits_of(records) == {
        "test/t/a.npy": "test",
        "train/a.npy": "train",
        "train/s/b.npy": "train",
        "val/a.npy": "val",
    }
    assert [r.source for r in records if r.file in ("train/s/b.npy", "test/t/a.npy")] == [
        "t",
        "s",
    ]


def test_a_manifest_names_files_sources_and_splits(tmp_path):
    fill(tmp_path, "a.npy", "b.npy", "s/c.npy", "d.npy")
    (tmp_path / "manifest.csv").write_text(
        "source,file,split\nx,a.npy,val\nx,b.npy,val\ny,s/c.npy,train\n"
    )
    records = survey(config_of(tmp_path))  # d.npy is not in it
    assert [record[:3] for record in records] == [
        ("a.npy", "x", "val"),
        ("b.npy", "x", "val"),
        ("s/c.npy", "y", "train"),
    ]


def test_a_manifest_may_leave_the_split_to_us(tmp_path):
    names = [f"{number}.npy" for number in range(30)]
    fill(tmp_path, *names, shape=(16, 16))
    rows = [f"{name},{number // 3}\n" for number, name in enumerate(names)]
    (tmp_path / "manifest.csv").write_text("file,source\n" + "".join(rows))
    records = survey(config_of(tmp_path, fractions=(0.6, 0.2, 0.2)))
    assert len({(record.source, record.split) for record in records}) == 10
    sizes = Counter(record.split for record in records)
    assert sizes == pytest.approx({"train": 18, "val": 6, "test": 6}, abs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,split\na.npy,train\n", "must have columns file and source"),
        ("file,source\n", "and a row a file"),
        ("", "and a row a file"),
        ("file,source,split\na.npy,a,training\n", "train val test, got 'training'"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused(text, message, tmp_path):
    fill(tmp_path, "a.npy")
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"manifest\.csv: .*{message}"):
        survey(config_of(tmp_path))


def test_a_source_in_two_splits_is_refused(tmp_path):
    fill(tmp_path, "train/s/a.npy", "val/s/b.npy")
    message = r"train/s/a\.npy in train and val/s/b\.npy in val are of the same source"
    with pytest.raises(ValueError, match=message):
        survey(config_of(tmp_path))


def test_a_file_in_two_splits_is_refused_under_any_name(tmp_path):
    fill(tmp_path, "train/a.npy", "train/b.npy", "test/c.npy")
    (tmp_path / "test" / "d.npy").write_bytes((tmp_path / "train" / "b.npy").read_bytes())
    message = r"test/d\.npy in test and train/b\.npy in train are of the same contents"
    with pytest.raises(ValueError, match=message):
        survey(config_of(tmp_path))


def test_a_file_twice_in_one_split_is_allowed(tmp_path):
    fill(tmp_path, "train/a.npy")
    (tmp_path / "train" / "b.npy").write_bytes((tmp_path / "train" / "a.npy").read_bytes())
    assert len(survey(config_of(tmp_path))) == 2


# Quality.


def nearly_even(mean):
    """Return an image of a mean that is no constant."""
    return np.where(np.indices((16, 16)).sum(axis=0) % 2, mean - 1, mean + 1)


@pytest.mark.parametrize("mean", [1.0, 25.0, 2500.0, 1e6])
def test_noise_to_signal_of_even_counts_is_that_of_poisson(mean):
    for image in (np.full((8, 8), mean), np.full((8, 8), int(mean), np.int32)):
        assert noise_to_signal(image) == pytest.approx(1 / math.sqrt(mean), rel=1e-6)


def test_noise_to_signal_of_nothing_is_infinite():
    assert noise_to_signal(np.zeros((4, 4))) == math.inf
    assert noise_to_signal(np.full((4, 4), -3.0)) == math.inf


def test_a_limit_of_2_per_cent_is_one_of_2500_counts(tmp_path):
    for mean in (2499, 2501):
        np.save(tmp_path / f"{mean}.npy", nearly_even(mean))
    assert faults_of(tmp_path, max_noise_to_signal=0.02) == {
        "2499.npy": "noise-to-signal not below 0.02",
        "2501.npy": "",
    }


def test_dim_micrographs_are_refused_below_the_limit_only(tmp_path):
    for mean in (2499, 2500, 2501):
        np.save(tmp_path / f"{mean}.npy", nearly_even(mean))
    assert faults_of(tmp_path, min_mean=2500.0) == {
        "2499.npy": "mean below 2500",
        "2500.npy": "",
        "2501.npy": "",
    }


def test_micrographs_of_no_use_are_refused_with_the_reason(tmp_path):
    fill(tmp_path, "good.npy", shape=(32, 40))
    fill(tmp_path, "narrow.npy", shape=(40, 31))
    np.save(tmp_path / "flat.npy", np.full((32, 32), 7))
    infinite = np.inf
    for values in ([np.nan], [infinite], [infinite, -infinite]):
        image = counts(8, (32, 32))
        image[0, : len(values)] = values
        np.save(tmp_path / f"{values}.npy", image)
    assert faults_of(tmp_path, downsizing=2) == {
        "[inf, -inf].npy": "holds NaN or infinities",
        "[inf].npy": "holds NaN or infinities",
        "[nan].npy": "holds NaN or infinities",
        "flat.npy": "constant",
        "good.npy": "",
        "narrow.npy": "smaller than a crop of 16 after downsizing",
    }


def test_records_tell_sizes_and_means(tmp_path):
    image = counts(0, (20, 30))
    np.save(tmp_path / "a.npy", image)
    (record,) = survey(config_of(tmp_path))
    assert (record.height, record.width) == (20, 30)
    assert record.mean == pytest.approx(image.mean())
    assert record.noise_to_signal == pytest.approx(noise_to_signal(image))
    assert not record.unreadable


# Files that cannot be read.


def damage(folder, number):
    """Write files that are none of their format."""
    for each in range(number):
        (folder / f"damaged {each}.tif").write_bytes(b"not a TIFF")


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    """Return a folder of 99 good files and one damaged one."""
    names = [f"{number:02}.npy" for number in range(99)]
    folder = fill(tmp_path_factory.mktemp("hundred"), *names, shape=(16, 16))
    damage(folder, 1)
    return folder


def test_an_unreadable_file_is_reported_and_never_becomes_an_image(hundred):
    """Exactly 1 % may be so."""
    config = config_of(hundred)
    records = survey(config)
    (lost,) = [record for record in records if record.unreadable]
    assert lost.file == "damaged 0.tif"
    assert "damaged 0.tif: cannot be read as TIF" in lost.fault
    assert len(records) == 100
    used = Sampler(records, config).records
    assert lost not in used
    assert len(used) == 99
    assert any("damaged 0.tif" in line for line in describe(records))


def test_more_unreadable_files_than_1_per_cent_are_refused(tmp_path):
    fill(tmp_path, *(f"{number:02}.npy" for number in range(98)), shape=(16, 16))
    damage(tmp_path, 2)
    message = r"2 of 100 micrographs cannot be read, more than 1%.*damaged 0\.tif: cannot"
    with pytest.raises(ValueError, match=message):
        survey(config_of(tmp_path))


@pytest.mark.parametrize("hundreds", [1, 3, 7, 29, 57, 113])
def test_one_of_a_hundred_may_be_unreadable_and_no_more(hundreds):
    good = [Record("a", "a", "train", height=1)] * (99 * hundreds)
    lost = [Record("b", "b", "train", fault="b: is cut short")] * hundreds
    require_few_lost(good + lost)
    with pytest.raises(ValueError, match="b: is cut short"):
        require_few_lost(good[1:] + lost)


def test_a_file_of_the_manifest_that_is_missing_is_unreadable(tmp_path):
    fill(tmp_path, "a.npy")
    (tmp_path / "manifest.csv").write_text("file,source\na.npy,a\nb.npy,b\n")
    with pytest.raises(ValueError, match=r"1 of 2 micrographs cannot be read.*b\.npy"):
        survey(config_of(tmp_path))


def test_a_folder_without_use_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere: is no folder"):
        survey(config_of(tmp_path / "nowhere"))
    (tmp_path / "notes.txt").write_text("no micrograph")
    with pytest.raises(ValueError, match=r"holds no micrograph; files end in \.tif"):
        survey(config_of(tmp_path))
    fill(tmp_path, "a.npy", "b.npy", mean=10.0)
    message = "no micrograph is left to train on; most are refused: mean below 50"
    with pytest.raises(ValueError, match=message):
        survey(config_of(tmp_path, min_mean=50.0))
    with pytest.raises(ValueError, match=r"no micrograph is left to train on$"):
        survey(config_of(tmp_path, fractions=(0.0, 1.0, 0.0)))


def test_files_of_several_formats_make_the_same_crops(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 24)).astype(np.uint8)
    names = ("a.tif", "b.TIFF", "c.npy", "d.mrc", "e.png")
    for name in names[:4]:
        write_micrograph(tmp_path / name, image.astype(np.int16))
    iio.imwrite(tmp_path / "e.png", image)
    (tmp_path / "notes.txt").write_text("no micrograph")
    config = config_of(tmp_path, crops_per_visit=1)
    records = survey(config)
    assert tuple(record.file for record in records) == names
    crops = [
        Sampler([record], config).crop(0, np.random.default_rng(0)) for record in records
    ]
    np.testing.assert_array_equal(crops, crops[:1] * 5)


# What the survey leaves behind.


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    records = [
        Record("a, b.tif", 'the "first"', "train", 20, 30, 1 / 3, 0.1 + 0.2, "0a1b"),
        Record("s/µ.npy", "s", "val", fault="s/µ.npy: is cut short;\ncopy it again"),
        Record("c.npy", "c", "test", 1, 1, math.inf, 5e-324, fault="holds NaN, or so"),
    ]
    write_manifest(tmp_path / "manifest.csv", records)
    again = read_manifest(tmp_path / "manifest.csv")
    assert list(map(repr, again)) == list(map(repr, records))  # NaN is not equal to NaN
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_a_survey_can_be_read_from_its_manifest(hundred, tmp_path):
    records = survey(config_of(hundred))
    write_manifest(tmp_path / "manifest.csv", records)
    assert list(map(repr, read_manifest(tmp_path / "manifest.csv"))) == list(
        map(repr, records)
    )


def test_the_description_counts_micrographs_sources_and_faults():
    records = [
        Record("s/a.tif", "s", "train", 1),
        Record("s/b.tif", "s", "train", 1),
        Record("c.tif", "c", "train", 1, fault="constant"),
        Record("d.tif", "d", "val", 1, fault="constant"),
        Record("e.tif", "e", "test", fault="e.tif: is cut short"),
        Record("f.tif", "f", "test", 1),
    ]
    assert describe(records) == [
        "train: 2 micrographs of 1 sources",
        "val: 0 micrographs of 0 sources",
        "test: 1 micrographs of 1 sources",
        "refused, 2: constant",
        "refused, 1: e.tif: is cut short",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 0}, "crop must be a multiple of 16, got 0"),
        ({"crop": 40}, "crop must be a multiple of 16, got 40"),
        ({"crop": -16}, "crop must be a multiple of 16, got -16"),
        ({"downsizing": 0}, "downsizing must be at least 1, got 0"),
        ({"crops_per_visit": 0}, "crops_per_visit must be at least 1, got 0"),
        ({"scenes": -0.1}, "scenes must be a share from 0 to 1, got -0.1"),
        ({"scenes": 1.5}, "scenes must be a share from 0 to 1, got 1.5"),
        ({"scenes": math.nan}, "scenes must be a share from 0 to 1, got nan"),
        ({"fractions": (0.5, 0.2, 0.2)}, r"add to 1, got \(0.5, 0.2, 0.2\)"),
        ({"fractions": (1.2, -0.2, 0.0)}, r"add to 1, got \(1.2, -0.2, 0.0\)"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        DataConfig(tmp_path, **settings)


# Batches.


def batches(sampler, batch, number, **options):
    """Return images, (number, N, H, W, 1) each, and counts of the first batches."""
    made = pairs(sampler, batch, **options).take(number).as_numpy_iterator()
    return [np.stack(each) for each in zip(*made, strict=True)]


def assert_batches_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("changes", KINDS_OF_PAIRS, ids=str)
def test_batches_hold_the_samplers_pairs_in_order(changes, sampler):
    sampler = Sampler(sampler.records, replace(sampler.config, **changes))
    noisy, clean, at_1 = batches(sampler, 3, 4)
    assert noisy.shape == clean.shape == (4, 3, 16, 16, 1)
    assert at_1.shape == (4, 3)
    assert {each.dtype for each in (noisy, clean, at_1)} == {np.dtype(np.float32)}
    flat = noisy.reshape(12, 16, 16), clean.reshape(12, 16, 16), at_1.ravel()
    for number, pair in enumerate(zip(*flat, strict=True)):
        assert_batches_equal(pair, sampler.pair(number))


def test_a_stream_goes_on_where_it_would_have_been(sampler):
    later = batches(sampler, 3, 2, first=4)
    assert_batches_equal(later, [each[4:] for each in batches(sampler, 3, 6)])


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_every_batch(workers, sampler):
    """In each batch, one's pairs come before the next one's."""
    whole = batches(sampler, 6, 4, first=2)
    shares = [
        batches(sampler, 6, 4, first=2, share=(worker, workers))
        for worker in range(workers)
    ]
    assert shares[0][0].shape == (4, 6 // workers, 16, 16, 1)
    joined = [np.concatenate(parts, axis=1) for parts in zip(*shares, strict=True)]
    assert_batches_equal(joined, whole)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_number_of_threads_does_not_change_the_batches(threads, sampler):
    expected = batches(sampler, 4, 5)
    assert_batches_equal(batches(sampler, 4, 5, threads=threads), expected)


def test_pairs_are_made_in_several_threads(sampler, monkeypatch):
    """Two must be under way at once, or the barrier breaks."""
    barrier = threading.Barrier(2, timeout=20)
    pair = sampler.pair
    monkeypatch.setattr(sampler, "pair", lambda number: (barrier.wait(), pair(number))[1])
    noisy, *_ = batches(sampler, 2, 1, threads=2)
    assert noisy.shape == (1, 2, 16, 16, 1)
    barrier.abort()  # for those that are made ahead


def test_batches_that_cannot_be_shared_are_refused(sampler):
    with pytest.raises(ValueError, match="batch must be a multiple of 2 workers, got 3"):
        pairs(sampler, 3, share=(0, 2))
