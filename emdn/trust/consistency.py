"""Where the recorded image is no plausible draw of the denoised one.

If the denoised image were the truth, the electrons of a small window would be a draw of a
Poisson distribution of the mean that the denoised image has there. Windows that hold far
too many or far too few say that something was removed or invented. Sums over windows tell
this also where single pixels hold hardly an electron, and the distribution of a sum is
known, so that the map gives false alarms as often as it says.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter
from scipy.special import chdtrc

from emdn.detector import Detector
from emdn.trust.sound import Sound
from emdn.trust.thinning import electrons
from emdn.whitening import Whitening

Floats = NDArray[np.float64]

SIDE = 3  # pixels at a side of a cell, of which a window has three in each direction
CELLS = (-1, 0, 1)  # places of a window's cells in either direction


@dataclass(frozen=True)
class Consistency:
    """How plausible the recorded image is, window by window.

    Parameters
    ----------
    excess : (H, W) float64 array
        Electrons in the cell around a pixel above those of the denoised image, in standard
        deviations: positive where the denoised image lacks some, negative where it has some
        of its own. Where it is the truth, values are normal, of mean 0 and deviation 1.
        NaN where there is no image.
    chance : (H, W) float64 array
        Probability that a true image is no less plausible, over the window of 3 x 3 cells
        around a pixel. At borders it is that of the nearest window that fits. NaN where
        there is no image, of which windows beside it do not count the pixels.
    """

    excess: Floats
    chance: Floats

    def alarms(self, rate: float = 0.01) -> float:
        """Return the share of implausible pixels of the image; of a truth it is the rate.

        Parameters
        ----------
        rate : float
            Probability of a false alarm at a pixel.
        """
        return float((self.chance < rate).sum() / np.isfinite(self.chance).sum())

    def places(self, rate: float = 0.01) -> NDArray[np.bool_]:
        """Return the pixels that are wrong for sure.

        Parameters
        ----------
        rate : float
            Probability, at most, that a true image has any such pixel (Bonferroni).
        """
        return self.chance < rate / np.isfinite(self.chance).sum()


def consistency(
    image: ArrayLike | Sound,
    denoised: ArrayLike,
    detector: Detector,
    side: int = SIDE,
    *,
    mask: ArrayLike | None = None,
) -> Consistency:
    """Ask window by window whether an image is a plausible draw of a denoised one.

    Parameters
    ----------
    image, denoised : (H, W) array
        The noisy image, which may be a Sound, and what is taken for the truth, in the same
        units.
    detector : Detector
        What an electron does to a pixel, told or measured.
    side : int
        Pixels at a side of a cell. A window has three cells in each direction; wrong detail
        of its size is found best.
    mask : (H, W) array of bool, optional
        True where a pixel is not to be believed.

    Returns
    -------
    Consistency
        The maps.

    Raises
    ------
    ValueError
        If the shapes differ, or if the image is smaller than a window.

    Notes
    -----
    Readout noise of variance s makes the electrons of a pixel, and s more, have a variance
    that equals their mean, so they are taken for counts of that mean. Noise that neighbours
    share is made white first.

    A denoised image knows the noisy one and follows its noise, so alarms are far rarer than
    of a truth: at a rate of 1 % the shipped weights raise them in 0 to 0.5 % of the pixels,
    also where they lost a lattice. To judge a denoiser, thin the exposure, denoise the
    first half and ask of the second, ``consistency(second, denoised_first, detector)`` with
    the half's detector: it is then 2 to 15 % of the pixels, and 1 % of a truth.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.mgrid[-32:32, -32:32]
    >>> atom = 40 * np.exp(-(x**2 + y**2) / 18)
    >>> image = rng.poisson(5 + atom)
    >>> without = consistency(image, np.full(image.shape, 5.0), Detector(1.0))
    >>> bool(without.places()[32, 32]), bool(without.excess[32, 32] > 0)
    (True, True)
    >>> bool(consistency(image, 5 + atom, Detector(1.0)).places().any())
    False
    """
    sound = Sound.of(image, mask)
    noisy, truth, judged = sound.image, sound.beside(denoised), sound.judged
    if min(noisy.shape) < 3 * side:
        raise ValueError(
            f"image must be at least {3 * side} x {3 * side} pixels, got {noisy.shape}"
        )
    if any(detector.correlation):
        whitening = Whitening.of(noisy, detector)
        noisy, truth = whitening.apply(noisy), whitening.apply(truth)
    counts, means = (
        _cells(judged * (electrons(each, detector) + detector.readout**2), side)
        for each in (noisy, truth)
    )
    excess = _deviations(np.maximum(counts, 0), np.maximum(means, 0))
    held = _cells(judged * 1.0, side) > 0.5  # pixels; such a cell can be judged
    squares, cells = (
        sum(np.roll(each, (side * y, side * x), (0, 1)) for y in CELLS for x in CELLS)
        for each in (np.where(held, excess**2, 0.0), held.astype(float))
    )
    chance = np.asarray(chdtrc(np.maximum(cells, 1), squares))
    maps = _inner(excess, side // 2), _inner(chance, side + side // 2)
    return Consistency(*(np.where(judged, each, np.nan) for each in maps))


def _cells(values: NDArray[np.floating], side: int) -> Floats:
    """Return the sum in the cell around each pixel."""
    return side**2 * uniform_filter(values, side)


def _deviations(counts: Floats, means: Floats) -> Floats:
    """Return how unusual Poisson counts are, as deviations of a normal distribution.

    That so many or fewer are counted is as probable as that a gamma variate is larger than
    the mean. Its cube root is all but normal. Half a count, for the count itself, belongs
    to either tail.

    References
    ----------
    E. B. Wilson and M. M. Hilferty, "The distribution of chi-square", Proceedings of the
    National Academy of Sciences 17 (1931), 684-688.
    """
    shape = counts + 1 / 2
    found = 3 * np.sqrt(shape) * (1 - 1 / (9 * shape) - np.cbrt(means / shape))
    # Below a count in a cell, half a count would make an excess of none at all.
    return np.where(found * (counts - means) > 0, found, 0)


def _inner(values: Floats, margin: int) -> Floats:
    """Return values of windows that fit into the image; others take their neighbours'."""
    inside = values[margin : len(values) - margin, margin : values.shape[1] - margin]
    return np.pad(inside, margin, mode="edge")
