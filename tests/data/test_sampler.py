"""A pair is a function of its number, and shares are those of the settings."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from helpers.corpora import config_of, counts, drawn, levels, sampler_of
from scipy import stats

from emdn.data.augment import SYMMETRIES, Augmentation, symmetric
from emdn.data.sampler import ACTIVE, Cache, Sampler, area_mean
from emdn.noise import noisy_pair

KINDS_OF_PAIRS = [
    {},
    {"augmentation": Augmentation()},
    {"scenes": 0.5},
    {"scenes": 0.5, "augmentation": Augmentation()},
]
"""Settings that decide on what pairs are of."""

# Downsizing.


def test_downsizing_by_2_is_the_mean_of_2_x_2_pixels(rng):
    image = rng.integers(0, 4096, (10, 14)).astype(np.float32)
    corners = (image[y::2, x::2] for y in (0, 1) for x in (0, 1))
    np.testing.assert_array_equal(area_mean(image, 2), sum(corners) / 4)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(15, 30), (7, 9), (3, 11, 8), (5, 5)])
def test_downsizing_is_the_mean_of_whole_areas(factor, shape, rng):
    """Rows and columns that fill no area are left away."""
    image = rng.uniform(size=shape)
    height, width = (side // factor for side in shape[-2:])
    whole = image[..., : height * factor, : width * factor]
    areas = whole.reshape(*shape[:-2], height, factor, width, factor)
    small = area_mean(image, factor)
    assert small.dtype == np.float32
    np.testing.assert_allclose(small, areas.mean(axis=(-3, -1)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64])
def test_downsizing_the_largest_values_does_not_overflow(dtype):
    most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1e30
    np.testing.assert_allclose(area_mean(np.full((4, 4), most, dtype), 2), most, rtol=1e-6)


def test_downsizing_leaves_the_image_alone(rng):
    image = rng.uniform(size=(6, 6))
    before = image.copy()
    area_mean(image, 2)
    np.testing.assert_array_equal(image, before)


# Crops.


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
    small = area_mean(image, 2)
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


def test_crops_are_from_two_thirds_to_the_double_of_the_side(tmp_path):
    sampler = sampler_of(
        {"a.npy": counts(0, (80, 50))}, tmp_path, augmentation=Augmentation(), crop=32
    )
    rng = np.random.default_rng(0)
    sides = [sampler.crop(number, rng).shape for number in range(300)]
    assert all(height == width for height, width in sides)
    lengths = np.array(sides)[:, 0]
    assert lengths.min() == 21
    assert lengths.max() == 50  # all that there is of the double
    assert len(np.unique(lengths)) > 20


# Pairs.


def test_pairs_are_float32_in_0_to_1_of_equal_means(sampler):
    for number in range(50):
        noisy, clean, _ = sampler.pair(number)
        for image in (noisy, clean):
            assert image.shape == (16, 16)
            assert image.dtype == np.float32
            assert image.min() >= 0
        assert noisy.max() == 1
        assert noisy.mean() == pytest.approx(clean.mean(), rel=1e-5)


def test_the_gain_is_what_one_electron_adds(sampler):
    """Counts are whole numbers of electrons, the most of them at 1."""
    for number in range(50):
        noisy, _, gain = sampler.pair(number)
        assert 1 / gain == pytest.approx(round(1 / gain), rel=1e-6)
        assert 1 / gain > 25
        np.testing.assert_allclose(noisy / gain, np.round(noisy / gain), atol=1e-3)


def test_a_constant_crop_has_the_gain_of_its_brightest_counts():
    """Though its darkest pixel has counts as well: about 50 at a scale of 100."""
    noisy, _, gain = noisy_pair(np.full((64, 64), 7.0), 100.0, np.random.default_rng(0))
    counts = noisy.astype(float) / gain
    assert counts.max() == pytest.approx(1 / gain)
    assert counts.mean() == pytest.approx(50, abs=0.5)  # four deviations
    assert counts.var() == pytest.approx(50, rel=0.09)
    assert counts.min() > 20


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


def test_no_scene_is_drawn_where_none_is_wanted(tmp_path):
    def refuse(*_):
        raise AssertionError("no scene is wanted")

    records, config = (
        sampler_of({"a.npy": counts(0)}, tmp_path).records,
        config_of(tmp_path),
    )
    sampler = Sampler(records, config, draw_scene=refuse)
    assert sampler.pair(0).noisy.shape == (16, 16)
    wanting = Sampler(records, replace(config, scenes=1.0), draw_scene=refuse)
    with pytest.raises(AssertionError, match="no scene is wanted"):
        wanting.pair(0)


def test_a_scene_gives_some_crops_before_it_is_left(tmp_path):
    drawn_scenes = []

    def scene(shape, rng):
        drawn_scenes.append(shape)
        return np.full(shape, rng.uniform(), np.float32)

    plain = sampler_of({"a.npy": counts(0)}, tmp_path, scenes=1.0, crops_per_visit=3)
    sampler = Sampler(plain.records, plain.config, draw_scene=scene)
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
    changed = replace(sampler.config, scenes=1.0, augmentation=Augmentation())
    plain = Sampler(records, sampler.config, split)
    other = Sampler(records, changed, split)
    for number in range(20):
        for one, another in zip(other.pair(number), plain.pair(number), strict=True):
            np.testing.assert_array_equal(one, another)
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


def test_a_cache_never_holds_more_bytes_than_allowed():
    size, held = 5.5 * 16 * 16 * 4, []
    cache = Cache(levels, size)

    def use(number):
        assert int(cache(number % 30).min() // 10) == number % 30
        with cache.lock:
            held.append(sum(image.nbytes for image in cache.images.values()))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(300)))
    assert max(held) <= size
    assert max(held) > size / 2  # it is used
    assert cache.held == held[-1]


def test_a_cache_makes_what_it_holds_once():
    made = []
    cache = Cache(lambda number: (made.append(number), levels(number))[1], 1e6)
    for number in range(500):
        cache(number % 4)
    assert made == [0, 1, 2, 3]


def test_an_image_larger_than_the_cache_can_be_used(tmp_path):
    sampler = sampler_of({"a.npy": counts(0), "b.npy": counts(1)}, tmp_path, cache=0.0)
    assert sampler.pair(3)[0].shape == (16, 16)


def test_an_image_in_memory_is_not_read_again(tmp_path):
    sampler = sampler_of({f"{n}.npy": levels(n) for n in range(4)}, tmp_path)
    before = drawn(sampler, range(500))
    for path in tmp_path.iterdir():
        path.unlink()
    assert drawn(sampler, range(500)) == before
    assert set(before) == {0, 1, 2, 3}


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


# Micrographs that are noisy themselves.


def test_thinned_pairs_are_parts_of_a_crop(tmp_path):
    sampler = sampler_of({"a.npy": counts(0, (16, 16))}, tmp_path, thinned=0.75)
    for number in range(4):
        noisy, other, gain = sampler.pair(number)
        electrons = noisy / gain + other / gain / 3
        np.testing.assert_allclose(
            np.sort(electrons, None), np.sort(counts(0, (16, 16)), None), rtol=1e-5
        )
