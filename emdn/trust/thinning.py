"""One exposure made into two: as if the microscope had been stopped in between.

Each electron is sent to one of two images by the toss of a coin. Poisson counts that are
*thinned* so are Poisson counts again, and those of both images are independent. Whatever is
done to the one, the other can judge it.

Counts are thinned exactly. Of a camera's image the electrons are not known one by one; it
is thinned by noise of the same mean, variance and skewness. Its parts are uncorrelated, and
each has the variance of an exposure of its share, which is what squared errors and Fourier
ring correlations rest on.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emdn.detector import Detector
from emdn.trust.sound import filled, parted
from emdn.whitening import Whitening

Floats = NDArray[np.float64]

# Share of the variance by which pixels below the offset may feign more of it. The parts are
# then correlated by half as much.
MOST_SHORTFALL = 0.1


class Thinned(NamedTuple):
    """Two images of one exposure.

    Parameters
    ----------
    first, second : (H, W) or (N, H, W) array
        Images in the units of the whole, with its gain and its offset. They are masked
        arrays if some pixels of the whole are masked, NaN or infinite.
    detectors : (Detector, Detector)
        What an electron does to a pixel of the first and of the second. Each has its share
        of the variance of the readout noise.
    """

    first: NDArray[np.floating]
    second: NDArray[np.floating]
    detectors: tuple[Detector, Detector]


def thin(
    image: ArrayLike,
    detector: Detector,
    share: float,
    rng: np.random.Generator,
    *,
    mask: ArrayLike | None = None,
) -> Thinned:
    """Divide an image into two of a shorter exposure each.

    Distances from the offset add up: ``first + second - offset`` is the image.

    Parameters
    ----------
    image : (H, W) or (N, H, W) array
        One micrograph, a stack, or the frames of a movie, of any real type. Frames are
        thinned each for itself, and so is their sum. Masked arrays keep their mask.
    detector : Detector
        What an electron does to a pixel, told or measured.
    share : float
        Share of the dose that goes to the first image, between 0 and 1.
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same images.
    mask : (H, W) or (N, H, W) array of bool, optional
        True where a pixel is not to be believed. Such pixels, and those that are not
        finite, are masked in both images, whose numbers are those of the neighbours there.

    Returns
    -------
    Thinned
        Both images and their detectors.

    Raises
    ------
    ValueError
        If the share is not between 0 and 1, no pixel is finite and not masked, or the image
        is darker than the offset and the readout noise allow.

    Notes
    -----
    Noise that neighbours share is made white, thinned, and spread again.

    References
    ----------
    B. Monroy, J. Bacca and J. Tachella, "Generalized Recorrupted-to-Recorrupted:
    self-supervised learning beyond Gaussian noise", CVPR (2025), arXiv:2412.04648.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.poisson(20.0, size=(256, 256))
    >>> most, few, _ = thin(counts, Detector(1.0), 0.9, rng)
    >>> print(f"{most.mean():.1f} {most.var():.1f}, {few.mean():.1f} {few.var():.1f}")
    18.0 18.0, 2.0 2.0
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    pixels, bad = parted(image, mask)
    whole = filled(pixels, bad) if bad.any() else np.asarray(np.ma.getdata(image))
    if any(detector.correlation):
        parts = [
            _thin_shared(each, detector, share, rng)
            for each in whole.reshape(-1, *whole.shape[-2:])
        ]
        first = np.stack(parts).reshape(whole.shape)
    else:
        first = _thin_white(whole, detector, share, rng)
    second = whole - first + detector.offset
    kind = np.result_type(np.ma.getdata(image), np.float32)
    first, second = first.astype(kind), second.astype(kind)
    if bad.any():
        first, second = (np.ma.array(each, mask=bad) for each in (first, second))
    return Thinned(first, second, (part_of(detector, share), part_of(detector, 1 - share)))


def part_of(detector: Detector, share: float) -> Detector:
    """Return the detector of a part of an exposure.

    Parameters
    ----------
    detector : Detector
        That of the whole exposure.
    share : float
        Share of the dose, and so of the variance of the readout noise.
    """
    return replace(detector, readout=detector.readout * float(np.sqrt(share)))


def electrons(image: ArrayLike, detector: Detector) -> Floats:
    """Return what an image holds in electrons, with its noise.

    Parameters
    ----------
    image : array
        In units of the detector, of any shape.
    detector : Detector
        Its gain and offset.
    """
    return (np.asarray(image, np.float64) - detector.offset) / detector.gain


def _thin_white(
    image: NDArray, detector: Detector, share: float, rng: np.random.Generator
) -> Floats:
    """Return the first part of an image of white noise.

    Electrons with readout noise of variance s, and s more of them, have a variance that
    equals their mean. So they are thinned as counts of that mean, and what is no whole
    number is divided by share. Counts without readout noise are the exact case.
    """
    recorded = electrons(image, detector)
    variance = recorded + detector.readout**2  # not biased, of each pixel's noise
    possible = np.maximum(variance, 0)
    if (possible - variance).mean() > MOST_SHORTFALL * possible.mean():
        raise ValueError(
            "image has too many pixels far below the offset, of no electrons, to be "
            "thinned; tell a lower offset or a larger readout, or bin it"
        )
    counts = np.floor(possible + rng.random(image.shape)).astype(np.int64)
    part = rng.binomial(counts, share) + share * (recorded - counts)
    return detector.offset + detector.gain * part


def _thin_shared(
    image: NDArray, detector: Detector, share: float, rng: np.random.Generator
) -> Floats:
    """Return the first part of an image of noise that neighbours share."""
    wide = image.astype(np.float64)
    whitening = Whitening.of(wide, detector)
    white = whitening.apply(wide)
    coins = _thin_white(white, detector, share, rng) - share * white
    return share * wide + whitening.invert(coins)
