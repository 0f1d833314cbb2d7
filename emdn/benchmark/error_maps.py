"""Where in an image a method errs: at its edges, and in a grid (section 4.2).

    instances --method--> absolute difference --mean--> map --> edge profile, grid

A mean over instances removes what depends on the micrograph, and leaves what depends on
the place in the image. That has two causes: the edge, beyond which nothing is known, and
strided layers, which treat pixels differently by their row and column modulo the stride.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from emdn.benchmark.instances import Instance
from emdn.benchmark.method import Denoise
from emdn.spectrum import windowed_power

MARGIN = 32  # pixels from the edge to the interior, a multiple of the periods of grids
REACH = 5  # frequencies to either side of a grid's frequency that it is compared with
CONFIDENCE = 0.95  # share of maps without a grid that stay below a grid's limit
WAVE = 2.25  # pixels times mean square of a wave, over its peak power in a Hann window


class ErrorMap(NamedTuple):
    """Mean absolute error of each pixel over many instances.

    Parameters
    ----------
    mean : (H, W) array
        In units of the images, which lie in [0, 1].
    instances : int
        Number of instances that were averaged.
    left_out : int
        Number of instances that were not averaged because their shape is another.
    not_finite : int
        Number of instances that were not averaged because the method returned NaN or
        infinity.
    """

    mean: NDArray[np.float64]
    instances: int
    left_out: int
    not_finite: int


class Grid(NamedTuple):
    """How much of a map repeats itself with a period, and not with half of it.

    Parameters
    ----------
    period : int
        Period along both axes, in pixels.
    strength : float
        Power at the grid's frequencies over the power at the frequencies around them. It is
        near 1 where there is no grid, whatever the map's smooth spectrum. The more
        instances are averaged, the larger is the strength of the same grid.
    limit : float
        Strength that 95 % of maps without a grid stay below. It is larger for a period of
        fewer frequencies, whose strength scatters more widely.
    amplitude : float
        Root mean square of the grid over the mean of the map, after subtraction of the
        power around. It does not depend on the number of instances.
    share : float
        Share of the interior's variance that row and column modulo the period explain,
        less the share that they explain modulo half of it. In shuffled pixels it is 3
        (period 2) or 12 (period 4) over their number; in a smooth map it is much smaller.
    """

    period: int
    strength: float
    limit: float
    amplitude: float
    share: float


def mean_error(
    instances: Iterable[Instance], method: Denoise, shape: tuple[int, int]
) -> ErrorMap:
    """Average the absolute error of each pixel, in the memory of one image.

    Results are clipped to [0, 1], as for the scores of a benchmark.

    Parameters
    ----------
    instances : iterable of Instance
        For example ``make_instance(config, "low", n)`` for all numbers. They are not kept,
        so that there may be any number of them.
    method : callable
        Method, or another function of a noisy image and its gain that denoises it.
    shape : tuple of 2 int
        Height and width of the map. Instances of other shapes, whose edges lie elsewhere,
        are left out.

    Raises
    ------
    ValueError
        If no instance can be averaged.

    Examples
    --------
    >>> from emdn.data.corpus import Entry
    >>> zeros, entry = np.zeros((8, 8)), Entry("a.tif", "a")
    >>> pairs = [Instance(zeros + n, zeros, 0.1, 9.0, entry) for n in (0, 1)]
    >>> errors = mean_error(pairs, lambda noisy, gain: noisy, (8, 8))
    >>> print(errors.instances, errors.mean[0, 0])
    2 0.5
    """
    total = np.zeros(shape)
    added = left_out = not_finite = 0
    for instance in instances:
        if instance.clean.shape != tuple(shape):
            left_out += 1
            continue
        denoised = np.asarray(method(instance.noisy.copy(), instance.gain))
        if denoised.shape != instance.clean.shape:
            raise ValueError(
                f"method must keep the shape {instance.clean.shape}, got {denoised.shape}"
            )
        if not np.isfinite(denoised).all():
            not_finite += 1
            continue
        total += np.abs(np.clip(denoised, 0, 1) - instance.clean)
        added += 1
    if not added:
        raise ValueError(
            f"no instance can be averaged: {left_out} are not of {shape[0]} x {shape[1]} "
            f"pixels, {not_finite} results are not finite; choose a smaller shape"
        )
    return ErrorMap(total / added, added, left_out, not_finite)


def edge_profile(errors: ArrayLike) -> NDArray[np.float64]:
    """Return the mean error at each distance from the nearest edge.

    Parameters
    ----------
    errors : (H, W) array
        Mean errors.

    Returns
    -------
    ((min(H, W) + 1) // 2,) array
        The first is the mean of the outermost pixels.

    Examples
    --------
    >>> edge_profile([[4, 4, 4], [4, 1, 4], [4, 4, 4]])
    array([4., 1.])
    """
    array = np.asarray(errors, dtype=np.float64)
    rows, columns = (
        np.minimum(np.arange(side), np.arange(side)[::-1]) for side in array.shape
    )
    distance = np.minimum.outer(rows, columns).ravel()
    return np.bincount(distance, array.ravel()) / np.bincount(distance)


def edge_ratio(errors: ArrayLike, *, margin: int = MARGIN) -> float:
    """Return the mean error of the outermost pixels over that of the interior.

    Parameters
    ----------
    errors : (H, W) array
        Mean errors.
    margin : int
        Distance from the edge in pixels at which the interior begins.
    """
    return float(edge_profile(errors)[0] / interior(errors, margin=margin).mean())


def interior(errors: ArrayLike, *, margin: int = MARGIN) -> NDArray[np.float64]:
    """Return the part of a map that lies at least a margin away from its edges."""
    array = np.asarray(errors, dtype=np.float64)
    if min(array.shape) < 4 * margin:
        raise ValueError(
            f"errors must be at least {4 * margin} x {4 * margin} pixels, four margins, "
            f"got shape {array.shape}; choose a larger crop or a smaller margin"
        )
    return array[margin : array.shape[0] - margin, margin : array.shape[1] - margin]


def phase_means(errors: ArrayLike, period: int) -> NDArray[np.float64]:
    """Return the mean of the pixels of each row and column modulo a period.

    Parameters
    ----------
    errors : (H, W) array
        Rows and columns behind the last whole period are left away.
    period : int
        In pixels.

    Returns
    -------
    (period, period) array
        Means by row and by column.

    Examples
    --------
    >>> phase_means([[1, 2, 1, 2], [3, 4, 3, 4]], period=2)
    array([[1., 2.],
           [3., 4.]])
    """
    array = _whole_periods(np.asarray(errors, dtype=np.float64), period)
    rows, columns = (side // period for side in array.shape)
    return array.reshape(rows, period, columns, period).mean(axis=(0, 2))


def measure_grid(errors: ArrayLike, period: int, *, margin: int = MARGIN) -> Grid:
    """Measure the grid of a period, a power of 2, in the interior of a map.

    A pattern that repeats itself has its power at the multiples of one frequency, and at
    no others. Errors that are alike in neighbouring pixels fill the spectrum smoothly,
    though not evenly: hence the comparison with frequencies nearby, and not with white
    noise, against which smooth maps would seem to have less than no grid.

    Parameters
    ----------
    errors : (H, W) array
        Mean errors.
    period : int
        In pixels. That of a layer which puts 2 x 2 pixels in place of one is 2, of two such
        layers 4; the grid of period 2 is not counted again in that of period 4.
    margin : int
        Pixels to leave away at the edges, where errors are of another kind.

    Examples
    --------
    >>> noise = 1 + 0.02 * np.random.default_rng(0).normal(size=(256, 256))
    >>> stripes = np.tile([0.02, 0.0, 0.0, 0.0], 64)
    >>> for errors in (noise, noise + stripes):
    ...     grid = measure_grid(errors, period=4)
    ...     print(grid.strength > grid.limit, f"{grid.amplitude:.3f}")
    False 0.000
    True 0.007
    """
    if period < 2 or period & (period - 1):
        raise ValueError(f"period must be 2, 4, 8 or another power of 2, got {period}")
    inside = _whole_periods(interior(errors, margin=margin), period)
    if min(inside.shape) < 8 * period:
        raise ValueError(
            f"errors must hold eight periods of {period} within the margins, "
            f"got an interior of {inside.shape}"
        )
    power = windowed_power(inside) * WAVE / inside.size
    harmonics = _harmonics(inside.shape, period)
    around = [_power_around(power, *each, period) for each in harmonics]
    at = np.array([power[each] for each in harmonics])
    excess = max(float(np.sum(at - around)), 0.0)
    degrees = len(harmonics)  # of freedom: one at half the sampling frequency, else two
    return Grid(
        period,
        strength=float(np.mean(at / np.maximum(around, np.finfo(float).tiny))),
        limit=float(chi2.ppf(CONFIDENCE, degrees) / degrees),
        amplitude=math.sqrt(excess) / float(inside.mean()),
        share=_explained(inside, period) - _explained(inside, period // 2),
    )


def _whole_periods(array: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    height, width = (side // period * period for side in array.shape)
    return array[:height, :width]


def _harmonics(shape: tuple[int, ...], period: int) -> list[tuple[int, int]]:
    """Return the frequencies of a period that are of no shorter one, as indices."""
    height, width = shape
    return [
        (row * height // period, column * width // period)
        for row in range(period)
        for column in range(period)
        if math.gcd(row, column, period) == 1
    ]


def _power_around(power: NDArray[np.float64], row: int, column: int, period: int) -> float:
    """Return the mean power of the frequencies around one, its own 3 x 3 left away."""
    # Half the way to the next harmonic of twice the period, which may be a grid as well.
    reach = min(REACH, *(side // (4 * period) for side in power.shape))
    offsets = np.arange(-reach, reach + 1)
    rows, columns = (
        (centre + offsets) % side
        for centre, side in zip((row, column), power.shape, strict=True)
    )
    far = np.maximum.outer(np.abs(offsets), np.abs(offsets)) > 1
    return float(power[np.ix_(rows, columns)][far].mean())


def _explained(inside: NDArray[np.float64], period: int) -> float:
    """Return the share of variance that row and column modulo a period explain."""
    total = inside.var()
    return float(phase_means(inside, period).var() / total) if total else 0.0
