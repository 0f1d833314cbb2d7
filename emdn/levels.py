"""The grey levels that decide how an image is shown to a network, and back.

They are gathered over the rows of an image, a few in memory at a time, so that an array
and a file larger than memory are shown alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from emdn.detector import SIDE, Detector
from emdn.scaling import Scaling
from emdn.tiling import bands_of

# What the network may see, in units of the image's span. A pixel further out is a defect of
# the detector, and would burn a hole into its surroundings.
DARKEST, BRIGHTEST = -1.0, 2.0

# Expected counts at the brightest level, beyond which no network was trained by far.
FEWEST_COUNTS, MOST_COUNTS = 1.0, 1e5

# Spans of the image. Shot noise on a pedestal hardly depends on brightness, and a network
# has seen no image whose black is farther away from its grey levels.
FARTHEST_BLACK = 4.0


@dataclass(frozen=True)
class Levels:
    """Grey levels of one sound image.

    Parameters
    ----------
    least, largest, mean : float
        Of all pixels.
    offset, span : float
        Darkest level that two neighbours in a row share, and the range from there to the
        brightest one, as `emdn.scaling.Scaling.fit` finds them.
    """

    least: float
    largest: float
    mean: float
    offset: float
    span: float

    @classmethod
    def of(cls, bands: Iterable[NDArray[np.floating]]) -> Self:
        """Gather the levels of an image that comes in bands of whole rows, in order."""
        least, largest, total, pixels = np.inf, -np.inf, 0.0, 0
        low, high, last = np.inf, -np.inf, None
        for band in bands:
            values = band.ravel()
            least, largest = min(least, float(band.min())), max(largest, float(band.max()))
            total += float(band.sum(dtype=np.float64))
            pixels += values.size
            if last is not None:  # the pixel before, in the row above
                low, high = min(low, max(last, values[0])), max(high, min(last, values[0]))
            if values.size > 1:
                low = min(low, np.maximum(values[:-1], values[1:]).min())
                high = max(high, np.minimum(values[:-1], values[1:]).max())
            last = values[-1]
        if not high > low:
            low, high = least, largest
        return cls(least, largest, total / pixels, float(low), float(high) - float(low))

    @classmethod
    def of_image(cls, image: NDArray[np.floating]) -> Self:
        """Gather the levels of an (H, W) array."""
        return cls.of(image[rows] for rows in bands_of(image.shape))

    def blank(self, detector: Detector | None) -> tuple[float, float]:
        """Return the grey level of no electrons, and what one adds; 0 if it is unknown."""
        if detector is None:
            return self.least, 0.0
        return detector.offset, detector.gain

    @property
    def constant(self) -> bool:
        """Whether all pixels are alike."""
        return self.least == self.largest


def not_in_bars(
    image: NDArray[np.floating], empty: float, electron: float
) -> NDArray[np.bool_]:
    """Say which pixels of whole rows are image, by which a result's mean is matched.

    Information bars, borders and what lies outside of an aperture have eight or more equal
    pixels in a row. Noise hardly ever has, except where there are no electrons.

    Parameters
    ----------
    image : (H, W) array
        Rows of a sound image.
    empty : float
        Grey level of no electrons.
    electron : float
        What one electron adds.

    Returns
    -------
    (H, W) array of bool
    """
    sound = np.ones(image.shape, bool)
    runs = max(image.shape[1] - SIDE + 1, 0)
    equal = image[:, 1:] == image[:, :-1]
    starts = np.ones((image.shape[0], runs), bool)
    for shift in range(SIDE - 1):
        starts &= equal[:, shift : shift + runs]
    starts &= np.abs(image[:, :runs] - empty) > abs(electron) / 2
    for shift in range(SIDE):
        sound[:, shift : shift + runs] &= ~starts
    return sound


@dataclass(frozen=True)
class View:
    """How an image is shown to a network: scaled, and with the gain that it then has.

    Parameters
    ----------
    scaling : Scaling
        What takes the image's units to about [0, 1].
    gain : float
        What one electron adds to a pixel there; 1 where a network is blind.
    """

    scaling: Scaling
    gain: float = 1.0

    @classmethod
    def of(cls, levels: Levels, detector: Detector | None) -> Self:
        """Return how a gain-aware network sees an image; a blind one where none is known.

        A blind network sees the image's own range. A gain-aware network knows shot noise
        alone, whose variance is the gain times the distance from black. Readout noise moves
        that black: the variance is the same as of shot noise from
        ``offset - gain * readout**2`` on. A negative gain makes the darkest level the
        brightest one. The largest number of electrons becomes 1.
        """
        if detector is None:
            return cls(Scaling(levels.offset, levels.span))
        gain = detector.gain
        black = detector.offset - gain * detector.readout**2
        ends = levels.offset, levels.offset + levels.span
        dark, bright = ends if gain > 0 else ends[::-1]
        farthest = dark - FARTHEST_BLACK * (bright - dark)
        if (farthest - black) * np.sign(gain) > 0:  # a pedestal
            # which keeps the variance at the mean
            gain *= (levels.mean - black) / (levels.mean - farthest)
            black = farthest
        scaling = Scaling(black, bright - black)
        counts = scaling.span / gain
        return cls(scaling, 1 / float(np.clip(counts, FEWEST_COUNTS, MOST_COUNTS)))

    def apply(self, image: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return what the network sees of a part of the image."""
        offset, span = self.scaling.offset, self.scaling.span
        ends = sorted(offset + end * span for end in (DARKEST, BRIGHTEST))
        return self.scaling.apply(np.clip(image, np.float32(ends[0]), np.float32(ends[1])))


@dataclass(frozen=True)
class Return:
    """How what a network makes of an image returns to the image's units.

    The result is stretched from the darkest level, so that no counts are lost or won.

    Parameters
    ----------
    view : View
        How the image was shown.
    levels : Levels
        Of the image.
    seen : Levels
        Of what was shown of the image.
    clip : bool
        Whether the result is confined to the range of the image.
    """

    view: View
    levels: Levels
    seen: Levels
    clip: bool

    def confined(self, denoised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a part of the result within what was shown, if that is wanted."""
        if not self.clip:
            return denoised
        return np.clip(denoised, np.float32(self.seen.least), np.float32(self.seen.largest))

    def apply(self, confined: NDArray[np.float32], mean: float) -> NDArray[np.float32]:
        """Return a part of the result in the image's units, by the mean of all parts."""
        dark = np.float32(self.seen.least)
        counts, found = self.seen.mean - float(dark), mean - float(dark)
        if found <= 0:  # a few lone counts, all taken for noise
            matched = np.full_like(confined, float(dark) + counts)
        else:
            matched = dark + (confined - dark) * np.float32(counts / found)
        restored = self.view.scaling.invert(matched)
        if not self.clip:
            return restored
        ends = np.float32(self.levels.least), np.float32(self.levels.largest)
        return np.clip(restored, *ends)
