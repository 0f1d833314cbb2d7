"""Noise that neighbours share: made white for a network, and coloured again.

A scintillator spreads the signal of an electron over its neighbours, and a slow amplifier
passes a part of it on to the next pixel. A network that knows independent noise takes such
noise for structure. Since the detector says how the signal was spread, it can be gathered
again: the network then sees the shot noise of single electrons, and its result is spread as
the detector spreads.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

from emdn.detector import Detector

MARGIN = 32  # pixels of the image, mirrored, that border on the far side's
# Least power of the noise relative to that of slow waves. Noise of less is not raised to
# white, since rounding and readout would be raised with it.
LEAST_POWER = 0.01


@dataclass(frozen=True)
class Whitening:
    """A filter that makes noise white, and its inverse.

    Parameters
    ----------
    filter : (H + 64, W // 2 + 33) complex array
        By what the Fourier transform of a mirrored image of (H, W) pixels is multiplied.
        It is 1 for the mean, which stays.

    Examples
    --------
    >>> camera = Detector(7.0, offset=100.0, correlation=(0.44, 0.44))
    >>> image = camera.apply(np.full((256, 256), 50.0), np.random.default_rng(0))
    >>> white = Whitening.of(image, camera).apply(image)
    >>> for noise in (image, white):
    ...     shared = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    ...     print(f"{abs(shared):.2f}")
    0.44
    0.00
    """

    filter: NDArray[np.complexfloating]

    @classmethod
    def of(cls, image: NDArray[np.floating], detector: Detector) -> Self:
        """Return the filter for an (H, W) image and the detector that recorded it.

        Shot noise is spread and readout noise is white, so the mean dose of the image
        decides how much of the noise is correlated.
        """
        height, width = (length + 2 * MARGIN for length in image.shape)
        spread = detector.transfer((height, width))
        dose, readout = max(detector.dose(image), 1e-6), detector.readout**2
        magnitude = np.abs(spread)
        power = (dose * magnitude**2 + readout) / (dose + readout)
        phase = spread / np.maximum(magnitude, 1e-12)
        return cls(phase.conj() / np.sqrt(np.maximum(power, LEAST_POWER)))

    def apply(self, image: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return an (H, W) image with white noise."""
        return _filtered(image, self.filter)

    def invert(self, image: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return a white (H, W) image as the detector would have recorded it."""
        return _filtered(image, 1 / self.filter)


def _filtered(
    image: NDArray[np.floating], by: NDArray[np.complexfloating]
) -> NDArray[np.floating]:
    """Return an image after a filter that keeps its mean; borders are mirrored."""
    mean = image.mean(dtype=np.float64)  # of a pedestal, single precision has little left
    mirrored = np.pad(image - mean.astype(image.dtype), MARGIN, mode="symmetric")
    waves: Any = rfft2(mirrored)
    filtered: Any = irfft2(waves * by.astype(waves.dtype), s=mirrored.shape)
    return filtered[MARGIN:-MARGIN, MARGIN:-MARGIN] + mean.astype(image.dtype)
