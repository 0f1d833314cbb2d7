"""Power spectra: what frequencies an image holds."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def radial_spectrum(
    image: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average an image's power over rings of equal frequency.

    The power is that of `windowed_power`: white noise has a power of its own variance.

    Parameters
    ----------
    image : (H, W) array
        At least 8 pixels high and wide.

    Returns
    -------
    frequency, power : (min(H, W) // 2,) array
        Middles of the rings, in cycles per pixel, and the mean power in each.

    Examples
    --------
    >>> frequency, power = radial_spectrum(np.random.default_rng(0).normal(size=(256, 256)))
    >>> print(f"{frequency.min():.4f} {frequency.max():.4f} {power.mean():.1f}")
    0.0039 0.5000 1.0
    """
    array = as_image("image", image)
    rings = min(array.shape) // 2
    if rings < 4:
        raise ValueError(f"image must be at least 8 x 8 pixels, got shape {array.shape}")
    power = windowed_power(array)
    y, x = (np.fft.fftfreq(side) for side in array.shape)
    ring = np.rint(np.hypot(y[:, np.newaxis], x) * 2 * rings).astype(int).ravel()
    total = np.bincount(ring, power.ravel())[1 : rings + 1]
    return np.arange(1, rings + 1) / (2 * rings), total / np.bincount(ring)[1 : rings + 1]


def windowed_power(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power of an image at the frequencies of its Fourier transform.

    The mean is taken off, and a Hann window keeps opposite edges, which do not match, from
    spreading power over all frequencies. White noise has a power of its own variance.

    Parameters
    ----------
    array : (H, W) array
        Image of at least 2 x 2 pixels.
    """
    rows, columns = (np.hanning(side + 1)[:-1] for side in array.shape)  # periodic
    window = np.outer(rows, columns)
    return np.abs(np.fft.fft2((array - array.mean()) * window)) ** 2 / np.sum(window**2)


def as_image(name: str, image: ArrayLike) -> NDArray[np.float64]:
    """Return an image to draw, or say by its name why it is none."""
    array = np.asarray(image, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must be an image of shape (H, W), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got pixels that are NaN or infinite")
    return array
