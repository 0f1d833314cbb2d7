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
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emdn.detector.blocks import (
    FAST,
    FEWEST_BLOCKS,
    SIDE,
    Blocks,
    sample_windows,
    sound_blocks,
)
from emdn.detector.model import Detector, spread_of
from emdn.detector.photon_transfer import Transfer, photon_transfer
from emdn.detector.spectra import MODEL_ERROR, Shape, noise_shape
from emdn.detector.variance import Line, variance_line

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

# Settings of the estimator. studies/weights/detector.py measures what they achieve.
SIGNIFICANT = 3.0  # standard errors
LINE_ERROR = 0.02  # relative deviation from a straight line that structure may cause
WEAK = 0.3  # correlation, below which fine structure of counts may feign it
# What tells counts under fine structure from a camera whose grey levels are whole numbers.
LOWEST = 0.05  # share of the frequencies that hold least energy, hardly of structure
MOST_THERE = 1.5  # energy there of counts, in their shot noise
SLOPE_OF_COUNTS = (0.6, 1.6)  # variance over mean, in grey levels
FEW_LEAST = 4  # frequencies of least energy, of the 64
MOST_DOUBT = 0.3  # relative deviation of a small image's noise from that of counts


@dataclass(frozen=True)
class Estimate:
    """A detector as an image shows it.

    Parameters
    ----------
    detector : Detector
        What was measured, and what had to be assumed for the rest: always fit for use. Its
        noise agrees with that of the image whatever was assumed.
    gain_error, offset_error, readout_error, correlation_error : float or None
        Standard errors, in units of what they belong to; None for what this image cannot
        tell, which was assumed, and for what was given.
    counting : bool
        Whether the grey levels are counts of electrons, so that the gain is exact.
    """

    detector: Detector
    gain_error: float | None
    offset_error: float | None
    readout_error: float | None
    correlation_error: float | None
    counting: bool

    def scaled(self, unit: float) -> "Estimate":
        """Return the estimate of the image times a positive unit."""
        at = self.detector
        detector = Detector(at.gain * unit, at.offset * unit, at.readout, at.correlation)
        gain, offset = (
            None if error is None else error * unit
            for error in (self.gain_error, self.offset_error)
        )
        return replace(self, detector=detector, gain_error=gain, offset_error=offset)

    def __str__(self) -> str:
        """Return one line for people."""
        at = self.detector

        def measured(value: float, error: float | None) -> str:
            if error is None:
                return f"{value:.4g} (assumed)"
            return f"{value:.4g} +- {error:.2g}" if error else f"{value:.4g}"

        along, down = at.correlation
        if self.counting:
            offset = measured(at.offset, self.offset_error)
            return f"counts: gain {at.gain:.4g}, offset {offset}"
        return (
            f"gain {measured(at.gain, self.gain_error)}, "
            f"offset {measured(at.offset, self.offset_error)}, "
            f"readout {measured(at.readout, self.readout_error)} electrons, "
            f"correlation {along:.2f} in rows and {down:.2f} in columns"
        )


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

    Standard errors know chance and the usual error of the model, 5 %. They do not know of
    structure as fine as pixels that fills the image: it passes for noise.

    Where grey levels are equidistant and their distance agrees with the noise, they are
    counts, and the distance is the gain exactly.

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
    shape = noise_shape(transfer)
    few = len(blocks.mean) < 2 * FEWEST_BLOCKS  # in which white noise looks correlated
    if blocks.step and (few or max(shape.correlation) < WEAK):
        white = variance_line(blocks, transfer, noise_shape(transfer, only_white=True))
        counter = _counter(blocks.step, white, transfer, offset)
        if counter is not None:
            return counter
    shared = blocks.step and min(shape.correlation) > WEAK
    if shared and _floor_of_counts(blocks, transfer, shape, offset or 0.0):
        return _counts(blocks.step, offset)
    line = variance_line(blocks, transfer, shape)
    return _camera(blocks, shape, line, offset) if line.level > 0 else None


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


def _counter(
    step: float, line: Line, transfer: Transfer, offset: float | None
) -> Estimate | None:
    """Return the detector of an image whose grey levels are counts, else None."""
    dark = 0.0 if offset is None else offset
    ratio, error = (each / step for each in line.through(dark))
    doubt = min(2 * MODEL_ERROR + SIGNIFICANT * error, MOST_DOUBT)
    slope_error = float(np.sqrt(line.covariance[1, 1]))
    # A camera with an offset may have as much noise on average, but of a steeper slope.
    steeper = line.slope > SLOPE_OF_COUNTS[1] * step + SIGNIFICANT * slope_error
    alike = abs(ratio - 1) < doubt or _textured_counts(step, line, transfer, dark)
    if alike and not steeper:
        return _counts(step, offset)
    doubt = SIGNIFICANT * np.hypot(slope_error, MODEL_ERROR * step)
    if offset is None and slope_error < 0.15 * step and abs(abs(line.slope) - step) < doubt:
        gain = float(np.copysign(step, line.slope))
        counts = Detector(gain, line.centre - line.level / gain)
        error = float(np.hypot(line.at(line.centre)[1], MODEL_ERROR * line.level))
        return Estimate(counts, 0.0, error / step, None, 0.0, True)
    return None


def _counts(step: float, offset: float | None) -> Estimate:
    """Return the detector of counts, whose level of no electrons is 0 if it is not told."""
    dark, error = (0.0, 0.0) if offset is None else (offset, None)
    return Estimate(Detector(step, dark), 0.0, error, 0.0, 0.0, True)


def _textured_counts(step: float, line: Line, transfer: Transfer, dark: float) -> bool:
    """Say whether levels are counts of a specimen with structure as fine as pixels.

    Counts have at least their shot noise at every frequency, and little more where there
    is least. Many cameras write whole numbers too, whose distance is not their gain.
    """
    expected = step * (line.centre - dark)
    if expected <= 0:
        return False
    least = float(np.quantile(transfer.level[FAST], LOWEST)) / expected
    error = float(np.median(transfer.level_error[FAST] / np.abs(transfer.level[FAST])))
    slope, slope_error = line.slope / step, np.sqrt(line.covariance[1, 1]) / step
    low, high = SLOPE_OF_COUNTS
    if least < 1 - min(2 * MODEL_ERROR + SIGNIFICANT * error, MOST_DOUBT):
        return False
    if least < MOST_THERE:
        return slope > low - SIGNIFICANT * slope_error
    return low < slope < high and slope_error < (high - low) / SIGNIFICANT


def _floor_of_counts(blocks: Blocks, transfer: Transfer, shape: Shape, dark: float) -> bool:
    """Say whether what is white beside the correlated noise is the shot noise of counts.

    Structure as fine as pixels passes for noise that neighbours share in both directions.
    Beside it counts keep their shot noise, which grows with brightness as readout noise
    does not, in dark and in bright parts.
    """
    expected = blocks.step * (blocks.mean - dark)
    if abs(shape.readout / max(float(np.median(expected)), 1e-300) - 1) > MOST_DOUBT:
        return False
    least = np.argsort(np.where(FAST, transfer.level, np.inf))[:FEW_LEAST]
    more = blocks.energy[:, least].mean(1) - (1 - MOST_DOUBT) * expected
    tenths = np.array_split(more[np.argsort(blocks.mean)], 10)
    return all(
        each.mean() > -SIGNIFICANT * each.std() / np.sqrt(len(each))
        for each in tenths
        if len(each) >= FEWEST_BLOCKS
    )


def _camera(blocks: Blocks, shape: Shape, line: Line, offset: float | None) -> Estimate:
    """Return the detector of an image by its line of variance over mean alone."""
    level = line.level
    slope, slope_error = line.slope, float(np.sqrt(line.covariance[1, 1]))
    darkest = float(np.quantile(blocks.mean, 0.01))
    dark = 0.0 if offset is None else offset
    below = darkest + SIGNIFICANT / SIDE * np.sqrt(max(line.at(darkest)[0], 0.0)) < dark
    if offset is None and below:  # even without electrons no level is so far below 0
        dark = darkest
    rest, rest_error = line.at(dark)  # variance that electrons do not explain
    rest_error = float(np.hypot(rest_error, LINE_ERROR * level))
    steep = abs(slope) > SIGNIFICANT * slope_error
    zero_level, zero_error = line.zero() if steep else (0.0, 0.0)
    measured = offset is None and steep
    if slope < 0:
        # Dark parts of more structure than bright ones feign an inverted contrast.
        measured &= slope < -2 * SIGNIFICANT * slope_error and not shape.structured
        measured &= zero_level > np.quantile(blocks.mean, 0.99)
    else:
        measured &= below or rest < -SIGNIFICANT * rest_error
        # Levels below that of no electrons belie the slope: structure feigned it.
        chance = np.hypot(zero_error, np.sqrt(level) / SIDE)
        measured &= zero_level < darkest + SIGNIFICANT * chance
    readout_error: float | None = None
    offset_error: float | None = None
    gain, gain_error, variance = slope, slope_error, shape.readout
    if measured:
        dark, offset_error = zero_level, zero_error
    elif rest > SIGNIFICANT * rest_error:
        least = max(slope_error, 0.02 * level / (line.centre - dark))
        gain = max(slope, least)
        variance += max(level - gain * (line.centre - dark), 0.0)
        readout_error = rest_error / (2 * np.sqrt(max(variance, rest_error)) * gain)
    else:
        gain, gain_error = line.through(dark)  # which stands and falls with `dark`
        belied = rest < -SIGNIFICANT * rest_error  # by a line that ends below the offset
        doubt = abs(rest) if belied else rest_error
        gain_error = np.hypot(gain_error, doubt / (line.centre - dark))
        readout_error = np.sqrt(max(rest, 0.0) + rest_error) / gain
    detector = Detector(
        float(gain), float(dark), float(np.sqrt(variance) / abs(gain)), shape.correlation
    )
    return Estimate(
        detector,
        float(np.hypot(gain_error, MODEL_ERROR * gain)),
        offset_error,
        None if readout_error is None else float(readout_error),
        shape.correlation_error,
        False,
    )
