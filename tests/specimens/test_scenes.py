"""Scenes keep to their range and their seed, and obey the laws of natural images."""

import numpy as np
import pytest
from scipy import stats

from emdn.specimens import scenes
from emdn.specimens.fields import filtered_noise, power_law, smooth
from emdn.specimens.scenes import SHARES, leaf_index, leaves, scene, texture

every_kind = pytest.mark.parametrize("kind", [*SHARES, scene])


@every_kind
@pytest.mark.parametrize("shape", [(64, 64), (48, 81), (77, 31)])
def test_scenes_span_zero_to_one(kind, shape):
    for seed in range(5):
        image = kind(shape, np.random.default_rng(seed))
        assert image.shape == shape
        assert image.dtype == np.float32
        assert image.min() == 0
        assert image.max() == 1


@every_kind
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 3), (16, 16), (2, 40)])
def test_small_scenes_are_finite_and_in_range(kind, shape):
    """Where leaves have no room, and one vesicle may hide all: an even scene is 0.5."""
    for seed in range(5):
        image = kind(shape, np.random.default_rng(seed))
        assert image.shape == shape
        assert image.dtype == np.float32
        assert (image.min(), image.max()) in {(0, 1), (0.5, 0.5)}


@every_kind
def test_same_seed_same_scene(kind):
    one, two, other = (kind((64, 48), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).mean() > 0.01


@every_kind
def test_the_next_scene_of_a_generator_is_another_one(kind, rng):
    first, second = kind((64, 48), rng), kind((64, 48), rng)
    assert np.abs(first - second).mean() > 0.01


def test_kinds_are_drawn_by_their_shares(monkeypatch, rng):
    drawn = []

    def stand_in(number):
        return lambda shape, rng: (drawn.append(number), rng.uniform(size=shape))[1]

    shares = list(SHARES.values())
    stand_ins = {stand_in(number): share for number, share in enumerate(shares)}
    monkeypatch.setattr(scenes, "SHARES", stand_ins)
    for _ in range(2000):
        scene((4, 4), rng)
    counts = np.bincount(drawn, minlength=len(shares))
    assert stats.chisquare(counts, np.multiply(shares, 2000)).pvalue > 0.01


# Power laws.


def spectrum(field):
    """Return frequencies up to 0.5 cycles per pixel, without 0, and the power at each."""
    power = np.abs(np.fft.fft2(field)) ** 2
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, field.shape), indexing="ij"))
    chosen = (frequency > 0) & (frequency <= 0.5)
    return frequency[chosen], power[chosen]


def slope(field):
    """Return the exponent by which the power depends on the frequency."""
    return np.polyfit(*map(np.log, spectrum(field)), 1)[0]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("shape", [(128, 128), (90, 151)])
def test_the_power_falls_with_twice_the_exponent_of_the_amplitude(exponent, shape, rng):
    field = power_law(shape, rng, exponent)
    assert field.shape == shape
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, rel=1e-4)
    assert slope(field) == pytest.approx(-2 * exponent, abs=0.12)  # four deviations


def test_filtered_noise_has_the_power_of_its_transfer(rng):
    """Half of the band at twice the amplitude, so that the powers are as 4 to 1."""
    field = filtered_noise((160, 120), rng, lambda f: np.where(f < 0.25, 2.0, 1.0))
    frequency, power = spectrum(field)
    ratio = power[frequency < 0.25].mean() / power[frequency > 0.25].mean()
    assert ratio == pytest.approx(4, rel=0.1)
    assert field.std() == pytest.approx(1, rel=1e-4)


def test_smooth_fields_have_blobs_of_the_asked_size(rng):
    """A Gaussian blur of deviation s leaves a correlation of exp(-d^2 / 4 s^2)."""
    size = 16.0
    field = smooth((512, 512), rng, size)
    for distance in (2, 4, 8):
        along = [np.roll(field, distance, axis) for axis in (0, 1)]
        expected = np.exp(-(distance**2) / (4 * (size / 4) ** 2))
        assert np.mean(field * along) == pytest.approx(expected, abs=0.05)


def test_textures_fall_by_a_power_law_as_natural_images_do():
    slopes = [slope(texture((96, 96), np.random.default_rng(seed))) for seed in range(40)]
    assert min(slopes) > -4.3
    assert np.median(slopes) < -2
    assert max(slopes) < 0  # a sine bends some of them almost to white noise


# Leaves.


def same_leaf(number, smallest, largest, distances):
    """Return how often points at some distances lie on one leaf, of those on any."""
    same, all_ = np.zeros((2, len(distances)))
    for seed in range(number):
        index = leaf_index((256, 256), np.random.default_rng(seed), smallest, largest)
        for n, distance in enumerate(distances):
            for one, other in (
                (index[distance:], index[:-distance]),
                (index[:, distance:], index[:, :-distance]),
            ):
                leaf = (one > 0) | (other > 0)
                same[n] += (one == other)[leaf].sum()
                all_[n] += leaf.sum()
    return same / all_


def test_leaves_look_the_same_at_all_magnifications():
    """All octaves of size cover the same area.

    The topmost leaf on either of two points lies on both with probability p. Of the area
    of all leaves, the share 2 p / (1 + p) is of points whose neighbour is on the same leaf.
    It falls by as much from each distance to its double, where there are leaves of all
    sizes. Were numbers to fall with the square or with the fourth power of the size, it
    would fall by half as much again, or by half, from octave to octave.
    """
    chance = same_leaf(10, 3.0, 128.0, (4, 8, 16, 32))
    share = 2 * chance / (1 + chance)
    falls = -np.diff(share)
    assert falls.min() > 0.1
    ratios = falls[1:] / falls[:-1]
    assert 0.75 < ratios.min() < ratios.max() < 1.25


def test_leaves_that_fall_later_hide_those_before():
    """All sizes are of one law, so that the first ones would else show as much."""
    shown = np.zeros(2)
    for seed in range(10):
        index = leaf_index((192, 192), np.random.default_rng(seed), 6.0, 12.0)
        areas = np.bincount(index.ravel())[1:]
        fifth = len(areas) // 5
        shown += areas[:fifth].sum(), areas[-fifth:].sum()
    assert shown[1] > 1.7 * shown[0]


def test_leaves_are_as_large_as_asked():
    """The last one shows whole, and the ends of any shape are 1.7 to 2 radii apart."""
    whole = 0
    for seed in range(30):
        index = leaf_index((128, 96), np.random.default_rng(seed), 18.0, 20.0)
        assert index.shape == (128, 96)
        y, x = np.nonzero(index == index.max())
        if min(y.min(), x.min()) == 0 or y.max() + 1 == len(index) or x.max() + 1 == 96:
            continue
        across = np.hypot(y - y[:, np.newaxis], x - x[:, np.newaxis]).max()
        assert 1.7 * 18 - 2 < across < 2 * 20 + 2
        whole += 1
    assert whole > 5


def test_leaves_have_even_parts_and_sharp_edges():
    """Most differences of neighbours are small and some are large, unlike in a texture."""

    def tails(kind):
        images = [kind((96, 96), np.random.default_rng(seed)) for seed in range(8)]
        return [stats.kurtosis(np.diff(image, axis=1).ravel()) for image in images]

    assert np.median(tails(texture)) < 1
    assert min(tails(leaves)) > 3
