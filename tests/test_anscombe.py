"""The transform makes shot noise even, and the inverse is exact and unbiased."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from emdn.anscombe import anscombe, inverse_anscombe


@pytest.mark.parametrize("rate", [4.0, 30.0, 1000.0])
def test_shot_noise_is_of_deviation_1_after_the_transform(rate):
    counts = np.random.default_rng(0).poisson(rate, size=(512, 512))
    assert anscombe(counts).std() == pytest.approx(1, rel=0.03)


@settings(deadline=None)
@given(st.floats(0, 5000))
def test_the_inverse_takes_the_mean_transform_back_to_the_mean(rate):
    """That is what makes it exact and unbiased."""
    reach = 12 * np.sqrt(rate) + 30
    k = np.arange(max(0, int(rate - reach)), int(rate + reach))
    mean = np.sum(anscombe(k) * poisson.pmf(k, rate))
    assert inverse_anscombe(mean) == pytest.approx(rate, rel=1e-4, abs=1e-4)


def test_the_inverse_has_no_step_where_the_table_ends():
    values = np.linspace(19.9, 20.2, 1001)
    steps = np.diff(inverse_anscombe(values))
    assert steps.min() > 0
    assert steps.max() < 1.02 * steps.min()


def test_what_lies_below_no_counts_becomes_none():
    np.testing.assert_array_equal(inverse_anscombe(np.array([-1.0, 0.0, 1.0])), 0)
