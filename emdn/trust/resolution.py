"""How fine the detail is that may be believed.

The *Fourier ring correlation* of two images says, frequency by frequency, what they have in
common: 1 where they are the same and 0 where each is noise of its own. Its square against
the truth is the share of the power that is right: at 1/2, the usual threshold, a quarter.
Without a truth one exposure is thinned into two halves, and both are denoised. Two curves
follow:

- that of the denoised *halves*. It is what the field reports. If the errors of the halves
  are independent, its root is the correlation of one half with the truth. It flatters: what
  the network adds on its own account it adds to both halves, and this correlates too;
- that of each denoised half with the *held out* one, as it was recorded. The noise of this
  is nothing that the network can know. Since its strength is known, the curve is the
  correlation of the denoised half with the truth.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emdn.trust.risk import HANN
from emdn.trust.sound import filled, parted, sound_window
from emdn.trust.thinning import Thinned

Floats = NDArray[np.float64]

# Thresholds of Rosenthal and Henderson: where halves correlate by 1/7, their sum correlates
# with the truth by 1/2, so a quarter of its power is right.
HALF_SETS = 1 / 7
WITH_TRUTH = 1 / 2
RINGS = 50  # at most, of 0.01 cycles per pixel
WIDTH = 4  # frequencies across a ring, at least, since a few are noise
SURE = 2.0  # standard errors, by which halves must have something in common


class Correlation(NamedTuple):
    """What two images have in common, frequency by frequency.

    Parameters
    ----------
    frequency : (R,) float64 array
        Middles of the rings, in cycles per pixel, up to 0.5.
    correlation : (R,) float64 array
        From -1 to 1; only noise takes it below 0.
    error : (R,) float64 array
        Standard error of a correlation of 0.
    threshold : float
        Correlation, from which on an image is believed.
    """

    frequency: Floats
    correlation: Floats
    error: Floats
    threshold: float

    def resolution(self, pixel_size: float = 1.0) -> float:
        """Return the finest detail that is believed, as a full period.

        It is where the curve falls through the threshold for the first time; infinite if
        it starts below, and 2 pixels, the finest there is, if it never falls so far.

        Parameters
        ----------
        pixel_size : float
            Side of a pixel in any unit, which is that of the result too.
        """
        return pixel_size / crossing if (crossing := self.crossing()) else np.inf

    def crossing(self) -> float:
        """Return the frequency, in cycles per pixel, up to which an image is believed."""
        below = np.flatnonzero(self.correlation < self.threshold)
        if len(below) == 0:
            return 0.5
        if below[0] == 0:
            return 0.0
        ends = slice(below[0] - 1, below[0] + 1)
        high, low = self.correlation[ends]
        first, second = self.frequency[ends]
        return float(first + (second - first) * (high - self.threshold) / (high - low))


class Resolution(NamedTuple):
    """What one exposure tells of the detail in its denoised image.

    Parameters
    ----------
    halves : Correlation
        Between its denoised halves, with the threshold of 1/7, which is one for the whole
        image; its root is what a half claims to have in common with the truth.
    held_out : Correlation
        Of the denoised halves with the truth, by way of the half that was held out; the
        threshold is 1/2. It is 0 where the recorded halves have too little in common.
    """

    halves: Correlation
    held_out: Correlation


def ring_correlation(
    first: ArrayLike, second: ArrayLike, threshold: float = HALF_SETS
) -> Correlation:
    """Correlate two images in rings of equal frequency.

    Parameters
    ----------
    first, second : (H, W) array
        At least 8 pixels high and wide. Their means and edges do not count. Of masked
        arrays, and where pixels are not finite, the largest rectangle without such areas
        is looked at.
    threshold : float
        1/7 between halves, 1/2 between an image and its truth, after Rosenthal and
        Henderson. Van Heel and Schatz hold that no fixed threshold is right.

    References
    ----------
    M. van Heel and M. Schatz, "Fourier shell correlation threshold criteria", Journal of
    Structural Biology 151 (2005), 250-262.

    P. B. Rosenthal and R. Henderson, "Optimal determination of particle orientation,
    absolute hand, and contrast loss in single-particle electron cryomicroscopy", Journal of
    Molecular Biology 333 (2003), 721-745.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> rng = np.random.default_rng(0)
    >>> truth = gaussian_filter(rng.normal(size=(256, 256)), 2.0)
    >>> halves = [truth + 0.1 * rng.normal(size=truth.shape) for _ in range(2)]
    >>> curve = ring_correlation(*halves)
    >>> print(f"{curve.resolution(pixel_size=0.5):.1f} nm")
    2.4 nm
    """
    one, other = _waves(first, second)
    rings = _Rings.of(one.shape)
    power = np.sqrt(rings.total(one, one) * rings.total(other, other))
    return rings.correlation(rings.total(one, other), power, threshold)


def exposure_resolution(halves: Thinned, denoised: Sequence[NDArray]) -> Resolution:
    """Find which detail of a denoised image one exposure bears out.

    Parameters
    ----------
    halves : Thinned
        The exposure, divided into two (H, W) images by a share of 1/2. Where they are
        masked, the largest rectangle without masked areas is looked at.
    denoised : sequence of 2 (H, W) arrays
        What a denoiser makes of each half by itself.

    Notes
    -----
    Both curves are of images at half the dose. The threshold of 1/7 makes up for that, the
    held-out curve does not, so the whole is better than the latter says. Of 30 validation
    crops, the halves of 15 claim frequencies that are more than a tenth above what the
    whole has in common with the truth, and up to 1.9 times that. The held-out curve never
    claims so much of its half: it is within a tenth on 22 crops and too low on the others
    (studies/results/trust_resolution.csv).
    """
    one, other, found, too = _waves(*halves[:2], *denoised)
    rings = _Rings.of(one.shape)
    truth = rings.total(one, other)
    common = (rings.total(found, other) + rings.total(too, one)) / 2
    known = np.sqrt(rings.total(found, found) * rings.total(too, too))
    noise = np.sqrt(rings.total(one, one) * rings.total(other, other))
    sure = truth > SURE * rings.error * noise
    power = np.where(sure, np.sqrt(known * np.maximum(truth, 0)), np.inf)
    claimed = rings.correlation(rings.total(found, too), known, HALF_SETS)
    return Resolution(claimed, rings.correlation(common, power, WITH_TRUTH))


class _Rings(NamedTuple):
    """Which ring a frequency lies in."""

    ring: NDArray[np.int_]
    frequency: Floats
    error: Floats

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "_Rings":
        """Return the rings of an image's Fourier transform."""
        count = max(min(min(shape) // (2 * WIDTH), RINGS), 1)
        y, x = (np.fft.fftfreq(side) for side in shape)
        ring = np.ceil(np.hypot(y[:, np.newaxis], x) * 2 * count).astype(int).ravel()
        pixels = np.bincount(ring)[1 : count + 1]
        frequency = (np.arange(count) + 0.5) / (2 * count)
        return cls(ring, frequency, np.sqrt(HANN / pixels))

    def total(self, one: NDArray, other: NDArray) -> Floats:
        """Return the sum in each ring of the product of two images' waves."""
        product = np.real(one * np.conj(other)).ravel()
        total = np.bincount(self.ring, product)[1 : len(self.frequency) + 1]
        return np.asarray(total, np.float64)

    def correlation(self, common: Floats, power: Floats, threshold: float) -> Correlation:
        """Return what is common as a share of the power."""
        share = np.divide(common, power, where=power > 0, out=np.zeros_like(common))
        return Correlation(self.frequency, share, self.error, threshold)


def _waves(*images: ArrayLike) -> list[NDArray[np.complex128]]:
    """Return the Fourier transforms of images of the same pixels, with edges faded out."""
    shapes = [np.shape(each) for each in images]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"images must have the same shape, got {' and '.join(map(str, shapes))}"
        )
    if len(shapes[0]) != 2:
        raise ValueError(f"images must have shape (H, W), got {shapes[0]}")
    parts = [parted(each) for each in images]
    bad = np.any([each for _, each in parts], axis=0)
    window = sound_window(bad)
    arrays = [filled(pixels, bad)[window] for pixels, _ in parts]
    if min(arrays[0].shape) < 8:
        raise ValueError(f"images must be at least 8 x 8 pixels, got {arrays[0].shape}")
    fade = np.outer(*(np.hanning(side + 1)[:-1] for side in arrays[0].shape))
    return [np.fft.fft2((each - each.mean()) * fade) for each in arrays]
