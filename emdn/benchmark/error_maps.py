"""Where a network errs: at the edges of an image, in a grid, on which instances (4.2).

    instances --method--> absolute difference --mean--> map --> edge profile, grid
    rows of a benchmark --> the best, the median and the worst instance

A mean over instances wipes out what depends on the micrograph, and leaves what depends on
the place in the image. That has two causes: the edge, beyond which nothing is known, and
strided layers, which treat pixels differently by their row and column modulo the stride.
"""

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from emdn.benchmark.instances import Instance
from emdn.benchmark.method import Method
from emdn.benchmark.rows import Row

MARGIN = 32  # px from the edge to the interior, a multiple of the periods of grids
REACH = 5  # frequencies to either side of a grid's that it is compared with
CONFIDENCE = 0.95


class ErrorMap(NamedTuple):
    """Mean absolute error of each pixel over many instances.

    Parameters
    ----------
    mean : (H, W) array
        In units of the images, which lie in [0, 1].
    instances : int
        How many were averaged.
    left_out : int
        How many were not, being smaller than the map.
    not_finite : int
        How many were not, because the method returned NaN or infinity.
    """

    mean: NDArray[np.float64]
    instances: int
    left_out: int
    not_finite: int


class Grid(NamedTuple):
    """How much of a map repeats itself with a period, and with no part of that period.

    Parameters
    ----------
    period : int
        In pixels, along both axes.
    strength : float
        Power at the grid's frequencies over the power at the frequencies around them: near
        1 where there is no grid, whatever the map's smooth spectrum. More instances bring
        out the same grid more strongly.
    limit : float
        What 95 % of maps without a grid stay below; fewer frequencies scatter more widely.
    amplitude : float
        Root mean square of the grid over the mean of the map, the power of the frequencies
        around taken off. It does not depend on the number of instances.
    share : float
        Of the interior's variance, that explained by row and column modulo the period
        beyond what they explain modulo half of it. That of shuffled pixels is 3 (period 2)
        or 12 (period 4) over their number; a smooth map's is much smaller.
    """

    period: int
    strength: float
    limit: float
    amplitude: float
    share: float


def mean_error(
    instances: "Iterable[Instance]",
    method: "Method",
    shape: tuple[int, int],
) -> ErrorMap:
    """Average the absolute error of each pixel, in the memory of one image.

    Results are clipped to [0, 1], as for the scores of a benchmark.

    Parameters
    ----------
    instances : iterable of Instance
        For example ``make_instance(config, "low", n)`` for all numbers. They are not kept,
        so that there may be any number of them.
    method : callable
        Takes a noisy image and the counts of its brightest level; returns the denoised one.
    shape : tuple of 2 int
        Of the map. Instances of other shapes, whose edges lie elsewhere, are left out.

    Raises
    ------
    ValueError
        If nothing is left to average.

    Examples
    --------
    >>> from emdn.benchmark.instances import Instance
    >>> zeros, ones = np.zeros((8, 8)), np.ones((8, 8))
    >>> pairs = [Instance(zeros, zeros, 9.0, 9.0, {}), Instance(ones, zeros, 9.0, 9.0, {})]
    >>> errors = mean_error(pairs, lambda noisy, counts: noisy, (8, 8))
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
    power = _power(inside)
    harmonics = _harmonics(inside.shape, period)
    around = [_power_around(power, *each, period) for each in harmonics]
    at = np.array([power[each] for each in harmonics])
    excess = max(float(np.sum(at - around)), 0.0)
    degrees = len(harmonics)  # power at half the sampling frequency has one, else two
    return Grid(
        period,
        strength=float(np.mean(at / np.maximum(around, np.finfo(float).tiny))),
        limit=float(chi2.ppf(CONFIDENCE, degrees) / degrees),
        amplitude=math.sqrt(excess) / float(inside.mean()),
        share=_explained(inside, period) - _explained(inside, period // 2),
    )


def family(method: str) -> str:
    """Return what the variants of a method have in common: its name up to a comma.

    Examples
    --------
    >>> family("wavelet, told"), family("wavelet, stabilised"), family("wavelet")
    ('wavelet', 'wavelet', 'wavelet')
    """
    return method.partition(",")[0]


def telling_instances(
    rows: "Iterable[Row]",
    dose_range: str,
    method: str,
    *,
    rivals: Collection[str] | None = None,
) -> dict[str, int]:
    """Return the numbers of the instances on which a method does best, medium and worst.

    It is compared with whichever rival does best on the same instance, since an MSE by
    itself says more about the instance's contrast and dose than about the method.

    Parameters
    ----------
    rows : iterable of Row
        Of a benchmark.
    dose_range : str
        Whose instances to choose from.
    method : str
        A method that was scored.
    rivals : collection of str, optional
        Methods to compare it with, by default all that are not of its `family`;
        ``["unfiltered"]`` compares with the noisy image.

    Returns
    -------
    dict of str to int
        Of "best", "median" and "worst". Instances without a finite score are left out.
    """

    def is_rival(name: str) -> bool:
        return family(name) != family(method) if rivals is None else name in rivals

    own: dict[int, float] = {}
    others: dict[int, float] = {}
    for row in rows:
        if row.dose_range != dose_range or not math.isfinite(row.mse):
            continue
        if row.method == method:
            own[row.instance] = row.mse
        elif is_rival(row.method):
            others[row.instance] = min(row.mse, others.get(row.instance, math.inf))
    both = own.keys() & others.keys()
    if not both:
        raise ValueError(
            f"no instance of the dose range {dose_range!r} has scores of both "
            f"{method!r} and {'another method' if rivals is None else sorted(rivals)}"
        )
    ratio = {number: own[number] / max(others[number], 1e-300) for number in both}
    ranked = sorted(both, key=lambda number: (ratio[number], number))
    return {
        "best": ranked[0],
        "median": ranked[(len(ranked) - 1) // 2],
        "worst": ranked[-1],
    }


def _whole_periods(array: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    height, width = (side // period * period for side in array.shape)
    return array[:height, :width]


def _power(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a spectrum in which a wave's power is that of its mean square.

    A Hann window keeps trends, whose opposite edges do not match, from spilling power onto
    the axes, and so onto a grid's frequencies. It spreads a wave over 3 x 3 of them.
    """
    rows, columns = (np.hanning(side + 1)[:-1] for side in array.shape)
    window = np.outer(rows, columns)
    return np.abs(np.fft.fft2((array - array.mean()) * window) / window.sum()) ** 2


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
