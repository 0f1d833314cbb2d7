"""Maps of errors are means, and a grid is found where there is one and nowhere else."""

import math
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_cdt, gaussian_filter

from emdn.benchmark.error_maps import (
    MARGIN,
    edge_profile,
    edge_ratio,
    interior,
    mean_error,
    measure_grid,
    phase_means,
)
from emdn.benchmark.instances import Instance
from emdn.benchmark.method import Method
from emdn.data.corpus import Entry

SHAPE = (256, 192)


def instance(noisy, clean):
    return Instance(noisy, clean, gain=0.1, scale=9.0, entry=Entry("a.tif", "a"))


@pytest.fixture
def pairs(rng):
    return [instance(*rng.uniform(size=(2, 8, 12))) for _ in range(5)]


halve = Method("halve", "halve", "halve", "nothing", lambda noisy: noisy / 2)


def test_a_map_is_the_mean_of_absolute_errors(pairs):
    errors = mean_error(pairs, halve, (8, 12))
    expected = np.mean([np.abs(each.noisy / 2 - each.clean) for each in pairs], axis=0)
    np.testing.assert_allclose(errors.mean, expected)
    assert errors[1:] == (5, 0, 0)


def test_methods_are_given_the_gain_and_are_clipped(pairs):
    bright = mean_error(pairs, lambda noisy, gain: 0 * noisy + 11 * gain, (8, 12))
    expected = np.mean([1 - each.clean for each in pairs], axis=0)
    np.testing.assert_allclose(bright.mean, expected)


def test_what_cannot_be_averaged_is_left_out_and_counted(pairs, rng):
    def blind_to_dark(noisy, _):
        return noisy if noisy.mean() > 0.1 else noisy * np.nan

    small = instance(*rng.uniform(size=(2, 8, 11)))
    dark = instance(np.zeros((8, 12)), np.ones((8, 12)))
    errors = mean_error([small, *pairs, dark, small], blind_to_dark, (8, 12))
    assert (errors.instances, errors.left_out, errors.not_finite) == (5, 2, 1)
    np.testing.assert_array_equal(
        errors.mean, mean_error(pairs, blind_to_dark, (8, 12)).mean
    )


def test_instances_are_not_kept():
    """So that there may be more of them than fit into memory."""
    alive = weakref.WeakSet()

    class Image(np.ndarray):
        """An array that can be watched."""

        __hash__ = object.__hash__

    def stream():
        for _ in range(9):
            images = [np.ones((8, 8)).view(Image) for _ in range(2)]
            for image in images:
                alive.add(image)
            assert len(alive) <= 4
            yield instance(*images)

    assert mean_error(stream(), halve, (8, 8)).instances == 9


def test_instances_are_left_alone(pairs):
    def spoil(noisy, _):
        noisy[:] = 0
        return noisy

    before = [each.noisy.copy() for each in pairs]
    mean_error(pairs, spoil, (8, 12))
    np.testing.assert_array_equal([each.noisy for each in pairs], before)


def test_a_profile_goes_by_the_distance_from_the_nearest_edge(rng):
    errors = rng.uniform(size=(13, 20))
    distance = distance_transform_cdt(np.pad(np.ones((13, 20)), 1), "chessboard")
    distance = distance[1:-1, 1:-1]
    expected = [errors[distance == d].mean() for d in range(1, distance.max() + 1)]
    np.testing.assert_allclose(edge_profile(errors), expected)


def test_the_edge_is_compared_with_the_interior():
    errors = np.ones(SHAPE)
    errors[:MARGIN], errors[-1], errors[:, 0], errors[:, -1] = 7, 7, 7, 7
    errors[0] = 7
    assert edge_ratio(errors) == pytest.approx(7)
    assert edge_ratio(3 * errors) == pytest.approx(7)


@pytest.mark.parametrize("period", [2, 3, 4])
def test_phase_means_are_means_of_every_so_many_pixels(period, rng):
    errors = rng.uniform(size=(12, 24))
    means = phase_means(errors, period)
    for (row, column), mean in np.ndenumerate(means):
        assert mean == pytest.approx(errors[row::period, column::period].mean())


def maps(kind, number=60):
    """Yield maps without a grid."""
    ramp = np.linspace(0, 1, SHAPE[0])[:, np.newaxis]
    for seed in range(number):
        noise = np.random.default_rng(seed).normal(size=SHAPE)
        yield (
            1
            + {
                "white": 0.01 * noise,
                "smooth": gaussian_filter(noise, 0.8),
                "ramp": 0.02 * noise + ramp + ramp**2,
                "dark side": 0.1 * noise * (0.5 + ramp),
            }[kind]
        )


@pytest.mark.parametrize("period", [2, 4, 8])
@pytest.mark.parametrize("kind", ["white", "smooth", "ramp", "dark side"])
def test_maps_without_a_grid_have_a_strength_of_about_one(kind, period):
    """Of few frequencies it scatters, but 19 of 20 are below the limit, give or take."""
    grids = [measure_grid(errors, period) for errors in maps(kind)]
    assert np.mean([grid.strength for grid in grids]) == pytest.approx(1, abs=0.25)
    above = np.mean([grid.strength > grid.limit for grid in grids])
    assert above <= 0.13


def test_smooth_maps_seem_to_have_less_than_no_grid_by_variance_alone():
    """Which is why strength is a comparison with frequencies nearby."""
    pixels = math.prod(side - 2 * MARGIN for side in SHAPE)
    for errors in maps("smooth", 5):
        assert measure_grid(errors, 2).share < 0.5 * 3 / pixels


def pattern(period, rng):
    """Return a grid of a period, and with no part of half of it, of a deviation of 1."""
    table = rng.normal(size=(period, period))
    half = phase_means(table, period // 2)
    grid = table - np.tile(half, (2, 2))
    return np.tile(grid / grid.std(), (SHAPE[0] // period, SHAPE[1] // period))


@pytest.mark.parametrize("period", [2, 4])
def test_a_grid_is_found_with_its_amplitude_and_at_its_period_only(period, rng):
    errors = 2 + 0.02 * pattern(period, rng) + 0.01 * rng.normal(size=SHAPE)
    for each in (2, 4, 8):
        grid = measure_grid(errors, each)
        if each == period:
            assert grid.strength > 100
            assert grid.amplitude == pytest.approx(0.01, rel=0.02)
            assert grid.share == pytest.approx(0.8, abs=0.01)
        else:
            assert grid.strength < 3
            assert grid.amplitude < 0.0003
            assert grid.share < 0.001


def test_more_instances_bring_out_a_grid_but_do_not_change_its_amplitude(rng):
    clear = 1 + 0.01 * pattern(2, rng)
    few, many = (
        measure_grid(clear + noise * rng.normal(size=SHAPE), 2) for noise in (0.1, 0.01)
    )
    assert 30 < many.strength / few.strength < 300
    assert few.amplitude == pytest.approx(many.amplitude, rel=0.2)


@settings(deadline=None, max_examples=10)
@given(st.floats(1e-3, 1e3))
def test_units_do_not_matter(unit):
    errors = np.random.default_rng(0).uniform(1, 2, size=(128, 128))
    one, other = measure_grid(errors, 4), measure_grid(unit * errors, 4)
    assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("period", [2, 4])
def test_the_share_is_the_power_at_the_frequencies_of_the_period(period, rng):
    """By Parseval's theorem: phase means hold what repeats, and nothing else."""
    errors = rng.uniform(size=(128, 256))
    inside = interior(errors)
    power = np.abs(np.fft.fft2(inside - inside.mean())) ** 2
    steps = [side // period for side in inside.shape]
    of_period = power[:: steps[0], :: steps[1]].sum()
    of_half = power[:: 2 * steps[0], :: 2 * steps[1]].sum()
    expected = (of_period - of_half) / power.sum()
    assert measure_grid(errors, period).share == pytest.approx(expected)


def test_a_map_of_one_error_has_no_grid():
    grid = measure_grid(np.full((128, 128), 0.5), 2)
    assert (grid.strength, grid.amplitude, grid.share) == (0, 0, 0)


def test_unfit_arguments_are_refused(pairs):
    with pytest.raises(ValueError, match="5 are not of 9 x 9 pixels, 0 results"):
        mean_error(pairs, halve, (9, 9))
    with pytest.raises(ValueError, match=r"keep the shape \(8, 12\), got \(1, 8, 12\)"):
        mean_error(pairs, lambda noisy, _: noisy[np.newaxis], (8, 12))
    with pytest.raises(ValueError, match=r"at least 128 x 128 pixels, .*\(127, 300\)"):
        measure_grid(np.ones((127, 300)), 2)
    for period in (1, 3, 6, 0):
        with pytest.raises(ValueError, match=f"another power of 2, got {period}"):
            measure_grid(np.ones((128, 128)), period)
    with pytest.raises(ValueError, match="eight periods of 16"):
        measure_grid(np.ones((128, 128)), 16)
