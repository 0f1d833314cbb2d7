"""Random fields: filtered noise of mean 0 and deviation 1."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Field = NDArray[np.floating]  # any quantity that has a value in each pixel


def filtered_noise(
    shape: tuple[int, int], rng: np.random.Generator, transfer: Callable[[Field], Field]
) -> Field:
    """Filter white noise by a function of frequency (cycles per pixel); deviation 1."""
    height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    gain = transfer(frequency.astype(np.float32))
    gain[0, 0] = 0  # no mean
    field = np.fft.irfft2(spectrum * gain, s=shape)
    return field / (field.std() or 1)


def smooth(shape: tuple[int, int], rng: np.random.Generator, size: float) -> Field:
    """Draw a smooth field of mean 0 and deviation 1, with blobs of about `size` pixels."""
    return filtered_noise(shape, rng, lambda f: np.exp(-1.2 * (size * f) ** 2))


def to_unit(image: Field) -> Image:
    """Stretch an image to [0, 1]; a constant one becomes 0."""
    image = (image - image.min()).astype(np.float32)
    return image / (image.max() or np.float32(1))


def power_law(shape: tuple[int, int], rng: np.random.Generator, exponent: float) -> Image:
    """Filter white noise by a power of frequency; mean 0, deviation 1."""
    floor = 1 / max(shape)
    return filtered_noise(shape, rng, lambda f: np.maximum(f, floor) ** -exponent)


def band(shape: tuple[int, int], rng: np.random.Generator, size: float) -> Image:
    """Filter white noise by a band of frequencies around 1 / (2 size)."""
    width = rng.uniform(0.15, 0.8)
    return filtered_noise(
        shape, rng, lambda f: np.exp(-((np.log(2 * size * f + 1e-6) / width) ** 2))
    )
