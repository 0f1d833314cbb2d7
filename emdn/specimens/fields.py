"""Random fields: white noise, filtered to a mean of 0 and a deviation of 1."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]  # (H, W) in [0, 1]
Field = NDArray[np.floating]  # any quantity that has a value in each pixel


def filtered_noise(
    shape: tuple[int, int], rng: np.random.Generator, transfer: Callable[[Field], Field]
) -> Field:
    """Filter white noise by a function of frequency.

    The field repeats itself beyond its borders, as the Fourier transform has it.

    Parameters
    ----------
    shape, rng
        Shape (H, W) and source of randomness.
    transfer : callable
        Takes frequencies in cycles per pixel, (H, W // 2 + 1), and returns the factor of
        the amplitude at each. The amplitude at frequency 0 becomes 0.

    Returns
    -------
    (H, W) array
        Field of mean 0 and deviation 1; 0 in all pixels where the filter leaves nothing.
    """
    height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    factor = transfer(frequency.astype(np.float32))
    factor[0, 0] = 0
    field = np.fft.irfft2(spectrum * factor, s=shape)
    return field / (field.std() or 1)


def smooth(shape: tuple[int, int], rng: np.random.Generator, size: float) -> Field:
    """Draw a smooth field whose blobs are about `size` pixels wide.

    The noise is blurred by a Gaussian with a deviation of a quarter of the size.
    """
    return filtered_noise(shape, rng, lambda f: np.exp(-1.2 * (size * f) ** 2))


def power_law(shape: tuple[int, int], rng: np.random.Generator, exponent: float) -> Field:
    """Draw a field whose amplitude falls with the frequency to the power of `exponent`.

    Natural images have an exponent of about 1, white noise has 0.
    """
    lowest = 1 / max(shape)
    return filtered_noise(shape, rng, lambda f: np.maximum(f, lowest) ** -exponent)


def band(shape: tuple[int, int], rng: np.random.Generator, size: float) -> Field:
    """Draw a field whose ups and downs are about `size` pixels wide, more or less evenly.

    The transfer is a log-normal peak at the frequency 1 / (2 size).
    """
    width = rng.uniform(0.15, 0.8)  # of the peak, in natural logarithms of frequency
    tiny = 1e-6  # keeps the logarithm finite at frequency 0
    return filtered_noise(
        shape, rng, lambda f: np.exp(-((np.log(2 * size * f + tiny) / width) ** 2))
    )
