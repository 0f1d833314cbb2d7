"""How close a denoised image is to the clean one.

Images are scored as they are given: nothing is clipped, and no brightness or contrast is
fitted first. The paper clips the output of its network, and nothing else, to [0, 1] before
scoring; to compare with its figures, clip likewise. The caller always says the range of the
data, because PSNR and SSIM mean nothing without it.
"""

import math
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import structural_similarity

WINDOW = 7  # side of SSIM's window in pixels, the paper's


def mse(clean: ArrayLike, denoised: ArrayLike) -> float:
    """Return the mean squared error of two images of the same shape.

    Parameters
    ----------
    clean, denoised : (H, W) array
        Truth, and the image that is scored, of any numeric type.

    Returns
    -------
    float
        Error in squared units of the images; 0 if they are equal.

    Examples
    --------
    >>> mse([[0, 0], [0, 0]], [[0, 0], [0, 2]])
    1.0
    """
    truth, scored = _checked(clean, denoised)
    return float(np.mean(np.square(truth - scored)))


def psnr(clean: ArrayLike, denoised: ArrayLike, *, data_range: float) -> float:
    """Return the peak signal-to-noise ratio of two images of the same shape.

    Parameters
    ----------
    clean, denoised : (H, W) array
        Truth, and the image that is scored, of any numeric type.
    data_range : float
        Difference of the largest and the smallest possible value: 1 for images in [0, 1].

    Returns
    -------
    float
        Ratio in decibels (dB); infinite if the images are equal.

    Examples
    --------
    >>> print(f"{psnr([[0.0, 0.0]], [[0.1, 0.1]], data_range=1):.1f} dB")
    20.0 dB
    """
    return psnr_of_mse(mse(clean, denoised), data_range=data_range)


def psnr_of_mse(error: float, *, data_range: float) -> float:
    """Return the peak signal-to-noise ratio of a mean squared error.

    Parameters
    ----------
    error : float
        Mean squared error, as from `mse`.
    data_range : float
        Difference of the largest and the smallest possible value, as in `psnr`.

    Returns
    -------
    float
        Ratio in decibels (dB); infinite if the error is 0, NaN if it is NaN.

    Examples
    --------
    >>> psnr_of_mse(1e-3, data_range=1)
    30.0
    """
    _require_range(data_range)
    return 20 * math.log10(data_range) - 10 * math.log10(error) if error else math.inf


def ssim(clean: ArrayLike, denoised: ArrayLike, *, data_range: float) -> float:
    """Return the mean structural similarity index of two images of the same shape.

    As in the paper, means and sample covariances are taken over uniform windows of
    7 x 7 pixels, and the index is averaged where a window fits into the image.

    Parameters
    ----------
    clean, denoised : (H, W) array
        Truth, and the image that is scored, at least 7 pixels high and wide.
    data_range : float
        Difference of the largest and the smallest possible value: 1 for images in [0, 1].

    Returns
    -------
    float
        Index from -1 to 1; 1 if the images are equal.

    References
    ----------
    Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment:
    from error visibility to structural similarity", IEEE Transactions on Image
    Processing 13 (2004), 600-612.

    Examples
    --------
    >>> image = np.random.default_rng(0).uniform(size=(32, 32))
    >>> ssim(image, image, data_range=1)
    1.0
    >>> ssim(image, 1 - image, data_range=1) < 0
    True
    """
    _require_range(data_range)
    truth, scored = _checked(clean, denoised)
    if min(truth.shape) < WINDOW:
        raise ValueError(
            f"ssim needs images of at least {WINDOW} x {WINDOW} pixels, its window, "
            f"got shape {truth.shape}; use mse or psnr"
        )
    # The uniform window and the sample covariance are spelled out because the reference's
    # own code (and its imitators) use a Gaussian window instead, and score differently.
    similarity = structural_similarity(
        truth,
        scored,
        data_range=data_range,
        win_size=WINDOW,
        gaussian_weights=False,
        use_sample_covariance=True,
    )
    return float(cast("float", similarity))  # its hints allow a tuple too


def _checked(
    clean: ArrayLike, denoised: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both images as float64, in which integers do not overflow."""
    truth, scored = np.asarray(clean, np.float64), np.asarray(denoised, np.float64)
    if truth.shape != scored.shape:
        raise ValueError(
            "clean and denoised must have the same shape, "
            f"got {truth.shape} and {scored.shape}"
        )
    if truth.ndim != 2 or truth.size == 0:
        raise ValueError(
            f"clean and denoised must be images of shape (H, W), got {truth.shape}; "
            "score the images of a batch one by one"
        )
    for name, image in (("clean", truth), ("denoised", scored)):
        if bad := np.count_nonzero(~np.isfinite(image)):
            raise ValueError(
                f"{name} must be finite, got {bad} pixels that are NaN or infinite"
            )
    return truth, scored


def _require_range(data_range: float) -> None:
    if not 0 < data_range < math.inf:
        raise ValueError(
            f"data_range must be positive and finite, got {data_range}; "
            "it is 1 for images in [0, 1]"
        )
