"""Shot noise as the paper applies it: the one place where noise is made.

A clean image in [0, 1] is multiplied by a *scale*, the counts expected at its brightest
pixel, and each pixel is drawn from a Poisson distribution. The *dose* of the result is its
mean in counts per pixel (ppx). Training and benchmark draw their pairs here.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.scaling import Scaling

SMOOTHEST = 0.05  # share of blocks
LEAST_OF_BLOCKS = {2: 0.75, 4: 0.68}  # measured there in an even image, over the true gain

# An image of counts may show so many times the true gain by its noise, or more if structure
# as fine as pixels is everywhere. Then fourth differences, which see less of it, find less.
COUNTING = (0.6, 2.5)
COUNTING_IN_STRUCTURE = 6.0
NOT_WHITE = 1.1  # of 256 x 256 pixels of white noise 1.05 at most
LARGE = 226  # pixels at a side, of 14 blocks: in smaller images chance decides

MOST_LEVELS = 20_000
STEADY = 0.05  # by what share of their distance levels of counts may be off

DoseRange = Literal["low", "ordinary", "any"]

LOW_OFFSET = 25.0  # counts at the brightest pixel
LOW_BETA = 75.0  # counts, mean of the exponential distribution of eq. 1
ORDINARY_LOW, ORDINARY_HIGH = 200.0, 2500.0  # counts at the brightest pixel

SCALE_SAMPLERS: dict[DoseRange, Callable[[np.random.Generator], float]] = {
    "low": lambda rng: LOW_OFFSET + rng.exponential(LOW_BETA),
    "ordinary": lambda rng: rng.uniform(ORDINARY_LOW, ORDINARY_HIGH),
    "any": lambda rng: np.exp(rng.uniform(np.log(LOW_OFFSET), np.log(ORDINARY_HIGH))),
}


class NoisyPair(NamedTuple):
    """A noisy image and the truth that a denoiser should find in it.

    Parameters
    ----------
    noisy : (H, W) float32 array
        Counts times `gain`, in [0, 1]. The brightest pixel is 1.
    clean : (H, W) float32 array
        The clean image with the mean of `noisy`. It seldom reaches 1 at a low dose, where
        the brightest noisy pixel lies far above the brightest clean one.
    gain : float
        What one electron adds to a pixel of `noisy`; ``noisy / gain`` are counts.
    """

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    gain: float


def sample_scale(dose_range: DoseRange, rng: np.random.Generator) -> float:
    """Draw the counts expected at the brightest pixel (section 3.1 and eq. 1).

    Parameters
    ----------
    dose_range : {"low", "ordinary", "any"}
        Low draws 25 + Exp(mean 75), of mean 100 and median 77; ordinary draws uniformly
        from 200 to 2500. Any draws from 25 to 2500, all factors alike; the paper has no
        such range.
    rng : numpy.random.Generator
        Source of randomness.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> print(f"{sample_scale('low', rng):.0f} counts at the brightest pixel")
    76 counts at the brightest pixel
    """
    return float(SCALE_SAMPLERS[check_dose_range(dose_range)](rng))


def check_dose_range(name: str) -> DoseRange:
    """Return the name, or say which names there are."""
    if name in SCALE_SAMPLERS:
        return name
    raise ValueError(f"dose range must be one of {sorted(SCALE_SAMPLERS)}, got {name!r}")


def add_shot_noise(
    clean: NDArray, scale: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Expose a clean image and return the counts.

    Parameters
    ----------
    clean : (H, W) array
        Values in [0, 1].
    scale : float
        Counts expected where `clean` is 1. The dose is `scale * clean.mean()`.
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same noise.

    Returns
    -------
    (H, W) float32 array
        Electron counts, whole numbers whose mean and variance are `scale * clean`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> counts = add_shot_noise(np.ones((256, 256)), scale=100.0, rng=rng)
    >>> print(f"{counts.mean():.0f} {counts.std():.0f}")
    100 10
    """
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number of counts, got {scale}")
    if not (clean.min() >= 0 and clean.max() <= 1):  # false for NaN as well
        raise ValueError(
            f"clean must lie in [0, 1], got [{clean.min()}, {clean.max()}]; "
            "Scaling.of_range(clean).apply(clean) brings it there"
        )
    return rng.poisson(clean * np.float64(scale)).astype(np.float32)


def noisy_pair(image: NDArray, scale: float, rng: np.random.Generator) -> NoisyPair:
    """Make a noisy image and its truth by the paper's protocol (section 3.1).

    The image is brought to [0, 1], exposed, and the counts are divided by the largest of
    them, which brings them to [0, 1] again: where the image has its darkest pixel there are
    no counts. The truth is multiplied so that its mean is that of the noisy image. A
    constant image is exposed as one of 0.5, as in the original code.

    Parameters
    ----------
    image : (H, W) array
        A micrograph of high dose, in any units; finite.
    scale : float
        Counts expected at the brightest pixel, for example from `sample_scale`.
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same pair.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noisy, clean, gain = noisy_pair(np.eye(64), scale=100.0, rng=rng)
    >>> print(noisy.min(), noisy.max(), f"{clean.mean() / noisy.mean():.4f}")
    0.0 1.0 1.0000
    """
    exposed = Scaling.of_range(image).apply(image)
    counts = add_shot_noise(exposed, scale, rng)
    brightest = max(float(counts.max()), 1.0)  # an image without any counts stays black
    noisy = counts / np.float32(brightest)
    # In double precision, or the means of large images would differ by rounding alone.
    ratio = noisy.mean(dtype=np.float64) / exposed.mean(dtype=np.float64)
    return NoisyPair(noisy, (exposed * ratio).astype(np.float32), 1 / brightest)


def estimate_gain(image: NDArray) -> float:
    """Estimate what one electron adds to a pixel, from the noise of an image.

    The variance of shot noise is the mean times the gain. Both are measured in blocks of
    16 x 16 pixels, the variance after second differences along both axes, to which smooth
    structure adds little. Structure of one or two pixels passes for noise, so the
    smoothest twentieth of the blocks decides. In small images it is less certain.

    Where an image's levels are equidistant and their distance agrees with the noise, they
    are taken for counts, and the distance is the gain exactly. The noise may show from 0.6
    to 2.5 times as much, or up to 6 times where structure as fine as pixels is everywhere
    in an image of 226 x 226 pixels or more. A camera that makes so many whole grey
    levels of an electron passes for a counter.

    Parameters
    ----------
    image : (H, W) array
        Finite values in any units, both sides at least 3, with 0 for no electrons.

    Returns
    -------
    float
        In units of the image; 0 for an image without noise, or without a block of 16 x 16
        pixels whose mean is positive.

    Raises
    ------
    ValueError
        If a side is shorter than 3 pixels.

    References
    ----------
    J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding
    64 (1996), 300-302.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> counts = add_shot_noise(np.full((256, 256), 1.0), scale=100.0, rng=rng)
    >>> print(f"{estimate_gain(7.0 * counts):.4f}")  # as if a detector multiplied by 7
    7.0000
    >>> blurred = (7.0 * counts + rng.normal(0, 3, counts.shape)).astype(np.float32)
    >>> print(f"{estimate_gain(blurred):.0f}")
    7
    """
    if min(image.shape) < 3:
        raise ValueError(f"image must have sides of 3 pixels or more, got {image.shape}")
    measured, step = _gain_of_noise(image, order=2), _level_distance(image)
    if not step:
        return measured
    structured = min(image.shape) >= LARGE and (
        measured > NOT_WHITE * _gain_of_noise(image, order=4)
    )
    most = COUNTING_IN_STRUCTURE if structured else COUNTING[1]
    return step if COUNTING[0] < measured / step < most else measured


def estimate_scale(image: NDArray) -> float:
    """Estimate the counts at the brightest pixel from the noise of an image.

    Parameters
    ----------
    image : (H, W) array
        Finite values in any units, both sides at least 3. Zero should mean no electrons;
        in an image with negative values the lowest one is taken for it.

    Returns
    -------
    float
        The brightest level over the gain that `estimate_gain` finds; infinity for an image
        without noise.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> counts = add_shot_noise(np.full((256, 256), 1.0), scale=100.0, rng=rng)
    >>> gain = 7.0  # of the detector, unknown
    >>> 100 < estimate_scale(gain * counts) < 150  # the noise lifts the brightest level
    True
    """
    levels = Scaling.fit(image)
    dark = min(0.0, levels.offset)
    gain = estimate_gain(image.astype(np.float64) - dark)
    brightest = levels.offset + levels.span - dark
    return float(brightest / gain) if gain > 0 else np.inf


def _level_distance(image: NDArray) -> float:
    """Return the distance of an image's levels where it is always the same, else 0."""
    levels = np.unique(image).astype(np.float64)
    if not 1 < len(levels) <= MOST_LEVELS:
        return 0.0
    whole = np.round((levels - levels[0]) / np.diff(levels).min())
    step = (levels[-1] - levels[0]) / whole[-1]
    errors = np.abs(levels - levels[0] - whole * step)
    return float(step) if errors.max() < STEADY * step else 0.0


def _gain_of_noise(image: NDArray, order: int) -> float:
    """Return variance over mean where an image is smoothest."""
    gains = _gain_in_blocks(image.astype(np.float64), order)
    return float(np.quantile(gains, SMOOTHEST)) / LEAST_OF_BLOCKS[order]


def _gain_in_blocks(
    image: NDArray[np.float64], order: int, side: int = 16
) -> NDArray[np.float64]:
    """Return variance over mean in each block that has any counts.

    The higher the order of the differences that tell noise from structure, the less
    structure they leave, and the finer.
    """
    noise = np.diff(np.diff(image, order, axis=0), order, axis=1)
    noise /= math.comb(2 * order, order)  # white noise keeps its variance
    side = min(side, *noise.shape)
    rows, columns = (length // side for length in noise.shape)
    blocks, margin = np.s_[: rows * side, : columns * side], order // 2
    variance = _block_means(noise[blocks] ** 2, side)
    mean = _block_means(image[margin:-margin, margin:-margin][blocks], side)
    exposed = mean > 0
    return variance[exposed] / mean[exposed] if exposed.any() else np.zeros(1)


def _block_means(image: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the means of square blocks, which fill the image."""
    rows, columns = (length // side for length in image.shape)
    return image.reshape(rows, side, columns, side).mean(axis=(1, 3))
