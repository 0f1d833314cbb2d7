"""What is known of a detector, and how the line of variance over mean tells it.

A line that is zero above the level that is assumed to have no electrons shows an offset. A
line that is not yet zero there shows readout noise. Where the line agrees with that level,
or structure may have feigned its slope, the gain follows from that level.
"""

from dataclasses import dataclass, replace

import numpy as np

from emdn.detector.blocks import SIDE
from emdn.detector.model import Detector
from emdn.detector.spectra import MODEL_ERROR, Shape
from emdn.detector.variance import Line

# Settings of the estimator. studies/weights/detector.py measures what they achieve.
SIGNIFICANT = 3.0  # standard errors
LINE_ERROR = 0.02  # relative deviation from a straight line that structure may cause
TAIL_ERROR = 0.5  # relative deviation of a gain that fast waves behind a tail tell


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
        detector = replace(at, gain=at.gain * unit, offset=at.offset * unit)
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
            f"{', with a tail' if at.mtf == 'exponential' else ''}"
        )


def camera(line: Line, shape: Shape, offset: float | None) -> Estimate | None:
    """Return the detector of an image by its line of variance over mean alone.

    None is returned if no variance is left of the noise, as where a filter took it off.
    """
    if not line.level > 0:
        return None
    dark = _assumed_offset(line) if offset is None else offset
    rest, rest_error = line.at(dark)  # variance that electrons do not explain
    rest_error = float(np.hypot(rest_error, LINE_ERROR * line.level))
    belied = rest < -SIGNIFICANT * rest_error  # by a line that is zero above `dark`
    brightness = line.centre - dark
    gain, gain_error, variance = line.slope, line.slope_error, shape.readout
    readout_error: float | None = None
    offset_error: float | None = None
    if offset is None and _shows_offset(line, shape, belied or dark < 0):
        dark, offset_error = line.zero()
    elif rest > SIGNIFICANT * rest_error:
        least = max(line.slope_error, 0.02 * line.level / brightness)
        gain = min(max(line.slope, least), line.level / brightness)
        if offset is None and any(shape.correlation):
            # Readout noise is white, so a lower offset explains what is not.
            dark = line.centre - line.level / gain
        variance += max(line.level - gain * (line.centre - dark), 0.0)
        readout_error = rest_error / (2 * np.sqrt(max(variance, rest_error)) * gain)
    else:
        gain, gain_error = line.through(dark)  # which stands and falls with `dark`
        if not gain > 0:
            return None
        doubt = abs(rest) if belied else rest_error
        gain_error = np.hypot(gain_error, doubt / brightness)
        readout_error = np.sqrt(max(rest, 0.0) + rest_error) / gain
    readout = float(np.sqrt(variance) / abs(gain))
    usual = MODEL_ERROR if shape.mtf == "gaussian" else TAIL_ERROR
    return Estimate(
        Detector(float(gain), float(dark), readout, shape.correlation, shape.mtf),
        float(np.hypot(gain_error, usual * gain)),
        offset_error,
        None if readout_error is None else float(readout_error),
        shape.correlation_error,
        False,
    )


def _assumed_offset(line: Line) -> float:
    """Return 0, or the darkest level if even without electrons none is so far below 0."""
    darkest = float(np.quantile(line.means, 0.01))
    chance = SIGNIFICANT / SIDE * np.sqrt(max(line.at(darkest)[0], 0.0))
    return darkest if darkest + chance < 0 else 0.0


def _shows_offset(line: Line, shape: Shape, needed: bool) -> bool:
    """Say whether no electrons are at the level where the line is zero.

    Parameters
    ----------
    needed : bool
        Whether 0 cannot be that level: the line is negative there, or the image below it.
    """
    if not abs(line.slope) > SIGNIFICANT * line.slope_error:
        return False
    zero, zero_error = line.zero()
    darkest, brightest = np.quantile(line.means, [0.01, 0.99])
    if line.slope < 0:
        # Dark parts of more structure than bright ones feign an inverted contrast.
        steep = line.slope < -2 * SIGNIFICANT * line.slope_error
        return bool(steep and not shape.structured and zero > brightest)
    # Levels below that of no electrons belie the slope: structure feigned it.
    chance = np.hypot(zero_error, np.sqrt(line.level) / SIDE)
    return bool(needed and zero < darkest + SIGNIFICANT * chance)
