"""Laws of tiling: cover once, undo, leave no seam."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from emdn.tiling import Tiling, merge, paste, split

unhurried = settings(deadline=None)  # a busy machine is no fault of the code


@st.composite
def tilings(draw, largest_side=70):
    """Any legal tiling: thin, prime, smaller than a tile or many tiles wide."""
    shape = draw(st.tuples(*[st.integers(1, largest_side)] * 2))
    overlap = draw(st.integers(0, 12))
    size = draw(st.tuples(*[st.integers(2 * overlap + 1, 2 * overlap + 40)] * 2))
    return Tiling(shape, size, overlap)


def ramp(shape):
    return np.arange(np.prod(shape), dtype=np.int64).reshape(shape)


@unhurried
@given(tilings())
def test_merge_undoes_split(tiling):
    image = ramp(tiling.shape)
    np.testing.assert_array_equal(merge(split(image, tiling), tiling), image)


@unhurried
@given(tilings())
def test_every_pixel_is_kept_exactly_once(tiling):
    kept = np.zeros(tiling.shape, dtype=int)
    for y, x in tiling.corners() + tiling.overlap:
        assert 0 <= y < tiling.shape[0]
        assert 0 <= x < tiling.shape[1]
        kept[y : y + tiling.stride[0], x : x + tiling.stride[1]] += 1
    assert (kept == 1).all()


@unhurried
@given(tilings())
def test_tiles_are_pieces_of_the_reflect_padded_image(tiling):
    image = ramp(tiling.shape)
    padding = [
        (tiling.overlap, tiling.overlap + tiles * stride - pixels)
        for tiles, stride, pixels in zip(
            tiling.grid, tiling.stride, tiling.shape, strict=True
        )
    ]
    padded = np.pad(image, padding, mode="reflect")
    tiles = split(image, tiling)
    assert tiles.shape == (len(tiling), *tiling.size)
    for tile, (y, x) in zip(tiles, tiling.corners() + tiling.overlap, strict=True):
        height, width = tiling.size
        np.testing.assert_array_equal(tile, padded[y : y + height, x : x + width])


@unhurried
@given(tilings(), st.integers(1, 7))
def test_batch_by_batch_equals_all_at_once(tiling, batch):
    image = ramp(tiling.shape)
    output = np.full_like(image, -1)
    for start in range(0, len(tiling), batch):
        tiles = split(image, tiling, start, start + batch)
        assert len(tiles) <= batch
        paste(output, tiles, tiling, start)
    np.testing.assert_array_equal(output, image)


@unhurried
@given(tilings(), st.integers(0, 12))
def test_a_local_filter_leaves_no_seam(tiling, reach):
    """Tiled and whole filters agree when the overlap covers the filter's reach."""
    reach = min(reach, tiling.overlap)
    image = np.random.default_rng(0).uniform(size=tiling.shape)
    window = 2 * reach + 1
    tiles = np.stack([uniform_filter(tile, window) for tile in split(image, tiling)])
    # SciPy's mirror is NumPy's reflect, also where the window is wider than the image.
    whole = uniform_filter(image, window, mode="mirror")
    np.testing.assert_allclose(merge(tiles, tiling), whole, atol=1e-12)


@unhurried
@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(4, 40),
    st.integers(0, 31),
)
def test_balanced_tiles_are_few_small_and_divisible(shape, sixteens, overlap):
    size = 16 * sixteens
    tiling = Tiling.balanced(shape, size=size, overlap=overlap)
    unbalanced = Tiling(shape, (size, size), overlap)
    assert tiling.grid == unbalanced.grid
    for side, stride, tiles, pixels in zip(
        tiling.size, tiling.stride, tiling.grid, shape, strict=True
    ):
        assert side % 16 == 0
        assert side <= size
        assert tiles * stride >= pixels
        one_step_smaller = side - 16 - 2 * overlap
        assert tiles * one_step_smaller < pixels  # else it would not be the smallest


def test_paper_sized_tiles_cover_a_large_micrograph():
    assert len(Tiling((2048, 2048), (512, 512))) == 25
    assert Tiling.balanced((2048, 2048)).size == (464, 464)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.bool_])
def test_dtype_is_kept(dtype):
    image = ramp((9, 5)).astype(dtype)
    tiling = Tiling(image.shape, (4, 4), 1)
    assert split(image, tiling).dtype == dtype
    assert merge(split(image, tiling), tiling).dtype == dtype


def test_image_is_left_alone(rng):
    image = rng.uniform(size=(20, 30))
    before = image.copy()
    tiles = split(image, Tiling(image.shape, (16, 16), 2))
    tiles[:] = 0
    np.testing.assert_array_equal(image, before)


def test_paste_leaves_other_pixels_alone():
    tiling = Tiling((8, 8), (4, 4), 0)
    output = np.full((8, 8), 7)
    paste(output, np.zeros((1, 4, 4), int), tiling, start=1)
    assert (output[:4, 4:] == 0).all()
    assert output.sum() == 7 * 48


def test_a_tiling_prints_what_is_read_and_kept():
    text = str(Tiling((100, 10), (12, 12), overlap=1))
    assert text.splitlines() == [
        "10 x 1 tiles of 12 x 12 pixels with overlap 1",
        "rows:    read -1:11 9:21 ... 89:101, keep 0:10 10:20 ... 90:100",
        "columns: read -1:11, keep 0:10",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overlap": -1}, "overlap must not be negative, got -1; use 0"),
        (
            {"overlap": 32},
            r"size must exceed twice the overlap of 32, got \(64, 64\); use",
        ),
        ({"shape": (0, 5)}, r"shape must be two positive whole numbers .* got \(0, 5\)"),
        ({"shape": (5, 5, 1)}, "shape must be two positive whole numbers"),
        (
            {"size": 64},
            r"size must be two positive whole numbers \(height, width\), got 64",
        ),
        ({"size": (64.0, 64)}, "size must be two positive whole numbers"),
    ],
)
def test_impossible_tilings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tiling(**{"shape": (90, 90), "size": (64, 64), "overlap": 8, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 500}, "size must be a multiple of 16, got 500; use 496 or 512"),
        ({"size": 10}, "size must be a multiple of 16, got 10; use 16$"),
        ({"multiple": 0}, "multiple must be at least 1, got 0"),
        ({"size": 48}, "size must exceed twice the overlap of 25"),
    ],
)
def test_impossible_balanced_tilings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tiling.balanced((90, 90), **arguments)


def test_arrays_of_another_shape_are_refused():
    tiling = Tiling((8, 8), (4, 4), 0)
    with pytest.raises(
        ValueError, match=r"image must have the tiling's shape \(8, 8\), got"
    ):
        split(np.zeros((8, 9)), tiling)
    with pytest.raises(ValueError, match="output must have the tiling's shape"):
        paste(np.zeros((9, 8)), np.zeros((1, 4, 4)), tiling)
    with pytest.raises(
        ValueError, match=r"tiles must have shape \(N, 4, 4\), got \(4, 4, 4, 1\)"
    ):
        merge(np.zeros((4, 4, 4, 1)), tiling)
    with pytest.raises(ValueError, match="tiles must be all 4 tiles, got 3; use paste"):
        merge(np.zeros((3, 4, 4)), tiling)
    with pytest.raises(
        ValueError, match="start must leave room for 2 tiles among 4, got 3"
    ):
        paste(np.zeros((8, 8)), np.zeros((2, 4, 4)), tiling, start=3)
