"""The line of variance over mean, whose slope is the gain.

Structure and readout noise are taken out of the energies, and what is left is the variance
that shot noise would have if it were white.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.detector.blocks import FAST, HALVES, Blocks
from emdn.detector.photon_transfer import OUTLIER, Transfer, solve
from emdn.detector.spectra import Shape

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """Variance over mean, as if noise were white, and without structure and readout."""

    centre: float  # the mean at which `level` holds
    level: float
    slope: float
    covariance: Floats  # (2, 2), of level and slope
    means: Floats  # (B,), of the blocks
    values: Floats  # (2, B), of the blocks
    weight: Floats  # (2, B)

    @property
    def slope_error(self) -> float:
        """Return the standard error of the slope."""
        return float(np.sqrt(self.covariance[1, 1]))

    def at(self, grey: float) -> tuple[float, float]:
        """Return the variance at a grey level, and its standard error."""
        there = np.array([1.0, grey - self.centre])
        value = self.level + self.slope * there[1]
        return float(value), float(np.sqrt(max(there @ self.covariance @ there, 0.0)))

    def zero(self) -> tuple[float, float]:
        """Return the grey level without variance, and its standard error."""
        moves = np.array([1 / self.slope, -self.level / self.slope**2])
        error = np.sqrt(max(moves @ self.covariance @ moves, 0.0))
        return self.centre - self.level / self.slope, float(error)

    def through(self, offset: float) -> tuple[float, float]:
        """Return the slope from an offset without variance, and its standard error."""
        x = self.means - offset
        inverse = 1 / (self.weight * x**2).sum()
        slope = inverse * (self.weight * x * self.values).sum()
        scores = (self.weight * x * (self.values - slope * x)).sum(0)
        return float(slope), float(inverse * np.sqrt((scores**2).sum()))


def variance_line(blocks: Blocks, transfer: Transfer, shape: Shape) -> Line:
    """Fit the line of variance over mean to all coefficients at once."""
    variance, deviation = _variances(blocks.energy, shape)
    design, weight = transfer.design, transfer.weight
    both = np.concatenate([design, design])
    line, inverse = solve(both, variance.ravel(), weight.ravel())
    for _ in range(2):
        model = np.maximum(design @ line, 0.1 * abs(line[0]))
        weight = transfer.weight * (np.abs(variance - model) < OUTLIER * deviation * model)
        line, inverse = solve(both, variance.ravel(), weight.ravel())
    scores = ((variance - design @ line) * weight).sum(0)[:, np.newaxis] * design
    return Line(
        centre=float(np.median(blocks.mean)),
        level=float(line[0]),
        slope=float(line[1]),
        covariance=inverse @ (scores.T @ scores) @ inverse,
        means=blocks.mean,
        values=variance,
        weight=weight,
    )


def _variances(energies: Floats, shape: Shape) -> tuple[Floats, Floats]:
    """Return the noise of each block by either half of the coefficients.

    Returns
    -------
    variances : (2, B) array
    deviations : (2, 1) array
        Standard deviations of the variances, relative to them.
    """
    variances, deviations = [], []
    for half in HALVES:
        cells = FAST & half
        parts = shape.parts[:, cells]
        weighted = parts / shape.energy[cells] ** 2
        share = np.linalg.solve(weighted @ parts.T, weighted)[0]
        variances.append(energies[:, cells] @ share)
        deviations.append(np.sqrt(2 * ((share * shape.energy[cells]) ** 2).sum()))
    level = max(shape.level, 1e-9 * float(shape.energy.mean()))
    return np.stack(variances), np.array(deviations)[:, np.newaxis] / level
