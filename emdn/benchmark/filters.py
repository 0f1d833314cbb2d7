"""Denoising without learning: what a network has to beat (section 4.1).

The paper's filters are blind: functions of an image in [0, 1] alone, with the paper's
parameters. Gain-aware filters take the gain as well, what one electron adds to a pixel;
one of their parameters follows from the noise. Variance-stabilised filters are
gain-aware, too: they work on Anscombe-transformed counts, in which shot noise is the same
in all pixels. `emdn.benchmark.methods` names all of them, and their settings are in
``settings.json``, tuned on validation micrographs by ``studies/paper/tune_filters.py``.

The paper's parameters are those of its scripts, in which "default" means the defaults of
2018. Where the libraries of today compute something else than those of that year
(scikit-image 0.14, SciPy 1.1), the functions say so; ``studies/paper/slips.py`` measures
what it does to the scores.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

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
from emdn.benchmark.method import Image

SHIFTS = 3  # of a cycle-spun wavelet along each axis, in pixels: 16 shifts in all
BILATERAL_SIDE = 9  # diameter of the paper's bilateral filter, in pixels
BILATERAL_REACH = 2  # spatial deviation of the gain-aware one, in pixels


def unfiltered(noisy: Image) -> Image:
    """Return the image as it is."""
    return noisy


def gaussian(noisy: Image) -> Image:
    """Blur by OpenCV's fixed 3 x 3 kernel, [1 2 1] / 4 along each axis.

    The sigma of 0 of the paper's script asks for one that fits the size, 0.8 pixels, which
    is not a Gaussian but this table.
    """
    return _opencv().GaussianBlur(_float32(noisy), (3, 3), 0)


def bilateral(noisy: Image) -> Image:
    """Filter over a disk of 49 pixels with both scales 75.

    On [0, 1] a radiometric scale of 75, which is made for 8-bit images, weights all pixels
    alike, and the spatial one does nearly so within 4 pixels: this is the mean of the disk.
    """
    return _opencv().bilateralFilter(_float32(noisy), BILATERAL_SIDE, 75, 75)


def median(noisy: Image, *, side: int = 3) -> Image:
    """Take the median of so many pixels squared, 3 or 5."""
    return _opencv().medianBlur(_float32(noisy), side)


def wiener_3(noisy: Image) -> Image:
    """Filter as SciPy does by default: 3 x 3 windows, noise from their mean variance.

    The formula is that of 2018. Beyond the edge, SciPy sees zeros: windows there have a
    high variance, and little noise is taken off.
    """
    return _wiener(noisy, None)


def wavelet(noisy: Image) -> Image:
    """Shrink Haar wavelets by BayesShrink, the noise estimated from the finest of them.

    Until 0.16, scikit-image clipped the result to [0, 1], and so did the paper's scores of
    this method alone; today's result may leave that range. The `rescale_sigma` of 0.16
    changes nothing in images of floats.
    """
    return denoise_wavelet(_float32(noisy))


def chambolle_tv(noisy: Image) -> Image:
    """Minimise total variation by Chambolle's algorithm, with a weight of 0.1.

    As in 2018, when the number of iterations was called `n_iter_max`.
    """
    return denoise_tv_chambolle(_float32(noisy), weight=0.1, eps=2e-4, max_num_iter=200)


def bregman_tv(noisy: Image) -> Image:
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


def nl_means(noisy: Image) -> Image:
    """Average patches that are alike: 7 x 7, within 11 pixels, h = 0.1.

    In 2018, each pixel counted twice in its own mean; today it counts once, which smooths
    more: with this h, errors are 4 to 5 % larger. Both sum squared differences over 6 x 6
    pixels, but divide them by 7 x 7.
    """
    return denoise_nl_means(_float32(noisy))


def mean_noise(noisy: Image, gain: float) -> float:
    """Return the root of the mean variance of shot noise, in units of the image.

    Examples
    --------
    >>> mean_noise(np.full((8, 8), 0.25), gain=0.01)
    0.05
    """
    return float(np.sqrt(noisy.mean(dtype=np.float64) * gain))


def stabilised(denoise: Callable[[Image], Image], noisy: Image, gain: float) -> Image:
    """Denoise an image where its noise has a deviation of 1 in all pixels.

    Parameters
    ----------
    denoise : callable
        Takes and returns an (H, W) array of Anscombe-transformed counts.
    noisy : (H, W) array
        Image in [0, 1].
    gain : float
        What one electron adds to a pixel.
    """
    values = anscombe(np.maximum(noisy, 0) / np.float64(gain))
    return inverse_anscombe(denoise(values)) * gain


def aware_gaussian(noisy: Image, gain: float, *, strength: float) -> Image:
    """Blur with a deviation, in pixels, of `strength` times the root of the noise."""
    sigma = strength * np.sqrt(mean_noise(noisy, gain))
    return _opencv().GaussianBlur(_float32(noisy), (0, 0), sigma)


def aware_bilateral(noisy: Image, gain: float, *, strength: float) -> Image:
    """Filter with a radiometric scale of `strength` times the noise."""
    radiometric = strength * mean_noise(noisy, gain)
    return _opencv().bilateralFilter(
        _float32(noisy), BILATERAL_SIDE, radiometric, BILATERAL_REACH
    )


def aware_wiener(noisy: Image, gain: float, *, strength: float) -> Image:
    """Filter with a noise power of `strength` times the shot noise's."""
    return _wiener(noisy, strength * mean_noise(noisy, gain) ** 2)


def aware_wavelet(noisy: Image, gain: float, *, strength: float) -> Image:
    """Shrink wavelets for a deviation of `strength` times the noise."""
    sigma = strength * mean_noise(noisy, gain)
    return denoise_wavelet(_float32(noisy), sigma=sigma, rescale_sigma=False)


def aware_chambolle_tv(noisy: Image, gain: float, *, strength: float) -> Image:
    """Minimise total variation with a weight of `strength` times the noise."""
    return denoise_tv_chambolle(_float32(noisy), weight=strength * mean_noise(noisy, gain))


def aware_bregman_tv(noisy: Image, gain: float, *, strength: float) -> Image:
    """Minimise total variation with a weight of `strength` over the noise."""
    return denoise_tv_bregman(
        _float32(noisy), weight=strength / mean_noise(noisy, gain), isotropic=True
    )


def aware_nl_means(noisy: Image, gain: float, *, strength: float) -> Image:
    """Average patches by distances from which the noise is taken off."""
    sigma = mean_noise(noisy, gain)
    return denoise_nl_means(_float32(noisy), patch_size=5, h=strength * sigma, sigma=sigma)


def wavelet_vst(noisy: Image, gain: float, *, strength: float) -> Image:
    """Average wavelet shrinkage over shifts of the variance-stabilised image.

    `strength` is the deviation of the noise to take off, where the true one is 1.
    """
    shrink = partial(denoise_wavelet, sigma=strength, wavelet="db2", rescale_sigma=False)
    spin = partial(cycle_spin, func=shrink, max_shifts=SHIFTS, workers=1)
    return stabilised(spin, noisy, gain)


def chambolle_tv_vst(noisy: Image, gain: float, *, strength: float) -> Image:
    """Minimise total variation of the stabilised image, with `strength` as its weight."""
    return stabilised(partial(denoise_tv_chambolle, weight=strength), noisy, gain)


def nl_means_vst(noisy: Image, gain: float, *, strength: float) -> Image:
    """Average patches of the variance-stabilised image; `strength` scales distances."""
    average = partial(denoise_nl_means, patch_size=5, h=strength, sigma=1.0)
    return stabilised(average, noisy, gain)


def _wiener(noisy: Image, noise: float | None) -> Image:
    """Filter by SciPy; where a window has no variance, SciPy divides by zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        filtered = wiener(noisy.astype(np.float64), noise=noise)
    return np.where(np.isfinite(filtered), filtered, noisy)


def _float32(image: Image) -> NDArray[np.float32]:
    return np.ascontiguousarray(image, np.float32)


def _opencv() -> Any:
    """Return OpenCV, which names of methods and tables of scores do without."""
    return import_module("cv2")
