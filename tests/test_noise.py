"""Shot noise obeys Poisson's law, and pairs follow the paper's protocol."""

import math

import numpy as np
import pytest
from scipy import stats

from emdn.noise import (
    add_shot_noise,
    check_dose_range,
    noisy_pair,
    sample_scale,
    thinned_pair,
)
from emdn.specimens import micrographs as synthetic

SPECIMENS = [synthetic.lattice, synthetic.particles, synthetic.membranes, synthetic.film]
DTYPES = [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]


@pytest.fixture(scope="module")
def scales():
    """Return many scales of each dose range."""
    rng = np.random.default_rng(0)
    return {
        name: np.array([sample_scale(name, rng) for _ in range(100_000)])
        for name in ("low", "ordinary", "any", "wide")
    }


@pytest.mark.parametrize("scale", [1.0, 25.0, 300.0, 2500.0])
def test_mean_and_variance_of_the_counts_equal_scale_times_clean(scale, rng):
    levels = np.array([0.1, 0.5, 1.0])
    clean = np.repeat(levels[:, np.newaxis], 200_000, axis=1)
    counts = add_shot_noise(clean, scale, rng).astype(np.float64)
    np.testing.assert_allclose(counts.mean(axis=1), scale * levels, rtol=0.02)
    np.testing.assert_allclose(counts.var(axis=1), scale * levels, rtol=0.03)


def test_counts_follow_the_poisson_distribution(rng):
    counts = add_shot_noise(np.full((300, 300), 0.5), 8.0, rng).ravel()
    observed = np.bincount(counts.astype(int), minlength=11)
    observed = np.array([*observed[:10], observed[10:].sum()])
    expected = stats.poisson.pmf(np.arange(10), 4.0)
    expected = np.array([*expected, 1 - expected.sum()])
    assert stats.chisquare(observed, expected * counts.size).pvalue > 0.01


def test_pixels_are_independent(rng):
    counts = add_shot_noise(np.ones((300, 300)), 50.0, rng)
    for a, b in [(counts[:, 1:], counts[:, :-1]), (counts[1:], counts[:-1])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015  # 4.5 deviations


def test_no_electron_arrives_where_the_image_is_black(rng):
    counts = add_shot_noise(np.eye(32), 1000.0, rng)
    assert (counts[np.eye(32) == 0] == 0).all()
    assert (counts[np.eye(32) == 1] > 0).all()


def test_counts_are_whole_numbers(rng, micrograph):
    counts = add_shot_noise(micrograph, 100.0, rng)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, np.round(counts))


def test_low_scales_follow_equation_1(scales):
    low = scales["low"]
    assert low.mean() == pytest.approx(100, abs=1)
    assert np.median(low) == pytest.approx(25 + 75 * math.log(2), abs=1)  # 77
    assert 25 <= low.min() < 25.1
    assert (low > 300).mean() == pytest.approx(0.026, abs=0.002)
    assert (low < 100).mean() == pytest.approx(0.632, abs=0.006)
    assert stats.kstest(low, stats.expon(loc=25, scale=75).cdf).pvalue > 0.01


def test_ordinary_scales_are_uniform(scales):
    ordinary = scales["ordinary"]
    assert ordinary.mean() == pytest.approx(1350, abs=10)
    assert 200 <= ordinary.min() < 201
    assert 2499 < ordinary.max() <= 2500
    assert stats.kstest(ordinary, stats.uniform(200, 2300).cdf).pvalue > 0.01


def test_all_factors_between_the_ends_of_any_scale_are_alike(scales):
    found = scales["any"]
    assert 25 <= found.min() < 25.1
    assert 2490 < found.max() <= 2500
    assert (
        stats.kstest(np.log(found / 25), stats.uniform(0, math.log(100)).cdf).pvalue > 0.01
    )


def test_half_of_the_wide_scales_lie_from_60_to_500(scales):
    wide = scales["wide"]
    assert 0.3 <= wide.min() < 0.301
    assert 2490 < wide.max() <= 2500
    inside = wide[(wide > 60) & (wide < 500)]
    assert len(inside) / len(wide) == pytest.approx(0.5, abs=0.006)  # 4 deviations


@pytest.mark.parametrize(("low", "high"), [(0.3, 60), (60, 500), (500, 2500)])
def test_all_factors_within_a_part_of_the_wide_range_are_alike(scales, low, high):
    part = np.log(scales["wide"] / low)
    part = part[(part > 0) & (part < math.log(high / low))]
    assert stats.kstest(part, stats.uniform(0, math.log(high / low)).cdf).pvalue > 0.01


def test_all_factors_outside_the_middle_of_the_wide_range_are_alike(scales):
    wide = scales["wide"]
    densities = [
        (wide < 60).mean() / math.log(60 / 0.3),
        (wide > 500).mean() / math.log(2500 / 500),
    ]
    assert densities[0] == pytest.approx(densities[1], rel=0.05)  # 5 deviations


@pytest.mark.parametrize("scale", [25.0, 300.0, 2500.0])
def test_the_same_state_gives_the_same_pair(scale, micrograph):
    first = noisy_pair(micrograph, scale, np.random.default_rng(5))
    again = noisy_pair(micrograph, scale, np.random.default_rng(5))
    other = noisy_pair(micrograph, scale, np.random.default_rng(6))
    np.testing.assert_array_equal(first.noisy, again.noisy)
    np.testing.assert_array_equal(first.clean, again.clean)
    assert first.gain == again.gain
    assert (first.noisy != other.noisy).any()


def test_the_same_state_gives_the_same_scale():
    for name in ("low", "ordinary", "any", "wide"):
        draws = {sample_scale(name, np.random.default_rng(5)) for _ in range(3)}
        assert len(draws) == 1


@pytest.mark.parametrize("specimen", SPECIMENS)
@pytest.mark.parametrize("scale", [25.0, 300.0, 2500.0])
def test_pairs_follow_the_protocol(specimen, scale, rng):
    image = 5 + 300 * specimen((96, 128), rng)
    noisy, clean, gain = noisy_pair(image, scale, rng)
    assert noisy.dtype == clean.dtype == np.float32
    assert noisy.shape == clean.shape == image.shape
    assert (noisy.min(), noisy.max()) == (0, 1)

    means = [x.mean(dtype=np.float64) for x in (noisy, clean)]
    assert means[1] == pytest.approx(means[0], rel=1e-6)

    unit = (image - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(clean, unit * clean.max(), atol=2e-6)

    counts = noisy / gain
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)
    # Back in counts, mean and variance are those of shot noise again.
    assert counts.mean() == pytest.approx(scale * unit.mean(), rel=0.02)
    residual = counts - scale * unit
    assert residual.var() == pytest.approx(scale * unit.mean(), rel=0.06)


def test_the_truth_seldom_reaches_1_at_low_doses(micrograph, rng):
    pairs = [noisy_pair(micrograph, sample_scale("low", rng), rng) for _ in range(100)]
    brightest = np.array([pair.clean.max() for pair in pairs])
    assert (brightest < 1).mean() > 0.95
    assert brightest.mean() < 0.9


def test_the_truth_comes_near_1_as_the_dose_grows(micrograph, rng):
    """Its maximum is the counts expected there over the most counts found anywhere."""
    for scale in (25.0, 2500.0, 1e6):
        noisy, clean, gain = noisy_pair(micrograph, scale, rng)
        most = (noisy / gain).max()
        assert clean.max() == pytest.approx(scale / most, rel=0.02)
    assert clean.max() == pytest.approx(1, abs=0.01)


def test_unit_and_offset_of_the_image_do_not_matter():
    image = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.float64)
    first = noisy_pair(image, 100.0, np.random.default_rng(5))
    for other in (4 * image, image - 1000, 0.25 * image + 64):
        pair = noisy_pair(other, 100.0, np.random.default_rng(5))
        np.testing.assert_array_equal(pair.noisy, first.noisy)
        np.testing.assert_array_equal(pair.clean, first.clean)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_gives_the_same_pair(dtype):
    image = np.random.default_rng(0).integers(0, 128, (32, 32))
    first = noisy_pair(image, 100.0, np.random.default_rng(5))
    pair = noisy_pair(image.astype(dtype), 100.0, np.random.default_rng(5))
    np.testing.assert_array_equal(pair.noisy, first.noisy)
    np.testing.assert_array_equal(pair.clean, first.clean)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_the_full_range_of_an_integer_does_not_overflow(dtype, rng):
    limits = np.iinfo(dtype)
    image = np.array([[limits.min, limits.max]], dtype).repeat(500, axis=0)
    noisy, clean, _ = noisy_pair(image, 1000.0, rng)
    assert (noisy[:, 0] == 0).all()
    assert (noisy[:, 1] > 0.8).all()
    assert (clean[:, 0] == 0).all()


@pytest.mark.parametrize("value", [0.0, 3.0, -1e5])
def test_a_constant_image_is_exposed_as_one_half(value, rng):
    noisy, clean, gain = noisy_pair(np.full((200, 200), value), 100.0, rng)
    counts = noisy / gain
    assert counts.mean() == pytest.approx(50, rel=0.01)
    assert counts.var() == pytest.approx(50, rel=0.04)
    assert (clean == clean[0, 0]).all()
    assert clean.mean() == pytest.approx(noisy.mean(), rel=1e-5)


def test_the_gain_is_that_of_the_counts_even_where_no_pixel_is_dark():
    """An even image at a scale of 100: the brightest of some 50 counts becomes 1."""
    noisy, _, gain = noisy_pair(np.ones((64, 64)), 100.0, np.random.default_rng(3))
    counts = add_shot_noise(np.full((64, 64), 0.5), 100.0, np.random.default_rng(3))
    assert gain == 1 / counts.max()
    np.testing.assert_allclose(noisy / gain, counts, rtol=1e-6)


def test_a_pair_without_electrons_is_black():
    noisy, clean, gain = noisy_pair(np.eye(4), 1e-9, np.random.default_rng(0))
    assert not clean.any()
    assert (noisy / gain == 0).all()


def test_images_are_left_alone(rng, micrograph):
    before = micrograph.copy()
    add_shot_noise(micrograph, 50.0, rng)
    noisy_pair(micrograph, 50.0, rng)
    np.testing.assert_array_equal(micrograph, before)


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf])
def test_impossible_scales_are_refused(scale, rng):
    message = f"scale must be a positive number of counts, got {scale}"
    with pytest.raises(ValueError, match=message):
        add_shot_noise(np.ones((4, 4)), scale, rng)
    with pytest.raises(ValueError, match=message):
        noisy_pair(np.eye(4), scale, rng)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, r"clean must lie in \[0, 1\], got \[0.0, 1.5\]; Scaling"),
        (-0.5, r"clean must lie in \[0, 1\], got \[-0.5, 1.0\]"),
        (math.nan, r"clean must lie in \[0, 1\], got \[nan, nan\]"),
        (math.inf, r"clean must lie in \[0, 1\], got \[0.0, inf\]"),
    ],
)
def test_clean_images_outside_0_to_1_are_refused(value, message, rng):
    clean = np.eye(4)
    clean[1, 2] = value
    with pytest.raises(ValueError, match=message):
        add_shot_noise(clean, 100.0, rng)


def test_images_that_are_not_finite_are_refused(rng):
    image = np.eye(4)
    image[1, 2] = math.nan
    with pytest.raises(ValueError, match="nan"):
        noisy_pair(image, 100.0, rng)


def test_unknown_dose_ranges_are_refused(rng):
    message = r"dose range must be one of \['any', 'low', 'ordinary', 'wide'\], got 'high'"
    with pytest.raises(ValueError, match=message):
        sample_scale("high", rng)
    with pytest.raises(ValueError, match=message):
        check_dose_range("high")
    assert check_dose_range("low") == "low"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_parts_of_a_thinned_pair_have_independent_noise_of_one_expected_image(share, rng):
    expected = np.repeat([[2.0], [20.0], [200.0]], 100_000, axis=1)
    noisy, other, gain = thinned_pair(rng.poisson(expected), share, rng)
    parts = [each.astype(np.float64) / gain for each in (noisy, other)]
    for part, factor in zip(parts, (1, share / (1 - share)), strict=True):
        np.testing.assert_allclose(part.mean(axis=1), share * expected[:, 0], rtol=0.02)
        variance = factor * share * expected[:, 0]  # of counts that were multiplied
        np.testing.assert_allclose(part.var(axis=1), variance, rtol=0.03)
    for first, second in zip(*parts, strict=True):
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.015


def test_no_electron_of_a_thinned_pair_is_lost(rng):
    counts = rng.poisson(30.0, (16, 16))
    noisy, other, gain = thinned_pair(counts, 0.8, rng)
    np.testing.assert_allclose(noisy / gain + other / gain / 4, counts, rtol=1e-5)
    assert noisy.max() == 1
