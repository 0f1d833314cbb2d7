"""Counts: whether the distance of the grey levels is what one electron adds.

The gain of counts is known exactly. Their levels are equidistant, but so are those of many
cameras, which write whole numbers too. The noise tells them apart: that of counts agrees
with the distance of the levels. An offset, or structure as fine as pixels, may hide it.
"""

import numpy as np

from emdn.detector.blocks import FAST, FEWEST_BLOCKS, Blocks
from emdn.detector.estimate import SIGNIFICANT, Estimate
from emdn.detector.model import Detector
from emdn.detector.photon_transfer import Transfer
from emdn.detector.spectra import MODEL_ERROR, Shape, noise_shape
from emdn.detector.variance import Line, variance_line

# Settings of the estimator. studies/weights/detector.py measures what they achieve.
CAMERA = 1.75  # grey levels that an electron adds, from where on a camera is believed
CAMERA_AMID = 3.0  # and where there is structure as fine as pixels as well
MOST_MISFIT = 50.0  # misfit, from where on its noise does not explain the image
WEAK = 0.3  # correlation, below which fine structure of counts may feign it
MOST_DOUBT = 0.3  # relative deviation of a small image's noise from that of counts
SHARP = 0.15  # standard error of the slope, in grey levels, that shows an offset
SLOPE_OF_COUNTS = (0.6, 1.6)  # variance over mean, in grey levels
LOWEST = 0.05  # share of frequencies, those of least energy, which hardly hold structure
MOST_THERE = 1.5  # energy there of counts, in their shot noise
FEW_LEAST = 4  # frequencies of least energy, of the 64


def counter(blocks: Blocks, transfer: Transfer, offset: float | None) -> Estimate | None:
    """Return the detector of an image whose grey levels are counts, else None."""
    if not blocks.step:
        return None
    shape = noise_shape(transfer)
    few = len(blocks.mean) < 2 * FEWEST_BLOCKS  # in which white noise looks correlated
    weak = max(shape.correlation) < WEAK
    if weak and not few and _is_camera(blocks, transfer, shape, offset or 0.0):
        return None
    if few or weak:
        white = variance_line(blocks, transfer, noise_shape(transfer, only_white=True))
        found = _white_counts(blocks.step, white, transfer, offset)
        if found is not None:
            return found
    shared = min(shape.correlation) > WEAK
    if shared and _floor_of_counts(blocks, transfer, shape, offset or 0.0):
        return _counts(blocks.step, offset)
    return None


def _is_camera(blocks: Blocks, transfer: Transfer, shape: Shape, dark: float) -> bool:
    """Say whether correlated noise explains the image, with a gain of many levels.

    A camera of so many levels an electron may have as little energy at fast frequencies as
    counts, whose structure would then explain the slower ones.
    """
    if shape.misfit > MOST_MISFIT or not any(shape.correlation):
        return False
    line = variance_line(blocks, transfer, shape)
    gain = min(line.slope, line.through(dark)[0]) if line.slope > 0 else -line.slope
    return gain > (CAMERA_AMID if shape.structured else CAMERA) * blocks.step


def _counts(step: float, offset: float | None) -> Estimate:
    """Return the detector of counts, whose level of no electrons is 0 if it is not told."""
    dark, error = (0.0, 0.0) if offset is None else (offset, None)
    return Estimate(Detector(step, dark), 0.0, error, 0.0, 0.0, True)


def _white_counts(
    step: float, line: Line, transfer: Transfer, offset: float | None
) -> Estimate | None:
    """Return the detector of counts whose noise is white, or None if they are none."""
    shifted = _shifted_counts(step, line) if offset is None else None
    if shifted is not None and _is_shifted(shifted):
        return shifted
    if offset is None and _belies_counts(step, line):
        return None
    dark = 0.0 if offset is None else offset
    ratio, error = (each / step for each in line.through(dark))
    doubt = min(2 * MODEL_ERROR + SIGNIFICANT * error, MOST_DOUBT)
    # A camera with an offset may have as much noise on average, but of a steeper slope.
    steepest = SLOPE_OF_COUNTS[1] * step + SIGNIFICANT * line.slope_error
    alike = abs(ratio - 1) < doubt or _textured_counts(step, line, transfer, dark)
    return _counts(step, offset) if alike and not line.slope > steepest else shifted


def _shifted_counts(step: float, line: Line) -> Estimate | None:
    """Return the detector of counts whose level of no electrons the line shows."""
    if not abs(abs(line.slope) - step) < _sharpness(step, line):
        return None
    gain = float(np.copysign(step, line.slope))
    detector = Detector(gain, line.centre - line.level / gain)
    error = float(np.hypot(line.at(line.centre)[1], MODEL_ERROR * line.level))
    return Estimate(detector, 0.0, error / step, None, 0.0, True)


def _is_shifted(counts: Estimate) -> bool:
    """Say whether 0 certainly is a level of electrons, as where the lowest was taken off.

    A line that ends above 0 is not believed so easily: structure in bright parts has such
    a line as well.
    """
    at = counts.detector
    return -at.offset * np.sign(at.gain) > SIGNIFICANT * (counts.offset_error or 0.0)


def _belies_counts(step: float, line: Line) -> bool:
    """Say whether the line is certainly too steep for counts, and starts below 0.

    Counts that were stretched, after their lowest was taken off, have such a line.
    """
    rest, rest_error = line.at(0.0)
    starts_below = rest > SIGNIFICANT * np.hypot(rest_error, MODEL_ERROR * line.level)
    return bool(starts_below and abs(line.slope) - step > _sharpness(step, line))


def _sharpness(step: float, line: Line) -> float:
    """Return by how much a slope may differ by chance, or NaN where it is hardly known."""
    if line.slope_error >= SHARP * step:
        return np.nan
    return float(SIGNIFICANT * np.hypot(line.slope_error, MODEL_ERROR * step))


def _textured_counts(step: float, line: Line, transfer: Transfer, dark: float) -> bool:
    """Say whether levels are counts of a specimen with structure as fine as pixels.

    Counts have at least their shot noise at every frequency, and little more where there
    is least.
    """
    expected = step * (line.centre - dark)
    if expected <= 0:
        return False
    least = float(np.quantile(transfer.level[FAST], LOWEST)) / expected
    error = float(np.median(transfer.level_error[FAST] / np.abs(transfer.level[FAST])))
    slope, slope_error = line.slope / step, line.slope_error / step
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
