"""Laws of thinning: parts are exposures of their shares, and know nothing of another."""

import numpy as np
import pytest
from scipy.stats import chisquare, poisson

from emdn.detector import Detector
from emdn.trust.thinning import part_of, thin

CAMERAS = {
    "counter": Detector(1.0),
    "counter in other units": Detector(-0.25, offset=3.0),
    "CCD": Detector(3.7, offset=100.0, readout=3.0),
    "scintillator": Detector(7.0, offset=100.0, correlation=(0.445, 0.445)),
    "slow amplifier": Detector(-3.7, offset=900.0, readout=1.0, correlation=(0.4, 0.0)),
}
cameras = pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)


def waves(dose):
    """Return expected electrons of a specimen of slow waves."""
    y, x = np.mgrid[:256, :256]
    return dose * (1 + 0.7 * np.sin(x / 20) * np.cos(y / 30))


def deviations(thinned, camera, share, dose):
    """Return the noise of both parts, relative to what a part's exposure would have."""
    whole = camera.expected(waves(dose)) - camera.offset
    one = thinned.first - camera.offset - share * whole
    other = thinned.second - camera.offset - (1 - share) * whole
    return one, other


@cameras
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_parts_add_to_the_whole(camera, share, rng):
    image = camera.apply(waves(20.0), rng)
    first, second, _ = thin(image, camera, share, rng)
    np.testing.assert_allclose(first + second - camera.offset, image, rtol=1e-5)
    assert first.dtype == image.dtype


@cameras
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("dose", [4.0, 40.0])
def test_parts_are_uncorrelated_and_as_noisy_as_exposures(camera, share, dose, rng):
    image = camera.apply(waves(dose), rng)
    thinned = thin(image, camera, share, rng)
    one, other = deviations(thinned, camera, share, dose)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] == pytest.approx(0, abs=0.015)
    for noise, part, size in zip(
        (one, other), thinned.detectors, (share, 1 - share), strict=True
    ):
        exposure = part.apply(size * waves(dose), np.random.default_rng(7))
        alone = exposure - part.expected(size * waves(dose))
        assert noise.var() == pytest.approx(alone.var(), rel=0.03)
        assert noise.mean() == pytest.approx(0, abs=float(alone.std()) / 20)


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("dose", [0.3, 3.0])
def test_parts_of_counts_are_independent_poisson_counts(share, dose, rng):
    counts = rng.poisson(dose, size=(512, 512))
    first, second, _ = thin(counts, Detector(1.0), share, rng)
    most = int(counts.max())
    seen = np.zeros((most + 1, most + 1))
    np.add.at(seen, (first.astype(int).ravel(), second.astype(int).ravel()), 1)
    levels = np.arange(most + 1)
    expected = counts.size * np.outer(
        poisson.pmf(levels, share * dose), poisson.pmf(levels, (1 - share) * dose)
    )
    enough = expected > 10
    rare = counts.size - expected[enough].sum()
    found = [*seen[enough], seen[~enough].sum()]
    assert chisquare(found, [*expected[enough], rare]).pvalue > 1e-3


def test_counts_stay_whole_numbers_in_any_unit(rng):
    camera = Detector(0.37, offset=12.0)
    image = camera.apply(waves(5.0), rng).astype(np.float64)
    for part in thin(image, camera, 0.3, rng)[:2]:
        numbers = (part - 12.0) / 0.37
        np.testing.assert_allclose(numbers, np.round(numbers), atol=1e-5)


@cameras
def test_frames_of_a_stack_are_thinned_each_for_itself(camera, rng):
    movie = np.stack([camera.apply(waves(dose), rng) for dose in (10.0, 30.0)])
    first, second, _ = thin(movie, camera, 0.4, rng)
    for frame, dose in zip(first, (10.0, 30.0), strict=True):
        assert camera.dose(frame) == pytest.approx(0.4 * dose, rel=0.02)
    np.testing.assert_allclose(first + second - camera.offset, movie, rtol=1e-5)


def test_the_image_is_not_changed_and_the_generator_decides(rng):
    counts = rng.poisson(5.0, size=(32, 32))
    before = counts.copy()
    one, other = (thin(counts, Detector(1.0), 0.5, np.random.default_rng(3)) for _ in "ab")
    np.testing.assert_array_equal(one.first, other.first)
    np.testing.assert_array_equal(counts, before)


def test_readout_noise_is_shared_out():
    parts = [part_of(Detector(2.0, readout=3.0), share).readout for share in (0.2, 0.8)]
    assert np.hypot(*parts) == pytest.approx(3.0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, np.nan])
def test_impossible_shares_are_refused(share, rng):
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        thin(np.ones((8, 8)), Detector(1.0), share, rng)


def test_images_without_a_finite_pixel_are_refused(rng):
    with pytest.raises(ValueError, match="must have a finite pixel"):
        thin(np.full((8, 8), np.nan), Detector(1.0), 0.5, rng)


@cameras
@pytest.mark.parametrize("frames", [(), (2,)])
def test_what_is_masked_or_not_finite_is_so_in_both_parts(camera, frames, rng):
    image = np.broadcast_to(camera.apply(waves(20.0), rng), (*frames, 256, 256)).copy()
    image[..., :10, :] = np.nan
    mask = np.zeros(image.shape, bool)
    mask[..., 100:110, 50:60] = True
    image[mask] = -1e6
    bad = mask | np.isnan(image)
    for given in ({"image": image, "mask": mask}, {"image": np.ma.array(image, mask=mask)}):
        first, second, _ = thin(detector=camera, share=0.5, rng=rng, **given)
        np.testing.assert_array_equal(first.mask, bad)
        np.testing.assert_array_equal(second.mask, bad)
        assert np.isfinite(first.data).all()
        np.testing.assert_allclose(
            (first + second)[~bad] - camera.offset, image[~bad], rtol=1e-5
        )


def test_images_below_the_offset_are_refused(rng):
    image = rng.poisson(5.0, size=(64, 64))
    with pytest.raises(ValueError, match="below the offset"):
        thin(image, Detector(1.0, offset=5.0), 0.5, rng)
