"""Shot noise as the paper applies it: the one place where noise is made.

A clean image in [0, 1] is multiplied by a *scale*, the counts expected at its brightest
pixel, and each pixel is drawn from a Poisson distribution. The *dose* of the result is its
mean in counts per pixel (ppx). Training and benchmark draw their pairs here.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.scaling import Scaling

DoseRange = Literal["low", "ordinary", "any", "wide"]

LOW_OFFSET = 25.0  # counts at the brightest pixel
LOW_BETA = 75.0  # counts, mean of the exponential distribution of eq. 1
ORDINARY_LOW, ORDINARY_HIGH = 200.0, 2500.0  # counts at the brightest pixel
WIDE_LOW = 0.3  # counts at the brightest pixel
WIDE_MIDDLE = 60.0, 500.0  # counts at the brightest pixel, where half of the wide range is


def _wide_scale(rng: np.random.Generator) -> float:
    """Draw from 0.3 to 2500, half of the time from the middle of that range."""
    ends = np.log([WIDE_LOW, *WIDE_MIDDLE, ORDINARY_HIGH])
    below, _, above = np.diff(ends)
    start = 0.5 * below / (below + above)  # so that outside the middle factors are alike
    return float(np.exp(np.interp(rng.random(), [0, start, start + 0.5, 1], ends)))


SCALE_SAMPLERS: dict[DoseRange, Callable[[np.random.Generator], float]] = {
    "low": lambda rng: LOW_OFFSET + rng.exponential(LOW_BETA),
    "ordinary": lambda rng: rng.uniform(ORDINARY_LOW, ORDINARY_HIGH),
    "any": lambda rng: np.exp(rng.uniform(np.log(LOW_OFFSET), np.log(ORDINARY_HIGH))),
    "wide": _wide_scale,
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
    dose_range : {"low", "ordinary", "any", "wide"}
        Low draws 25 + Exp(mean 75), of mean 100 and median 77; ordinary draws uniformly
        from 200 to 2500. The paper has no other ranges. Any draws from 25 to 2500, all
        factors alike. Wide draws from 0.3 to 2500: half of its scales lie from 60 to 500,
        all factors there alike, and so are all factors outside.
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


def thinned_pair(counts: NDArray, share: float, rng: np.random.Generator) -> NoisyPair:
    """Make a pair of one noisy image, whose truth nobody knows, by dividing its counts.

    Each electron goes to the noisy image with the probability `share`, else to the other,
    which stands in for the truth. Both are of shot noise that is independent, so a network
    that is trained to predict the other from the noisy one learns the mean of the other,
    which is the truth.

    Parameters
    ----------
    counts : (H, W) array
        Whole numbers of electrons, 0 or more.
    share : float
        Share of the dose that the noisy image gets, between 0 and 1.
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same pair.

    Returns
    -------
    NoisyPair
        In place of the truth it has the other part, multiplied so that both parts have the
        same expected image. Some of its pixels lie above 1.

    References
    ----------
    J. Lehtinen et al., "Noise2Noise: learning image restoration without clean data", ICML
    (2018), arXiv:1803.04189.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noisy, other, gain = thinned_pair(rng.poisson(50.0, (256, 256)), 0.8, rng)
    >>> print(f"{noisy.mean() / gain:.0f} {other.mean() / gain:.0f}")
    40 40
    """
    whole = np.asarray(counts).astype(np.int64)
    part = rng.binomial(whole, share)
    brightest = max(float(part.max()), 1.0)  # an image without any counts stays black
    other = (whole - part) * (share / (1 - share))
    noisy, stand_in = ((each / brightest).astype(np.float32) for each in (part, other))
    return NoisyPair(noisy, stand_in, 1 / brightest)
