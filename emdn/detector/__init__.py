"""What one electron does to a pixel: applied to clean images, and measured in noisy ones.

Each electron adds the *gain* to a pixel that without electrons shows the *offset*. Its
signal may spread to neighbours, which *correlates* their noise, and the electronics add
their *readout* noise. A `Detector` holds the four and applies them to a clean image;
`estimate_detector` measures them in a noisy one.

The estimate rests on photon transfer: the variance of shot noise is a straight line over
the mean, its slope is the gain and it is zero where no electrons are. Mean and variance are
taken in blocks of 8 x 8 pixels, after a cosine transform. Its 64 coefficients tell noise
from structure, which lies at low frequencies and differs from block to block, and white
noise from correlated noise, whose spectrum falls alike in every block. Half of the
coefficients say how smooth a block is and the other half is measured, so that no choice of
blocks can favour those in which the noise is low by chance.

Each step has a file::

    electrons --model--> image --periods, blocks--> energies --photon_transfer--> lines
        --spectra, variance--> noise --counting, estimate--> Estimate
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emdn.detector.blocks import FAST, SIDE, Blocks, sample_windows, sound_blocks
from emdn.detector.counting import counter
from emdn.detector.estimate import Estimate, camera
from emdn.detector.model import Detector, spread_of
from emdn.detector.photon_transfer import photon_transfer
from emdn.detector.spectra import MODEL_ERROR, noise_shape
from emdn.detector.variance import variance_line

# Electrons where there are most, below which a texture that fills the image, as of an
# amorphous film, is rather structure than noise behind a tail, which would be as strong.
# studies/weights/tails.py measures what it achieves.
LEAST_DOSE = 10.0

__all__ = [
    "MODEL_ERROR",
    "SIDE",
    "Detector",
    "Estimate",
    "estimate_detector",
    "estimate_from_patches",
    "sample_windows",
    "spread_of",
]


def estimate_detector(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    offset: float | None = None,
) -> Estimate | None:
    """Measure from one noisy image what an electron did.

    Where brightness varies, the slope of variance over mean is the gain. The line reaches
    zero at the offset, or below the offset by the variance of the readout noise: one image
    cannot tell the two apart, so one of them is assumed. A line whose zero lies below 0
    shows readout noise above an offset of 0. A line whose zero lies above 0 shows an
    offset, and no readout noise is assumed. Where the zero agrees with 0 there is neither.
    Either way the noise of the detector is that of the image.

    An image of one level shows no slope. The gain then stands and falls with the assumed
    offset, and its standard error is as large as itself.

    Standard errors know chance and the usual error of the model, 5 %. Behind an exponential
    MTF it is 50 %, since only fast waves are measured and the gain is that of slow ones.
    The errors do not know of structure as fine as pixels that fills the image: it passes
    for noise.

    Where grey levels are equidistant and their distance agrees with the noise, they are
    counts, and the distance is the gain exactly.

    A Gaussian point spread may have a standard deviation of up to 0.8 pixels, and of up to
    0.6 in images with structure as fine as pixels in a fifth of their blocks or more. What
    a lens or a downsizing has cut off there would else look like noise behind a wider one.

    Parameters
    ----------
    image : (H, W) array
        Real values in any units. Masked arrays keep their mask.
    mask : (H, W) array of bool, optional
        True where a pixel is not to be believed.
    offset : float, optional
        Grey level of no electrons, if it is known.

    Returns
    -------
    Estimate or None
        None if the image shows no noise, or if fewer than four blocks of 8 x 8 pixels are
        free of masked, invalid, clipped and constant pixels.

    Raises
    ------
    ValueError
        If the image or the mask has not two axes, or their shapes differ.

    References
    ----------
    J. R. Janesick, "Photon Transfer", SPIE Press (2007).

    N. N. Ponomarenko et al., "An automatic approach to lossy compression of AVIRIS
    images", IGARSS (2007): noise in the cosine transform of the smoothest blocks.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ramp = np.tile(np.linspace(20.0, 60.0, 256), (256, 1))
    >>> image = Detector(gain=7.0, offset=100.0).apply(ramp, rng)
    >>> found = estimate_detector(image)
    >>> print(f"gain {found.detector.gain:.1f}, counts: {found.counting}")
    gain 7.0, counts: True
    """
    pixels, mask = _checked(image, mask)
    windows = sample_windows(pixels.shape)
    patches = np.stack([pixels[window] for window in windows])
    masked = None if mask is None else np.stack([mask[window] for window in windows])
    return estimate_from_patches(patches, masked, offset=offset)


def estimate_from_patches(
    patches: NDArray, masked: NDArray[np.bool_] | None, *, offset: float | None = None
) -> Estimate | None:
    """Measure the detector of an image by the parts of it that are looked at.

    Parameters
    ----------
    patches : (P, H, W) array
        The parts of the image in `sample_windows`.
    masked : (P, H, W) array of bool, optional
        True where a pixel of them is not to be believed.
    offset : float, optional
        Grey level of no electrons, if it is known.

    Returns
    -------
    Estimate or None
        What `estimate_detector` returns of the whole image.
    """
    sound = sound_blocks(patches, masked)
    if sound is None or not np.median(sound.energy) > 0:
        return None
    # In units of about the noise no square overflows, whatever the units of the image, and
    # powers of two leave the gain of counts as it is.
    unit = float(2.0 ** np.round(np.log2(np.median(sound.energy)) / 2))
    blocks = Blocks(sound.mean / unit, sound.energy / unit**2, sound.step / unit)
    found = _estimate(blocks, None if offset is None else offset / unit)
    return found and found.scaled(unit)


def _estimate(blocks: Blocks, offset: float | None) -> Estimate | None:
    """Return the detector of sound blocks, or None if they show no noise."""
    transfer = photon_transfer(blocks)
    if not np.median(transfer.level[FAST]) > 0:
        return None
    counts = counter(blocks, transfer, offset)
    if counts is not None:
        return counts
    found = None
    for alike_is_noise in (True, False):
        shape = noise_shape(transfer, alike_is_noise=alike_is_noise)
        line = variance_line(blocks, transfer, shape)
        found = camera(line, shape, offset)
        ends = np.quantile(line.means, [0.01, 0.99])
        if found and max(found.detector.dose_of(float(end)) for end in ends) > LEAST_DOSE:
            break
    return found


def _checked(
    image: ArrayLike, mask: ArrayLike | None
) -> tuple[NDArray, NDArray[np.bool_] | None]:
    """Return image and mask as arrays, or say what is wrong with them."""
    if isinstance(image, np.ma.MaskedArray):
        own = np.ma.getmaskarray(image)
        mask = own if mask is None else own | np.asarray(mask, bool)
        image = image.data
    pixels = np.asarray(image)
    if pixels.ndim != 2:
        raise ValueError(f"image must have shape (H, W), got {pixels.shape}")
    if mask is None:
        return pixels, None
    masked = np.asarray(mask, bool)
    if masked.shape != pixels.shape:
        raise ValueError(
            f"mask must have the shape of the image, {pixels.shape}, got {masked.shape}"
        )
    return pixels, masked
