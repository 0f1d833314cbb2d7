"""Scaling maps ends to 0 and 1, comes back, and is deaf to single pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from emdn.scaling import Scaling, to_unit

FITS = [Scaling.of_range, Scaling.fit]

unhurried = settings(deadline=None)  # a busy machine is no fault of the code


def images(dtype=np.float32):
    """Any image of up to 12 x 12 pixels, in steps of 1/8 so that sums are exact."""
    shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
    eighths = st.integers(-8000, 8000)
    return arrays(np.int32, shapes, elements=eighths).map(lambda n: (n / 8).astype(dtype))


@unhurried
@given(images(), st.sampled_from(FITS))
def test_invert_undoes_apply(image, fit):
    scaling = fit(image)
    back = scaling.invert(scaling.apply(image))
    np.testing.assert_allclose(back, image, rtol=0, atol=1e-6 * np.abs(image).max())


@unhurried
@given(images())
def test_the_ends_of_the_range_become_exactly_0_and_1(image):
    scaled = to_unit(image)
    if image.min() < image.max():
        assert (scaled.min(), scaled.max()) == (0, 1)
    else:
        assert (scaled == 0.5).all()


@unhurried
@given(images())
def test_fit_never_spans_more_than_the_range(image):
    narrow, wide = Scaling.fit(image), Scaling.of_range(image)
    assert narrow.offset >= wide.offset
    assert narrow.offset + narrow.span <= wide.offset + wide.span
    assert (narrow.span == 0) == (wide.span == 0)


@unhurried
@given(images())
def test_scaling_does_not_depend_on_the_unit(image):
    """Counts, or counts at twice the gain on a pedestal of 64, scale to the same image."""
    for fit in FITS:
        other = 2 * image + 64
        np.testing.assert_array_equal(
            fit(other).apply(other), fit(image).apply(image), strict=True
        )


@pytest.mark.parametrize("value", [1e6, -1e6], ids=["hot", "dead"])
def test_one_hot_or_dead_pixel_changes_nothing(value, rng):
    # Four alike in a row: two neighbours remain alike, whichever pixel breaks.
    image = np.repeat(rng.uniform(size=(5, 3)), 4, axis=1)
    healthy = Scaling.fit(image)
    assert healthy == Scaling.of_range(image)
    for pixel in np.ndindex(image.shape):
        broken = image.copy()
        broken[pixel] = value
        assert Scaling.fit(broken) == healthy
        assert Scaling.of_range(broken) != healthy


def test_a_hot_pixel_lies_above_1_and_comes_back(micrograph):
    broken = micrograph.copy()
    broken[40, 30] = 1000
    scaling = Scaling.fit(broken)
    scaled = scaling.apply(broken)
    assert scaled[40, 30] > 900
    assert np.median(scaled) == pytest.approx(np.median(micrograph), abs=0.05)
    assert scaling.invert(scaled)[40, 30] == pytest.approx(1000)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (4, 5)])
def test_constant_images_become_one_half_and_come_back(fit, shape):
    image = np.full(shape, 7.25)
    scaling = fit(image)
    assert scaling == Scaling(7.25, 0)
    np.testing.assert_array_equal(
        scaling.apply(image), np.full(shape, 0.5, np.float32), strict=True
    )
    np.testing.assert_array_equal(scaling.invert(scaling.apply(image)), image)


@pytest.mark.parametrize(
    "image",
    [
        np.indices((6, 6)).sum(axis=0) % 2,
        np.eye(1, 36, 17).reshape(6, 6),
        1 - np.eye(1, 36, 17).reshape(6, 6),
        np.array([[0.0, 1.0]]),
        np.array([[1.0], [0.0]]),
    ],
    ids=["checkerboard", "one bright pixel", "one dark pixel", "two", "two in a column"],
)
def test_fit_is_the_range_where_no_two_levels_are_shared(image):
    """A lone bright pixel may be all that there is to see, so it counts here."""
    assert Scaling.fit(image) == Scaling.of_range(image) == Scaling(0, 1)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1)])
def test_images_one_pixel_wide_have_neighbours_along_their_length(shape):
    line = np.array([2.0, 2.0, 99.0, 10.0, 10.0, -99.0]).reshape(shape)
    assert Scaling.fit(line) == Scaling(2, 8)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32]
)
def test_integers_do_not_overflow(fit, dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    image = np.array([[low, low, 0], [high, high, high]], dtype)
    scaling = fit(image)
    assert scaling == Scaling(low, high - low)
    scaled = scaling.apply(image)
    assert scaled.dtype == np.float32
    middle = -low / (high - low)
    np.testing.assert_allclose(scaled, [[0, 0, middle], [1, 1, 1]], rtol=1e-6)
    assert scaling.invert(image).dtype == np.float32


@pytest.mark.parametrize("fit", FITS)
def test_half_precision_does_not_overflow(fit):
    """MRC files have it; 60000 + 60000 is infinite in it."""
    image = np.array([[-60000, -60000, 0, 60000, 60000]], np.float16)
    scaling = fit(image)
    scaled = scaling.apply(image)
    np.testing.assert_allclose(scaled, [[0, 0, 0.5, 1, 1]], rtol=1e-6)
    np.testing.assert_array_equal(scaling.invert(scaled.astype(np.float16)), image)


def test_masks_scale_to_themselves():
    mask = np.eye(4, dtype=bool)
    np.testing.assert_array_equal(to_unit(mask), mask)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint16])
def test_image_is_left_alone(dtype, rng):
    image = rng.uniform(0, 1000, (8, 8)).astype(dtype)
    before = image.copy()
    for fit in FITS:
        scaling = fit(image)
        scaling.invert(scaling.apply(image))
        scaling.invert(image)
    np.testing.assert_array_equal(image, before, strict=True)
