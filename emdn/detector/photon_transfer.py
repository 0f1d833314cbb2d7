"""Photon transfer: how the energy at each frequency grows with the mean of the blocks.

The energy of noise is a straight line over the mean. Structure adds to it, and a block
weighs the less, the more energy it has above the line. Lines and weights are found in turn,
and the weights for one half of the coefficients come from the other half.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.detector.blocks import FAST, HALVES, SIDE, Blocks, U, V

Floats = NDArray[np.float64]

# Settings of the estimator. studies/weights/detector.py measures what they achieve.
SMOOTHNESS = 4  # power by which a block of more energy than noise has weighs less
OUTLIER = 5.0  # standard deviations above the line, from where a block is no evidence
SMOOTH, HARDLY = 0.2, 0.05  # shares of the blocks
APART = 1.5  # more than an outlier, for structure in bright parts has more energy as well
GROUPS = 10  # of blocks as bright, in which the search for the line begins
FEW = 32  # blocks, of which no second group is made
MORE = 1.8  # times the energy of the line, which 3 % of the blocks of noise have

NOT_SLOW = U + V >= 3  # coefficients that say how smooth a block is


class Transfer(NamedTuple):
    """Energy of each coefficient over the mean of blocks, where an image is smooth."""

    design: Floats  # (B, 2): 1, and the mean less the median of the means
    weight: Floats  # (2, B): for the even coefficients and for the odd ones
    level: Floats  # (64,), energy at the median of the means
    slope: Floats  # (64,)
    level_error: Floats  # (64,)
    slope_error: Floats  # (64,)
    alike: float  # share of all blocks whose energy is no more than that of the lines


def photon_transfer(blocks: Blocks) -> Transfer:
    """Weigh the blocks by their smoothness, and fit lines of energy over mean."""
    x = blocks.mean - np.median(blocks.mean)
    design = np.stack([np.ones_like(x), x], axis=1)
    weights = _weights(design, blocks.energy)
    lines = np.empty((4, SIDE**2))
    for weight, half in zip(weights, HALVES, strict=True):
        lines[:, half] = _lines(design, blocks.energy[:, half], weight)
    alike = _alike(design, blocks.energy, *lines[:2])
    return Transfer(design, np.stack(weights), *lines, alike=alike)


def _weights(design: Floats, energies: Floats) -> list[Floats]:
    """Return the weights of blocks, of sum 1, for each half of the coefficients."""
    energy = [energies[:, NOT_SLOW & half].mean(1) for half in HALVES]
    spread = [np.sqrt(2 / np.count_nonzero(NOT_SLOW & half)) for half in HALVES]
    floor = 1e-3 * float(np.median(energies[:, NOT_SLOW].mean(1)))
    lines = [
        np.maximum(_smooth_energy(design[:, 1], each, 1 + OUTLIER * deviation), floor)
        for each, deviation in zip(energy, spread, strict=True)
    ]
    weights = [np.ones(len(design))] * 2
    for _ in range(6):
        weights = [
            lines[1 - i] ** -2
            * (lines[1 - i] / np.maximum(energy[1 - i], lines[1 - i])) ** SMOOTHNESS
            * (energy[i] < lines[i] * (1 + OUTLIER * spread[i]))
            for i in (0, 1)
        ]
        for i in (0, 1):
            line = solve(design, energy[i], weights[i])[0]
            lines[i] = np.maximum(design @ line, 0.1 * max(line[0], floor))
    return [weight / max(weight.sum(), 1e-300) for weight in weights]


def _alike(design: Floats, energies: Floats, level: Floats, slope: Floats) -> float:
    """Return the share of blocks that have no more energy than smooth ones as bright."""
    alike = np.ones(len(design), bool)
    for cells in (FAST & half for half in HALVES):
        line = level[cells] + design[:, 1:] * slope[cells]
        line = np.maximum(line, 0.2 * level[cells])
        alike &= (energies[:, cells] / line).mean(1) < MORE
    return float(alike.mean())


def _smooth_energy(brightness: Floats, energy: Floats, most: float) -> Floats:
    """Return for each block the energy of smooth ones, from where a line is sought.

    Of an image that is dark in large parts the smoothest blocks are the dark ones. Where
    hardly any block as bright has less than `most` times their energy, it is that of the
    smooth blocks as bright.
    """
    smooth = float(np.quantile(energy, SMOOTH))
    order = np.argsort(brightness)
    groups = np.array_split(order, min(1 + len(order) // FEW, GROUPS))
    means = [brightness[group].mean() for group in groups]
    low, own = np.transpose(
        [np.quantile(energy[each], [HARDLY, SMOOTH]) for each in groups]
    )
    alike = np.interp(brightness, means, low) < APART * most * smooth
    return np.where(alike, smooth, np.interp(brightness, means, own))


def _lines(design: Floats, energies: Floats, weight: Floats) -> Floats:
    """Return the level, the slope and their standard errors for each of (B, n) energies."""
    line, inverse = solve(design, energies, weight)
    residual = (energies - design @ line) * weight[:, np.newaxis]
    influence = design @ inverse
    scores = [influence[:, column, np.newaxis] * residual for column in (0, 1)]
    return np.stack([*line, *(np.sqrt((each**2).sum(0)) for each in scores)])


def solve(design: Floats, values: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the weighted least squares, and the inverse of their normal matrix.

    Parameters
    ----------
    design : (B, 2) array
        1, and where each value stands.
    values : (B,) or (B, n) array
        What lines are fitted to.
    weight : (B,) array
        How much each block counts.

    Returns
    -------
    lines : (2,) or (2, n) array
        Level and slope.
    inverse : (2, 2) array
    """
    weighted = (design * weight[:, np.newaxis]).T
    # Of an image of one level there is no slope, and the pseudo-inverse says 0.
    inverse: Any = np.linalg.pinv(weighted @ design, hermitian=True)
    return inverse @ (weighted @ values), inverse
