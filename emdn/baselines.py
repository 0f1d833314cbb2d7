"""Denoising without learning: what a network has to beat (section 4.1).

A method takes a noisy image in [0, 1] and the counts that its 1 stands for, and returns the
denoised image. `BASELINES` are the paper's, with its parameters: blind, they ignore the
counts. `TOLD` are the same filters with one parameter fitted to the noise, and `STABILISED`
work where shot noise is the same in all pixels, after the Anscombe transform; both are
stronger rivals, and tuned on validation micrographs.

The paper's parameters are those of its scripts, in which "default" means the defaults of
2018. Where the libraries of today compute something else than those of that year
(scikit-image 0.14, SciPy 1.1), the methods say so; ``benchmarks/paper_slips.py`` measures
what it does to the scores.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import wiener
from scipy.stats import poisson
from skimage.restoration import (
    cycle_spin,
    denoise_nl_means,
    denoise_tv_bregman,
    denoise_tv_chambolle,
    denoise_wavelet,
)

PaperDose = Literal["low", "ordinary"]  # the dose ranges that something is scored on

Image = NDArray[Any]  # (H, W), of real numbers
Method = Callable[[Image, float], Image]

LARGEST_TABULATED = 100.0  # counts, from which on the limit for many is exact to 1e-6
SHIFTS = 3  # of a cycle-spun wavelet, in pixels along each axis


def blind(denoise: Callable[[Image], Image]) -> Method:
    """Return a function of an image alone as a method, which ignores the counts.

    Examples
    --------
    >>> blind(np.sqrt)(np.array([[0.25]]), 100.0)
    array([[0.5]])
    """
    return lambda noisy, _: denoise(noisy)


def unfiltered(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Return the image as it is."""
    return noisy


def gaussian(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Blur by OpenCV's fixed 3 x 3 kernel, [1 2 1] / 4 along each axis.

    The sigma of 0 of the paper's script asks for one that fits the size, 0.8 pixels, which
    is not a Gaussian but this table.
    """
    return cv2.GaussianBlur(_float32(noisy), (3, 3), 0)


def bilateral(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Filter over a disk of 49 pixels with both scales 75.

    On [0, 1] a radiometric scale of 75, which is made for 8-bit images, weights all pixels
    alike, and the spatial one does nearly so within 4 pixels: this is the mean of the disk.
    """
    return cv2.bilateralFilter(_float32(noisy), 9, 75, 75)


def median(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Take the median of 3 x 3 pixels."""
    return cv2.medianBlur(_float32(noisy), 3)


def wiener_3(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Filter as SciPy does by default: 3 x 3 windows, noise from their mean variance.

    The formula is that of 2018. Beyond the edge, SciPy sees zeros: windows there have a
    high variance, and little noise is taken off.
    """
    return _wiener(noisy, None)


def wavelet(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Shrink Haar wavelets by BayesShrink, the noise estimated from the finest of them.

    Until 0.16, scikit-image clipped the result to [0, 1], and so did the paper's scores of
    this method alone; today's result may leave that range. The `rescale_sigma` of 0.16
    changes nothing in images of floats.
    """
    return denoise_wavelet(_float32(noisy))


def chambolle_tv(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Minimise total variation by Chambolle's algorithm, with a weight of 0.1.

    As in 2018, when the number of iterations was called `n_iter_max`.
    """
    return denoise_tv_chambolle(_float32(noisy), weight=0.1, eps=2e-4, max_num_iter=200)


def bregman_tv(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Minimise anisotropic total variation by split Bregman, with a weight of 0.1.

    Here, a smaller weight smooths more, since it is that of fidelity, so that hardly
    anything is left of an image. In 2018 that was so too; the weight had no default, and
    today's is 5. New are single precision for single-precision images, where all was
    double, and that the lowest row and the last column are repeated beyond the edge, where
    they were mirrored.
    """
    return denoise_tv_bregman(
        _float32(noisy), weight=0.1, max_num_iter=200, eps=2e-4, isotropic=False
    )


def nl_means(noisy: Image, counts: float) -> Image:  # noqa: ARG001
    """Average patches that are alike: 7 x 7, within 11 pixels, h = 0.1.

    In 2018, each pixel counted twice in its own mean; today it counts once, which smooths
    more: with this h, errors are 4 to 5 % larger. Both sum squared differences over 6 x 6
    pixels, but divide them by 7 x 7.
    """
    return denoise_nl_means(_float32(noisy))


BASELINES: dict[str, Method] = {
    "unfiltered": unfiltered,
    "Gaussian": gaussian,
    "bilateral": bilateral,
    "median": median,
    "Wiener": wiener_3,
    "wavelet": wavelet,
    "Chambolle TV": chambolle_tv,
    "Bregman TV": bregman_tv,
    "NL means": nl_means,
}
"""The paper's methods by the names in its Table 1, with its parameters."""


def mean_noise(noisy: Image, counts: float) -> float:
    """Return the root of the mean variance of shot noise, in units of the image.

    Examples
    --------
    >>> mean_noise(np.full((8, 8), 0.25), counts=100.0)
    0.05
    """
    return float(np.sqrt(noisy.mean(dtype=np.float64) / counts))


def anscombe(counts: Image) -> Image:
    """Make the noise of Poisson counts have a deviation of about 1 in all pixels.

    Parameters
    ----------
    counts : (H, W) array
        Counts, at least 0.

    References
    ----------
    F. J. Anscombe, "The transformation of Poisson, binomial and negative-binomial data",
    Biometrika 35 (1948), 246-254.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(50.0, size=(256, 256))
    >>> print(f"{anscombe(counts).std():.2f}")
    1.00
    """
    return 2 * np.sqrt(counts + 0.375)


def inverse_anscombe(values: Image) -> Image:
    """Return the counts whose Anscombe transform has these values as its mean.

    The plain inverse would be biased, by a quarter of a count and more, because the mean of
    a root is not the root of the mean.

    Parameters
    ----------
    values : (H, W) array
        Denoised values; below the smallest mean, that of no counts, they become 0.

    References
    ----------
    M. Makitalo and A. Foi, "Optimal inversion of the Anscombe transformation in low-count
    Poisson image denoising", IEEE Transactions on Image Processing 20 (2011), 99-109.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(2.0, size=(512, 512))
    >>> mean = anscombe(counts).mean()
    >>> print(f"{inverse_anscombe(mean):.2f}, plain {mean**2 / 4 - 0.375:.2f}")
    2.00, plain 1.77
    """
    rates, means = _expected_anscombe()
    values = np.maximum(values, means[0])
    many = values**2 / 4 - 0.125
    return np.where(values < means[-1], np.interp(values, means, rates), many)


def stabilised(denoise: Callable[[Image], Image]) -> Method:
    """Return a method that works on an image whose noise has a deviation of 1 everywhere.

    Parameters
    ----------
    denoise : callable
        Takes and returns an (H, W) array of Anscombe-transformed counts.
    """

    def method(noisy: Image, counts: float) -> Image:
        values = anscombe(np.maximum(noisy, 0) * np.float64(counts))
        return inverse_anscombe(denoise(values)) / counts

    return method


def told_gaussian(noisy: Image, counts: float, *, strength: float) -> Image:
    """Blur with a deviation, in pixels, of `strength` times the root of the noise."""
    sigma = strength * np.sqrt(mean_noise(noisy, counts))
    return cv2.GaussianBlur(_float32(noisy), (0, 0), sigma)


def told_bilateral(noisy: Image, counts: float, *, strength: float) -> Image:
    """Filter with a radiometric scale of `strength` times the noise."""
    radiometric = strength * mean_noise(noisy, counts)
    return cv2.bilateralFilter(_float32(noisy), 9, radiometric, 2)


def told_median(noisy: Image, counts: float, *, strength: float) -> Image:  # noqa: ARG001
    """Take the median of so many pixels squared, 3 or 5."""
    return cv2.medianBlur(_float32(noisy), int(strength))


def told_wiener(noisy: Image, counts: float, *, strength: float) -> Image:
    """Filter with a noise power of `strength` times the shot noise's."""
    return _wiener(noisy, strength * mean_noise(noisy, counts) ** 2)


def told_wavelet(noisy: Image, counts: float, *, strength: float) -> Image:
    """Shrink wavelets for a deviation of `strength` times the noise."""
    sigma = strength * mean_noise(noisy, counts)
    return denoise_wavelet(_float32(noisy), sigma=sigma, rescale_sigma=False)


def told_chambolle_tv(noisy: Image, counts: float, *, strength: float) -> Image:
    """Minimise total variation with a weight of `strength` times the noise."""
    return denoise_tv_chambolle(
        _float32(noisy), weight=strength * mean_noise(noisy, counts)
    )


def told_bregman_tv(noisy: Image, counts: float, *, strength: float) -> Image:
    """Minimise total variation with a weight of `strength` over the noise."""
    return denoise_tv_bregman(
        _float32(noisy), weight=strength / mean_noise(noisy, counts), isotropic=True
    )


def told_nl_means(noisy: Image, counts: float, *, strength: float) -> Image:
    """Average patches by distances from which the noise is taken off."""
    sigma = mean_noise(noisy, counts)
    return denoise_nl_means(_float32(noisy), patch_size=5, h=strength * sigma, sigma=sigma)


def cycle_spun_wavelet(values: Image, *, strength: float) -> Image:
    """Average wavelet shrinkage over shifts of the image, for noise of deviation 1."""
    shrink = partial(denoise_wavelet, sigma=strength, wavelet="db2", rescale_sigma=False)
    return cycle_spin(values, shrink, max_shifts=SHIFTS, workers=1)


def stabilised_tv(values: Image, *, strength: float) -> Image:
    """Minimise total variation by Chambolle's algorithm, for noise of deviation 1."""
    return denoise_tv_chambolle(values, weight=strength)


def stabilised_nl_means(values: Image, *, strength: float) -> Image:
    """Average patches that are alike, for noise of deviation 1."""
    return denoise_nl_means(values, patch_size=5, h=strength, sigma=1.0)


TOLD: dict[str, Callable[..., Image]] = {
    "Gaussian, told": told_gaussian,
    "bilateral, told": told_bilateral,
    "median, told": told_median,
    "Wiener, told": told_wiener,
    "wavelet, told": told_wavelet,
    "Chambolle TV, told": told_chambolle_tv,
    "Bregman TV, told": told_bregman_tv,
    "NL means, told": told_nl_means,
}
"""The same filters, one parameter in proportion to the noise; each needs a strength."""

STABILISED: dict[str, Callable[..., Image]] = {
    "Chambolle TV, stabilised": stabilised_tv,
    "NL means, stabilised": stabilised_nl_means,
    "wavelet, stabilised": cycle_spun_wavelet,
}
"""Filters of Anscombe-transformed counts; each needs a strength."""


STRENGTHS: dict[PaperDose, dict[str, float]] = {
    "low": {
        "Gaussian, told": 3.5,
        "bilateral, told": 2.5,
        "median, told": 3,
        "Wiener, told": 3,
        "wavelet, told": 1,
        "Chambolle TV, told": 0.8,
        "Bregman TV, told": 0.8,
        "NL means, told": 0.6,
        "Chambolle TV, stabilised": 0.8,
        "NL means, stabilised": 0.6,
        "wavelet, stabilised": 1,
    },
    "ordinary": {
        "Gaussian, told": 3.5,
        "bilateral, told": 1.5,
        "median, told": 3,
        "Wiener, told": 1.4,
        "wavelet, told": 1,
        "Chambolle TV, told": 0.4,
        "Bregman TV, told": 1.7,
        "NL means, told": 0.8,
        "Chambolle TV, stabilised": 0.4,
        "NL means, stabilised": 0.8,
        "wavelet, stabilised": 1.1,
    },
}
"""Strengths by dose range, from ``benchmarks/tune_baselines.py``."""


def tuned_methods(strengths: Mapping[str, float]) -> dict[str, Method]:
    """Return the methods of `TOLD` and `STABILISED` with their strengths, by name.

    Parameters
    ----------
    strengths : mapping of str to float
        For each name in the two, for example from `STRENGTHS`.
    """
    told = {name: partial(TOLD[name], strength=strengths[name]) for name in TOLD}
    spun = {
        name: stabilised(partial(STABILISED[name], strength=strengths[name]))
        for name in STABILISED
    }
    return {**told, **spun}


def _wiener(noisy: Image, noise: float | None) -> Image:
    """Filter by SciPy; where a window has no variance, SciPy divides by zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        filtered = wiener(noisy.astype(np.float64), noise=noise)
    return np.where(np.isfinite(filtered), filtered, noisy)


def _float32(image: Image) -> NDArray[np.float32]:
    return np.ascontiguousarray(image, np.float32)


@cache
def _expected_anscombe() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rates, and the mean Anscombe transform of Poisson counts of each."""
    rates = np.concatenate([[0.0], np.geomspace(1e-4, LARGEST_TABULATED, 2000)])
    k = np.arange(400)
    means = [np.sum(anscombe(k) * poisson.pmf(k, rate)) for rate in rates]
    return rates, np.array(means)
