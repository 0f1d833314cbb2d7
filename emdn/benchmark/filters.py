"""Denoising without learning: what a network has to beat (section 4.1).

A method takes a noisy image in [0, 1] and the counts that its 1 stands for, and returns the
denoised image. `BASELINES` are the paper's, with its parameters: blind, they ignore the
counts. `TOLD` are the same filters with one parameter fitted to the noise, and `STABILISED`
work where shot noise is the same in all pixels, after the Anscombe transform; both are
stronger rivals, and tuned on validation micrographs.

The paper's parameters are those of its scripts, in which "default" means the defaults of
2018. Where the libraries of today compute something else than those of that year
(scikit-image 0.14, SciPy 1.1), the methods say so; ``studies/paper/slips.py`` measures
what it does to the scores.
"""

from collections.abc import Callable, Mapping
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import wiener
from skimage.restoration import (
    cycle_spin,
    denoise_nl_means,
    denoise_tv_bregman,
    denoise_tv_chambolle,
    denoise_wavelet,
)

from emdn.anscombe import anscombe, inverse_anscombe
from emdn.benchmark.method import Image, Method, PaperDose

SHIFTS = 3  # of a cycle-spun wavelet, in pixels along each axis


def unfiltered(noisy: Image, gain: float) -> Image:  # noqa: ARG001
    """Return the image as it is."""
    return noisy


def gaussian(noisy: Image, gain: float) -> Image:  # noqa: ARG001
    """Blur by OpenCV's fixed 3 x 3 kernel, [1 2 1] / 4 along each axis.

    The sigma of 0 of the paper's script asks for one that fits the size, 0.8 pixels, which
    is not a Gaussian but this table.
    """
    return cv2.GaussianBlur(_float32(noisy), (3, 3), 0)


def bilateral(noisy: Image, gain: float) -> Image:  # noqa: ARG001
    """Filter over a disk of 49 pixels with both scales 75.

    On [0, 1] a radiometric scale of 75, which is made for 8-bit images, weights all pixels
    alike, and the spatial one does nearly so within 4 pixels: this is the mean of the disk.
    """
    return cv2.bilateralFilter(_float32(noisy), 9, 75, 75)


def median(noisy: Image, gain: float) -> Image:  # noqa: ARG001
    """Take the median of 3 x 3 pixels."""
    return cv2.medianBlur(_float32(noisy), 3)


def wiener_3(noisy: Image, gain: float) -> Image:  # noqa: ARG001
    """Filter as SciPy does by default: 3 x 3 windows, noise from their mean variance.

    The formula is that of 2018. Beyond the edge, SciPy sees zeros: windows there have a
    high variance, and little noise is taken off.
    """
    return _wiener(noisy, None)


def wavelet(noisy: Image, gain: float) -> Image:  # noqa: ARG001
    """Shrink Haar wavelets by BayesShrink, the noise estimated from the finest of them.

    Until 0.16, scikit-image clipped the result to [0, 1], and so did the paper's scores of
    this method alone; today's result may leave that range. The `rescale_sigma` of 0.16
    changes nothing in images of floats.
    """
    return denoise_wavelet(_float32(noisy))


def chambolle_tv(noisy: Image, gain: float) -> Image:  # noqa: ARG001
    """Minimise total variation by Chambolle's algorithm, with a weight of 0.1.

    As in 2018, when the number of iterations was called `n_iter_max`.
    """
    return denoise_tv_chambolle(_float32(noisy), weight=0.1, eps=2e-4, max_num_iter=200)


def bregman_tv(noisy: Image, gain: float) -> Image:  # noqa: ARG001
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


def nl_means(noisy: Image, gain: float) -> Image:  # noqa: ARG001
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


def mean_noise(noisy: Image, gain: float) -> float:
    """Return the root of the mean variance of shot noise, in units of the image.

    Examples
    --------
    >>> mean_noise(np.full((8, 8), 0.25), gain=0.01)
    0.05
    """
    return float(np.sqrt(noisy.mean(dtype=np.float64) * gain))


def stabilised(denoise: Callable[[Image], Image]) -> Method:
    """Return a method that works on an image whose noise has a deviation of 1 everywhere.

    Parameters
    ----------
    denoise : callable
        Takes and returns an (H, W) array of Anscombe-transformed counts.
    """

    def method(noisy: Image, gain: float) -> Image:
        values = anscombe(np.maximum(noisy, 0) / np.float64(gain))
        return inverse_anscombe(denoise(values)) * gain

    return method


def told_gaussian(noisy: Image, gain: float, *, strength: float) -> Image:
    """Blur with a deviation, in pixels, of `strength` times the root of the noise."""
    sigma = strength * np.sqrt(mean_noise(noisy, gain))
    return cv2.GaussianBlur(_float32(noisy), (0, 0), sigma)


def told_bilateral(noisy: Image, gain: float, *, strength: float) -> Image:
    """Filter with a radiometric scale of `strength` times the noise."""
    radiometric = strength * mean_noise(noisy, gain)
    return cv2.bilateralFilter(_float32(noisy), 9, radiometric, 2)


def told_median(noisy: Image, gain: float, *, strength: float) -> Image:  # noqa: ARG001
    """Take the median of so many pixels squared, 3 or 5."""
    return cv2.medianBlur(_float32(noisy), int(strength))


def told_wiener(noisy: Image, gain: float, *, strength: float) -> Image:
    """Filter with a noise power of `strength` times the shot noise's."""
    return _wiener(noisy, strength * mean_noise(noisy, gain) ** 2)


def told_wavelet(noisy: Image, gain: float, *, strength: float) -> Image:
    """Shrink wavelets for a deviation of `strength` times the noise."""
    sigma = strength * mean_noise(noisy, gain)
    return denoise_wavelet(_float32(noisy), sigma=sigma, rescale_sigma=False)


def told_chambolle_tv(noisy: Image, gain: float, *, strength: float) -> Image:
    """Minimise total variation with a weight of `strength` times the noise."""
    return denoise_tv_chambolle(_float32(noisy), weight=strength * mean_noise(noisy, gain))


def told_bregman_tv(noisy: Image, gain: float, *, strength: float) -> Image:
    """Minimise total variation with a weight of `strength` over the noise."""
    return denoise_tv_bregman(
        _float32(noisy), weight=strength / mean_noise(noisy, gain), isotropic=True
    )


def told_nl_means(noisy: Image, gain: float, *, strength: float) -> Image:
    """Average patches by distances from which the noise is taken off."""
    sigma = mean_noise(noisy, gain)
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
"""Strengths by dose range, from ``studies/paper/tune_filters.py``."""


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
