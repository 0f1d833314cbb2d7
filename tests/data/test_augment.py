"""Augmented pairs have shot noise, and are changed as often and as much as is said."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from emdn.data.augment import SYMMETRIES, Augmentation, augmented, symmetric
from emdn.noise import ORDINARY_HIGH
from emdn.specimens.micrographs import membranes


def test_the_eight_symmetries_are_those_of_the_square(rng):
    image = rng.uniform(size=(5, 5))
    turned = {symmetric(image, number).tobytes() for number in range(SYMMETRIES)}
    flips = (image, image[::-1], image[:, ::-1], image[::-1, ::-1])
    assert turned == {each.tobytes() for flip in flips for each in (flip, flip.T)}
    assert len(turned) == 8


@pytest.fixture
def many():
    """Return augmented pairs of 64 x 64 pixels, whose gains are true."""
    image, rng = membranes((128, 128), np.random.default_rng(0)), np.random.default_rng(1)
    scales = np.exp(rng.uniform(np.log(25), np.log(ORDINARY_HIGH), 300))
    sides = rng.integers(43, 129, 300)
    crops = [image[:side, :side] for side in sides]
    return [
        augmented(crop, 64, scale, Augmentation(misjudged=0.0), rng)
        for crop, scale in zip(crops, scales, strict=True)
    ]


def test_augmented_pairs_are_float32_of_the_side_asked_for(many):
    for noisy, clean, _ in many:
        assert noisy.shape == clean.shape == (64, 64)
        assert noisy.dtype == clean.dtype == np.float32
        assert 0 <= noisy.min() < noisy.max() <= 1
        assert 0 <= clean.min() < clean.max() < 1.5


def test_the_noise_of_augmented_pairs_is_shot_noise_around_the_clean_image(many):
    """In sum over an image, and in each pixel that expects a count: mean 0, variance 1."""
    sums, pixels = [], []
    for noisy, clean, gain in many:
        counts, expected = (each.astype(float) / gain for each in (noisy, clean))
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
    partial = Augmentation().partial
    brightest = np.array([pair.noisy.max() for pair in many])
    assert (brightest == 1).mean() == pytest.approx(1 - partial, abs=0.15)
    darkest = np.array([pair.clean.min() / pair.clean.max() for pair in many])
    assert (darkest > 0.01).mean() == pytest.approx(partial, abs=0.1)
    assert np.quantile(darkest, 0.9) > 0.3


def test_a_misjudged_gain_is_off_and_changes_nothing_else():
    image, off_by = membranes((32, 32), np.random.default_rng(0)), []
    for seed in range(300):
        true, misjudged = (
            augmented(image, 32, 100.0, each, np.random.default_rng(seed))
            for each in (Augmentation(misjudged=0.0), Augmentation(misjudged=1.0))
        )
        np.testing.assert_array_equal(true.noisy, misjudged.noisy)
        np.testing.assert_array_equal(true.clean, misjudged.clean)
        off_by.append(true.gain / misjudged.gain)
    assert np.mean(np.log(off_by)) == pytest.approx(0, abs=0.046)  # four deviations
    assert np.std(np.log(off_by)) == pytest.approx(0.2, rel=0.16)


def test_half_of_the_truths_have_a_grain_as_strong_as_that_of_micrographs():
    """The same but for the grain, in units of the brightest pixel of the image."""
    image, deviations = membranes((64, 64), np.random.default_rng(0)), []
    usual = Augmentation(misjudged=0.0)

    def truth(seed, grained):
        changes = replace(usual, grained=grained)
        pair = augmented(image, 64, 1e4, changes, np.random.default_rng(seed))
        return pair.clean / pair.gain / 1e4

    for seed in range(200):
        smooth = truth(seed, 0.0)
        inside = (smooth > 0.1) & (smooth < 0.9)  # where no grain is cut off
        deviations.append(np.std((truth(seed, 1.0) - smooth)[inside]))
    low, high = usual.grain
    assert 0.9 * low < min(deviations) < max(deviations) < 1.1 * high
    assert np.mean(np.log(deviations)) == pytest.approx(np.log(low * high) / 2, abs=0.22)
    grains = sum(
        (truth(seed, usual.grained) != truth(seed, 0.0)).mean() > 0.5 for seed in range(200)
    )
    assert stats.binomtest(int(grains), 200, 0.5).pvalue > 0.01


def test_augmented_crops_are_bent_by_a_gamma_and_some_inverted_or_blurred():
    """The order of the greys tells which; the middle grey, by how much."""
    changes = Augmentation(grained=0.0)  # a grain has no order
    image = membranes((48, 48), np.random.default_rng(0))
    rng, orders, gammas = np.random.default_rng(1), [], []
    for _ in range(200):
        clean = augmented(image, 48, 100.0, changes, rng).clean
        orders.append(stats.spearmanr(image, clean, axis=None).statistic)
        if abs(orders[-1]) > 0.9999:  # not blurred
            unit = (clean - clean.min()) / np.ptp(clean)
            middle = np.median(unit if orders[-1] > 0 else 1 - unit)
            gammas.append(np.log(middle) / np.log(np.median(image)))
    inverted, sharp = (sum(np.array(orders) < 0), len(gammas))
    assert stats.binomtest(int(inverted), 200, changes.inverted).pvalue > 0.01
    assert stats.binomtest(sharp, 200, 1 - changes.blurred).pvalue > 0.01
    assert np.mean(np.log(gammas)) == pytest.approx(0, abs=0.1)  # four deviations
    assert np.std(np.log(gammas)) == pytest.approx(0.3, rel=0.23)
    assert min(np.abs(orders)) > 0.7  # the blur leaves the specimen


@pytest.mark.parametrize("side", [21, 32, 45, 64])
def test_a_crop_of_any_size_is_magnified_to_the_pairs(side):
    """A wave of three periods has as many in the pair."""
    wave = np.sin(6 * np.pi * (np.arange(side) + 0.5) / side).astype("f4")
    crop = np.broadcast_to(wave, (side, side))
    clean = augmented(crop, 32, 1e6, Augmentation(), np.random.default_rng(0)).clean
    assert clean.shape == (32, 32)
    power = np.abs(np.fft.rfft(clean.mean(axis=0) - clean.mean()))
    assert power.argmax() == 3


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_crop_and_one_without_electrons_make_finite_pairs(value):
    for seed in range(20):
        for scale in (100.0, 1e-9):
            crop = np.full((20, 20), value, np.float32)
            rng = np.random.default_rng(seed)
            noisy, clean, gain = augmented(crop, 16, scale, Augmentation(), rng)
            assert 0 <= noisy.min() <= noisy.max() <= 1
            assert np.isfinite(clean).all()
            assert 0 < gain < math.inf
            assert scale > 1 or (noisy == 0).all()


@pytest.mark.parametrize("image", [np.full((40, 40), 7.0), np.eye(40)])
def test_without_any_change_a_crop_is_only_exposed(image):
    """Its truth is the image itself, in units of the brightest noisy pixel."""
    nothing = Augmentation(
        gamma=0, inverted=0, blurred=0, partial=0, grained=0, misjudged=0
    )
    pair = augmented(image.astype("f4"), 40, 100.0, nothing, np.random.default_rng(0))
    unit = image if image.min() < image.max() else np.full_like(image, 0.5)
    np.testing.assert_allclose(pair.clean / pair.gain, 100 * unit, rtol=1e-5)
    assert pair.noisy.max() == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inverted": 1.1}, "inverted must be a share from 0 to 1, got 1.1"),
        ({"blurred": -0.1}, "blurred must be a share from 0 to 1, got -0.1"),
        ({"partial": math.nan}, "partial must be a share from 0 to 1, got nan"),
        ({"gamma": -1}, "gamma must be 0 or more, got -1"),
        ({"magnification": math.inf}, "magnification must be 0 or more, got inf"),
        ({"blur": (2, 1)}, r"blur must be two numbers, .*, got \(2, 1\)"),
        ({"blur": (0.3, math.inf)}, r"blur must be two numbers, .*, got \(0.3, inf\)"),
        ({"span": (0.5, 1.5)}, r"span must be two numbers, .* <= 1, got"),
        ({"grain": (0, 0.1)}, r"grain must be two numbers, 0 < .*, got"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)
