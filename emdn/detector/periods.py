"""Patches without the lattices and weaves in them, which repeat.

A lattice of a few pixels is as fine as noise and fills whole images, so that no choice of
blocks avoids it. What repeats has sharp peaks in the Fourier transform. Noise has none, be
it correlated or not: its power varies from one frequency to the next like an exponential
distribution around a smooth mean. So a peak that stands out of its neighbourhood is cut
down to the level there.
"""

import numpy as np
from numpy.fft import fft, fftfreq, irfft2, rfft, rfft2, rfftfreq
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CELL = 16  # frequencies at a side of the neighbourhood of a peak
SLOWEST = 0.06  # cycles a pixel, from where on peaks are looked for
PEAK = 20.0  # medians of its neighbourhood; noise alone is higher once in a million
PERIODIC = 0.2  # share of the faster power in peaks, from where on they are cut down


def without_periods(patches: Floats, sound: NDArray[np.bool_]) -> Floats:
    """Return patches in which peaks of the Fourier transform are cut down.

    Parameters
    ----------
    patches : (P, H, W) array
        Parts of an image.
    sound : (P, H, W) array of bool
        False where a pixel is no image. It has no share in what is found.

    Returns
    -------
    (P, H, W) array
        Patches in which peaks are weak, or that have fewer than 32 pixels at a side, are
        as they were.
    """
    height, width = patches.shape[1:]
    if min(height, width) < 2 * CELL:
        return patches
    pixels = sound.sum((1, 2), keepdims=True)
    mean = np.where(sound, patches, 0.0).sum((1, 2), keepdims=True) / np.maximum(pixels, 1)
    image = np.where(sound, patches - mean, 0.0)
    transform = rfft2(image) - _of_borders(image)
    power = np.abs(transform) ** 2
    ordinary = _ordinary(power)
    frequency = np.maximum(np.abs(fftfreq(height))[:, np.newaxis], rfftfreq(width))
    fast = np.where(frequency > SLOWEST, power, 0.0)
    peaks = fast > PEAK * ordinary
    share = np.where(peaks, fast, 0.0).sum((1, 2)) / np.maximum(fast.sum((1, 2)), 1e-300)
    periodic = share > PERIODIC
    if not periodic.any():
        return patches
    transform[peaks] *= np.sqrt(ordinary[peaks] / power[peaks])
    cut = irfft2(transform, (height, width))
    return np.where(periodic[:, np.newaxis, np.newaxis], cut, patches)


def _ordinary(power: Floats) -> Floats:
    """Return the median power in the neighbourhood of each frequency."""
    number, height, width = power.shape
    whole = np.pad(power, ((0, 0), (0, -height % CELL), (0, 0)), mode="wrap")
    # Beyond the highest frequency along the rows come those of negative waves.
    whole = np.pad(whole, ((0, 0), (0, 0), (0, -width % CELL)), mode="reflect")
    cells = whole.reshape(number, whole.shape[1] // CELL, CELL, -1, CELL)
    medians = np.median(cells, axis=(2, 4))
    return medians.repeat(CELL, axis=1).repeat(CELL, axis=2)[:, :height, :width]


def _of_borders(image: Floats) -> NDArray[np.complex128]:
    """Return the transform of what opposite borders have not in common.

    A transform takes images for periodic, and the jump from one border to the other would
    hide the peaks. L. Moisan, "Periodic plus smooth image decomposition", Journal of
    Mathematical Imaging and Vision 39 (2011), equations 10 to 12.
    """
    y, x = fftfreq(image.shape[1])[:, np.newaxis], rfftfreq(image.shape[2])
    below, beside = image[:, -1] - image[:, 0], image[:, :, -1] - image[:, :, 0]
    # A jump stands in the first row, and its negative in the last; columns likewise.
    jumps = (1 - np.exp(2j * np.pi * y)) * rfft(below)[:, np.newaxis]
    jumps += fft(beside)[..., np.newaxis] * (1 - np.exp(2j * np.pi * x))
    laplacian = 2 * np.cos(2 * np.pi * y) + 2 * np.cos(2 * np.pi * x) - 4
    laplacian[0, 0] = 1.0  # where the jumps, whose sum is 0, have no power
    return jumps / laplacian
