"""Laws of the dose planner."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emdn.trust.dose import Exposure, expose, least


def blurred(image, _):
    return gaussian_filter(image, 1.0)


@pytest.fixture(scope="module")
def good():
    return gaussian_filter(np.random.default_rng(0).normal(size=(128, 128)), 2.0)


def test_more_dose_leaves_less_error_and_finer_detail(good):
    found = expose(good, blurred, np.random.default_rng(0), (1.0, 30.0, 1000.0))
    assert [each.dose for each in found] == [1.0, 30.0, 1000.0]
    for worse, better in pairwise(found):
        assert better.error < worse.error
        assert better.ssim > worse.ssim
        assert better.resolution < worse.resolution


def test_noise_is_that_of_the_dose(good):
    """Of a mean of 1, its variance is one over the dose."""
    clean = good - good.min()
    clean /= clean.mean()
    (found,) = expose(good, blurred, np.random.default_rng(0), (100.0,))
    expected = 0.1 / clean.std()
    assert found.noise == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_the_unit_of_the_image_does_not_matter(good, unit):
    one, other = (
        expose(unit * each, blurred, np.random.default_rng(0), (30.0,))
        for each in (good, good)
    )
    assert one == other
    (plain,) = expose(good, blurred, np.random.default_rng(0), (30.0,))
    assert one[0].error == pytest.approx(plain.error, rel=1e-3)


def test_the_least_dose_is_that_from_which_on_all_are_enough():
    found = [Exposure(d, 0, 0, 0, r) for d, r in ((1, 9.0), (3, 4.0), (10, 5.0), (30, 3.0))]
    assert least(found, 4.5) == 30
    assert least(found, 5.0) == 3
    assert least(found, 2.0) is None


@pytest.mark.parametrize(
    ("image", "doses", "message"),
    [
        (np.ones((32, 32)), (1.0,), "must not be constant"),
        (np.arange(1024.0).reshape(32, 32), (1.0, 0.0), "doses must be positive"),
    ],
)
def test_impossible_plans_are_refused(image, doses, message):
    with pytest.raises(ValueError, match=message):
        expose(image, blurred, np.random.default_rng(0), doses)
