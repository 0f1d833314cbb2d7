"""Blocks of 8 x 8 pixels: which show noise as it was, and how much at each frequency.

Of a large image a few patches are looked at, and of their blocks those that hold nothing
but an image: no masked or invalid pixel, no bar, no border, and no level at which noise was
clipped. What repeats is taken out. A cosine transform then says how much energy of a block
lies at which frequency.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from emdn.detector.periods import without_periods

Floats = NDArray[np.float64]

SIDE = 8  # pixels at a side of a block
FEWEST_BLOCKS = 4  # blocks, below which nothing is measured
PATCH = 256  # pixels, about the side of a patch in which periods are looked for
MOST_PATCHES = 16  # of 1024 x 1024 pixels; of a larger image about so many are taken
MOST_LEVELS = 20_000  # grey levels, above which a comb of levels is not looked for
STEADY = 0.05  # share of their distance by which the levels of a comb may be off
# Share of clipped pixels; the variance of noise is then 3.5 % too low.
HARDLY_CLIPPED = 0.02

COSINES: Any = dct(np.eye(SIDE), norm="ortho", axis=0)
TRANSFORM = np.kron(COSINES, COSINES)  # of a block as a row of 64 pixels
V, U = (each.ravel() for each in np.indices((SIDE, SIDE)))  # frequencies down and along
HALVES = ((U + V) % 2 == 0, (U + V) % 2 == 1)  # the even coefficients and the odd ones
FAST = np.maximum(U, V) >= SIDE - 3  # those that are measured: most structure is slower


def sample_windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Return the rows and columns of the patches in which noise is measured.

    A patch consists of whole blocks. Of a large image some are taken, spread evenly.
    """
    numbers = [max(1, round(length / PATCH)) for length in shape]
    sides = [
        length // number // SIDE * SIDE
        for length, number in zip(shape, numbers, strict=True)
    ]
    every = int(np.ceil(np.sqrt(np.prod(numbers) / MOST_PATCHES)))
    down, along = (
        [slice(n * side, (n + 1) * side) for n in range(0, number, every)]
        for number, side in zip(numbers, sides, strict=True)
    )
    return [(rows, columns) for rows in down for columns in along]


class Blocks(NamedTuple):
    """What the blocks of an image tell about its noise."""

    mean: Floats  # (B,)
    energy: Floats  # (B, 64), squares of the cosine transform's coefficients
    step: float  # distance of the grey levels, where it is always the same, else 0


def sound_blocks(sampled: NDArray, mask: NDArray[np.bool_] | None) -> Blocks | None:
    """Return the blocks that hold nothing but an image, or None if there are too few.

    Parameters
    ----------
    sampled : (P, H, W) array
        Patches of whole blocks.
    mask : (P, H, W) array of bool, optional
        True where a pixel is not to be believed.
    """
    patches = sampled.astype(np.float64)
    pixels = _blocks_of(patches)
    sound: Any = np.isfinite(pixels).all((1, 2))
    if mask is not None:
        sound &= ~_blocks_of(mask).any((1, 2))
    sound[sound] = pixels[sound].reshape(-1, SIDE**2).std(1) > 0
    if np.count_nonzero(sound) < FEWEST_BLOCKS:
        return None
    sound[sound] = ~_with_constants(pixels[sound], pixels[sound].min())
    if np.count_nonzero(sound) < FEWEST_BLOCKS:
        return None
    levels, pixels_at = np.unique(pixels[sound], return_counts=True)
    step = _level_distance(levels)
    sound[sound] = ~_clipped(pixels[sound], levels, pixels_at, step)
    if np.count_nonzero(sound) < FEWEST_BLOCKS:
        return None
    mean = pixels[sound].mean((1, 2))
    noise = _blocks_of(without_periods(patches, _pixels_of(sound, patches.shape)))[sound]
    rows = (noise - noise.mean((1, 2), keepdims=True)).reshape(-1, SIDE**2)
    return Blocks(mean, (rows @ TRANSFORM.T) ** 2, step)


def _blocks_of(patches: NDArray) -> NDArray:
    """Return (P, H, W) patches as (B, 8, 8) blocks."""
    number, height, width = patches.shape
    cut = patches.reshape(number, height // SIDE, SIDE, width // SIDE, SIDE)
    return cut.swapaxes(2, 3).reshape(-1, SIDE, SIDE)


def _pixels_of(blocks: NDArray, shape: tuple[int, ...]) -> NDArray:
    """Return what is said of (B,) blocks for each pixel of (P, H, W) patches."""
    number, height, width = shape
    grid = blocks.reshape(number, height // SIDE, width // SIDE)
    return grid.repeat(SIDE, axis=1).repeat(SIDE, axis=2)


def _level_distance(levels: Floats) -> float:
    """Return the distance of sorted levels where it is always the same, else 0."""
    if not 1 < len(levels) <= MOST_LEVELS:
        return 0.0
    whole = np.round((levels - levels[0]) / np.diff(levels).min())
    step = (levels[-1] - levels[0]) / whole[-1]
    errors = np.abs(levels - levels[0] - whole * step)
    return float(step) if errors.max() < STEADY * step else 0.0


def _with_constants(pixels: Floats, ground: float) -> NDArray[np.bool_]:
    """Say which blocks have a row or column of equal pixels above the ground.

    Bars and borders have such pixels, and chance alone hardly ever makes them.
    """
    rows = (pixels.max(2) == pixels.min(2)) & (pixels[:, :, 0] > ground)
    columns = (pixels.max(1) == pixels.min(1)) & (pixels[:, 0, :] > ground)
    return rows.any(1) | columns.any(1)


def _clipped(
    pixels: Floats, levels: Floats, pixels_at: NDArray[np.int_], step: float
) -> NDArray[np.bool_]:
    """Say which blocks a clipped level distorts, at either end.

    Of blocks near a clipped level those without a clipped pixel are the less noisy ones,
    so no block there is believed. Where electrons are sparse most pixels have none, as
    the Poisson distribution says; they are not clipped.
    """
    distorted = np.zeros(len(pixels), bool)
    if _piled_up(pixels_at[::-1]):
        distorted |= _near(-pixels, -levels[-1])
    if _piled_up(pixels_at):
        empty = np.exp(-(pixels.mean((1, 2)) - levels[0]) / step).mean() if step else 0.0
        if (pixels == levels[0]).mean() > 1.3 * empty:
            distorted |= _near(pixels, levels[0])
            distorted |= _with_constants(pixels, -np.inf)
    return distorted


def _near(pixels: Floats, level: float) -> NDArray[np.bool_]:
    """Say which blocks a lowest level clips, or may have spared by chance alone.

    Noise that is clipped comes close to the level; the bright side of a border does not.
    Blocks so bright that noise hardly reaches the level are believed, those that it
    reaches as well as the others, since to choose among them would be to choose the noise.
    """
    from scipy.optimize import isotonic_regression  # takes half a second, see `model`

    at = pixels == level
    touched = at.any((1, 2))
    gap = np.where(at, np.inf, pixels).min((1, 2)) - level
    noise = touched & (gap < 0.5 * (np.median(pixels, (1, 2)) - level))
    if not noise.any():
        return touched
    distorted = touched & ~noise  # borders
    by_mean = np.argsort(pixels.mean((1, 2)))
    by_mean = by_mean[~distorted[by_mean]]
    # Noise reaches the level the less, the brighter a block is; structure does as it likes.
    share = isotonic_regression(at[by_mean].mean((1, 2)), increasing=False).x
    distorted[by_mean[share > HARDLY_CLIPPED]] = True
    return distorted


def _piled_up(pixels_at: NDArray[np.int_]) -> bool:
    """Say whether the first level has far more pixels than the next one."""
    return bool(pixels_at[0] > 8 + 2 * pixels_at[1])
