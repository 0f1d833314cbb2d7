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
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import toeplitz

from emdn.detector.blocks import (
    COSINES,
    FAST,
    FEWEST_BLOCKS,
    HALVES,
    SIDE,
    Blocks,
    U,
    V,
    sample_windows,
    sound_blocks,
)
from emdn.detector.model import Detector, autocorrelation, kernels, neighbours, spread_of

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

Floats = NDArray[np.float64]

# Settings of the estimator. studies/weights/detector.py measures what they achieve.
SMOOTHNESS = 4  # power by which a block of more energy than noise has weighs less
MODEL_ERROR = 0.05  # relative deviation of real noise spectra from their model
OUTLIER = 5.0  # standard deviations above the line, from where a block is no evidence
COST_OF_CORRELATION = 30.0  # twice a log-likelihood, to believe in correlated noise
COST_OF_TEXTURE = 10.0  # and to believe in fine structure that is in all blocks
COST_OF_STRENGTH = 15.0  # times the share that this structure has in the energy
COST_OF_READOUT = 5.0  # and in white noise beside the correlated noise
SIGNIFICANT = 3.0  # standard errors
LINE_ERROR = 0.02  # relative deviation from a straight line that structure may cause
WEAK = 0.3  # correlation, below which fine structure of counts may feign it
# What tells counts under fine structure from a camera whose grey levels are whole numbers.
LOWEST = (
    0.05  # share of the frequencies, that with least energy, which hardly hold structure
)
MOST_THERE = 1.5  # energy there of counts, in their shot noise
SLOPE_OF_COUNTS = (0.6, 1.6)  # variance over mean, in grey levels
FEW_LEAST = 4  # frequencies of least energy, of the 64
MOST_DOUBT = 0.3  # relative deviation of a small image's noise from that of counts

WIDEST = 0.8  # pixels, standard deviation of the widest point spread that is looked for
MOST_MEMORY = 0.6  # share of a pixel's signal that goes to the next at most
NOT_SLOW = U + V >= 3  # coefficients that say how smooth a block is
DECAYS = (2, 4, 8)  # powers of frequency with which the energy of fine structure falls


@cache
def _spectrum(width: float, memory: float) -> tuple[Floats, tuple[float, float]]:
    """Return the energy of each coefficient where one electron makes white noise of 1.

    And the correlation of neighbours in a row and in a column.
    """
    down, along = kernels(width, memory)
    axes = [
        np.einsum("ui,ij,uj->u", COSINES, toeplitz(autocorrelation(kernel, SIDE)), COSINES)
        for kernel in (down, along)
    ]
    return np.outer(*axes).ravel(), (neighbours(along), neighbours(down))


@cache
def _coarse() -> Floats:
    """Return (G, 2) widths and memories that are tried first; the first one is white."""
    widths = np.append(0.0, np.arange(0.24, WIDEST + 0.01, 0.08))
    memories = np.arange(-MOST_MEMORY, MOST_MEMORY + 0.01, 0.1).round(1)
    spreads = [(w, m) for w in widths for m in memories if (w, m) != (0.0, 0.0)]
    return np.array([(0.0, 0.0), *spreads])


def _finer(spread: Floats, step: Floats) -> Floats:
    """Return a spread and its neighbours at a step, after that of white noise."""
    moves = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    around = spread + moves * step
    if spread[0] == 0:  # a point spread below 0.2 pixels reaches no neighbour
        around[:, 0] = np.where(moves[:, 0] > 0, 0.2 + step[0], 0.0)
    around[:, 0] = np.clip(around[:, 0], 0, WIDEST)
    around[:, 1] = np.clip(around[:, 1], -MOST_MEMORY, MOST_MEMORY)
    return np.unique(np.vstack([(0.0, 0.0), around]).round(5), axis=0)


def _spectra(spreads: Floats) -> Floats:
    """Return the (G, 64) spectra of several spreads."""
    return np.stack([_spectrum(float(w), float(m))[0] for w, m in spreads])


@cache
def _structure(decay: int) -> Floats:
    """Return how the energy of fine structure is spread over the coefficients."""
    squared = np.maximum(U**2 + V**2, 1)
    return np.minimum((49.0 / squared) ** (decay / 2), 1e6)


# --------------------------------------------------------------------- measured in blocks


class _Transfer(NamedTuple):
    """Energy of each coefficient over the mean of blocks, where an image is smooth."""

    design: Floats  # (B, 2): 1, and the mean less the median of the means
    weight: Floats  # (2, B): for the even coefficients and for the odd ones
    level: Floats  # (64,), energy at the median of the means
    slope: Floats  # (64,)
    level_error: Floats  # (64,)
    slope_error: Floats  # (64,)


def _solve(design: Floats, values: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the weighted least squares, and the inverse of their normal matrix."""
    weighted = (design * weight[:, np.newaxis]).T
    # Of an image of one level there is no slope, and the pseudo-inverse says 0.
    inverse: Any = np.linalg.pinv(weighted @ design, hermitian=True)
    return inverse @ (weighted @ values), inverse


def _photon_transfer(blocks: Blocks) -> _Transfer:
    """Weigh the blocks by their smoothness, and fit lines of energy over mean."""
    x = blocks.mean - np.median(blocks.mean)
    design = np.stack([np.ones_like(x), x], axis=1)
    halves = HALVES
    energy = [blocks.energy[:, NOT_SLOW & half].mean(1) for half in halves]
    spread = [np.sqrt(2 / np.count_nonzero(NOT_SLOW & half)) for half in halves]
    floor = 1e-3 * float(np.median(blocks.energy[:, NOT_SLOW].mean(1)))
    lines = [np.full(len(x), max(np.quantile(each, 0.2), floor)) for each in energy]
    weights = [np.ones(len(x))] * 2
    for _ in range(6):
        weights = [
            lines[1 - i] ** -2
            * (lines[1 - i] / np.maximum(energy[1 - i], lines[1 - i])) ** SMOOTHNESS
            * (energy[i] < lines[i] * (1 + OUTLIER * spread[i]))
            for i in (0, 1)
        ]
        for i in (0, 1):
            line = _solve(design, energy[i], weights[i])[0]
            lines[i] = np.maximum(design @ line, 0.1 * max(line[0], floor))
    fits = np.empty((4, SIDE**2))
    for weight, half in zip(weights, halves, strict=True):
        weight /= max(weight.sum(), 1e-300)
        values = blocks.energy[:, half]
        fits[:2, half], inverse = _solve(design, values, weight)
        residual = (values - design @ fits[:2, half]) * weight[:, np.newaxis]
        influence = design @ inverse
        for row, column in ((2, 0), (3, 1)):
            scores = influence[:, column, np.newaxis] * residual
            fits[row, half] = np.sqrt((scores**2).sum(0))
    return _Transfer(design, np.stack(weights), *fits)


class _Shape(NamedTuple):
    """How the energy of the noise is spread over the coefficients."""

    spread: tuple[float, float]  # width in pixels, memory
    correlation: tuple[float, float]
    correlation_error: float
    parts: Floats  # (k, 64): noise of 1, and structure or readout if there is any
    energy: Floats  # (64,), of all parts as they are
    structured: bool  # whether fine structure is in all blocks
    level: float  # of the noise
    readout: float  # energy of white noise beside correlated noise


def _noise_shape(transfer: _Transfer, only_white: bool = False) -> _Shape:
    """Find the point spread and memory that explain how energy falls with frequency.

    Twice the negative log-likelihood is least, plus a cost for each thing to believe in.
    """
    tried = _coarse()[:1] if only_white else _coarse()
    choice = _cheapest(tried, transfer)
    deviation = 0.0
    step = np.array([0.04, 0.05])  # pixels, share
    for halving in range(0 if only_white else 3):
        tried = _finer(choice.spread, step / 2**halving)
        choice = _cheapest(tried, transfer)
        if halving == 0:
            deviation = _deviation(tried, choice)
    width, memory = map(float, choice.spread)
    spectrum, correlation = _spectrum(width, memory)
    parts = _parts(choice.kind, spectrum[np.newaxis])[0]
    return _Shape(
        (width, memory),
        correlation,
        float(np.hypot(deviation, 0.02)),
        parts,
        choice.amounts @ parts,
        choice.kind in DECAYS,
        float(choice.amounts[0]),
        float(choice.amounts[1]) if choice.kind == "readout" else 0.0,
    )


def _deviation(tried: Floats, choice: "_Choice") -> float:
    """Return the deviation of the correlation among spreads, by their likelihood."""
    likelihood = np.exp(-0.5 * (choice.costs - choice.costs.min()))
    likelihood /= likelihood.sum()
    correlation = np.array([_spectrum(*map(float, spread))[1] for spread in tried])
    chosen = np.array(_spectrum(*map(float, choice.spread))[1])
    return float(np.sqrt(likelihood @ (correlation - chosen) ** 2).max())


class _Choice(NamedTuple):
    """The best explanation of a spectrum among several."""

    cost: float
    spread: Floats  # (2,)
    kind: str | int
    amounts: Floats  # (k,), of each part
    costs: Floats  # of all that were tried in the same way


def _parts(kind: str | int, spectra: Floats) -> Floats:
    """Return (G, k, 64) parts that a spectrum may be made of."""
    if kind == "noise":
        return spectra[:, np.newaxis]
    if kind == "readout":
        return np.stack([spectra, np.ones_like(spectra)], axis=1)
    return np.stack([spectra, spectra * _structure(int(kind))], axis=1)


def _cheapest(spreads: Floats, transfer: _Transfer) -> _Choice:
    """Try noise alone, with structure and with readout, for several spreads."""
    spectra = _spectra(spreads)
    white = ~spreads.any(1)
    correlated = np.where(white, 0.0, COST_OF_CORRELATION)
    against_slopes = _misfit_of_slopes(spectra, transfer)
    choices = []
    for kind in ("noise", *DECAYS, "readout"):
        parts = _parts(kind, spectra)
        amounts, costs = _misfit_of_levels(parts, transfer)
        if kind == "readout":  # of white noise it is no part of its own
            costs = np.where(white, np.inf, costs + COST_OF_READOUT)
        elif kind != "noise":
            energies = amounts * parts[:, :, FAST].mean(2)
            share = energies[:, 1] / np.maximum(energies.sum(1), 1e-300)
            costs = costs + COST_OF_TEXTURE + COST_OF_STRENGTH * share
        costs = costs + against_slopes
        i = int(np.argmin(costs + correlated))
        cost = float(costs[i] + correlated[i])
        choices.append(_Choice(cost, spreads[i], kind, amounts[i], costs))
    return min(choices, key=lambda choice: choice.cost)


def _misfit_of_levels(parts: Floats, transfer: _Transfer) -> tuple[Floats, Floats]:
    """Fit (G, k, 64) parts to the levels of the fast coefficients.

    Energies have gamma distributions; this is Fisher's scoring for their deviance.

    Returns
    -------
    amounts : (G, k) array
    misfit : (G,) array
        The deviance; infinite where an amount would be negative.
    """
    level = transfer.level[FAST] / np.median(np.abs(transfer.level[FAST]))
    level = np.maximum(level, 0.01)
    parts = parts[:, :, FAST]
    error = transfer.level_error[FAST].sum() / np.abs(transfer.level[FAST]).sum()
    certainty = 2 / (error**2 + MODEL_ERROR**2)
    model = np.broadcast_to(level, (len(parts), level.size))
    amounts = np.zeros(parts.shape[:2])
    ridge = 1e-9 * np.eye(parts.shape[1])
    for _ in range(4):
        weighted = parts / model[:, np.newaxis] ** 2
        normal = np.einsum("gin,gjn->gij", weighted, parts)
        normal += ridge * np.trace(normal, axis1=1, axis2=2)[:, np.newaxis, np.newaxis]
        target = weighted @ level
        amounts = np.linalg.solve(normal, target[..., np.newaxis])[..., 0]
        model = np.einsum("gi,gin->gn", amounts, parts)
        model = np.maximum(model, 0.03 * level)
    ratio = level / model
    misfit = certainty * (ratio - 1 - np.log(ratio)).sum(1)
    amounts *= np.median(np.abs(transfer.level[FAST]))
    return amounts, np.where((amounts < 0).any(1), np.inf, misfit)


def _misfit_of_slopes(spectra: Floats, transfer: _Transfer) -> Floats:
    """Say how badly noise and structure of each spectrum explain the slopes.

    White readout noise has no slope, so it cannot feign a floor of white shot noise here.
    """
    slope = transfer.slope[FAST]
    weight = 1 / (np.hypot(transfer.slope_error[FAST], MODEL_ERROR * slope) + 1e-9)
    parts = _parts(4, spectra)[:, :, FAST] * weight
    normal = np.einsum("gin,gjn->gij", parts, parts)
    target = parts @ (slope * weight)
    amounts = np.linalg.solve(normal, target[..., np.newaxis])[..., 0]
    misfit = ((np.einsum("gi,gin->gn", amounts, parts) - slope * weight) ** 2).sum(1)
    return misfit - misfit.min()


class _Line(NamedTuple):
    """Variance over mean, as if noise were white, and without structure and readout."""

    centre: float  # the mean at which `level` holds
    level: float
    slope: float
    covariance: Floats  # (2, 2), of level and slope
    means: Floats  # (B,), of the blocks
    values: Floats  # (2, B), of the blocks
    weight: Floats  # (2, B)

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


def _line(blocks: Blocks, transfer: _Transfer, shape: _Shape) -> _Line:
    """Fit the line of variance over mean to all coefficients at once."""
    values, spreads = [], []
    for half in HALVES:
        cells = FAST & half
        parts = shape.parts[:, cells]
        weighted = parts / shape.energy[cells] ** 2
        share = np.linalg.solve(weighted @ parts.T, weighted)[0]
        values.append(blocks.energy[:, cells] @ share)
        spreads.append(np.sqrt(2 * ((share * shape.energy[cells]) ** 2).sum()))
    energy, spread = np.stack(values), np.array(spreads)[:, np.newaxis]
    design, weight = transfer.design, transfer.weight
    spread = spread / max(shape.level, 1e-9 * float(shape.energy.mean()))
    both = np.concatenate([design, design])
    line, inverse = _solve(both, energy.ravel(), weight.ravel())
    for _ in range(2):
        model = np.maximum(design @ line, 0.1 * abs(line[0]))
        weight = transfer.weight * (np.abs(energy - model) < OUTLIER * spread * model)
        line, inverse = _solve(both, energy.ravel(), weight.ravel())
    scores = ((energy - design @ line) * weight).sum(0)[:, np.newaxis] * design
    return _Line(
        centre=float(np.median(blocks.mean)),
        level=float(line[0]),
        slope=float(line[1]),
        covariance=inverse @ (scores.T @ scores) @ inverse,
        means=blocks.mean,
        values=energy,
        weight=weight,
    )


# ------------------------------------------------------------------------- the estimate


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
    transfer = _photon_transfer(blocks)
    if not np.median(transfer.level[FAST]) > 0:
        return None
    shape = _noise_shape(transfer)
    few = len(blocks.mean) < 2 * FEWEST_BLOCKS  # in which white noise looks correlated
    if blocks.step and (few or max(shape.correlation) < WEAK):
        white = _noise_shape(transfer, only_white=True)
        counter = _counter(blocks.step, _line(blocks, transfer, white), transfer, offset)
        if counter is not None:
            return counter
    shared = blocks.step and min(shape.correlation) > WEAK
    if shared and _floor_of_counts(blocks, transfer, shape, offset or 0.0):
        return _counts(blocks.step, offset)
    line = _line(blocks, transfer, shape)
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
    step: float, line: _Line, transfer: _Transfer, offset: float | None
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


def _textured_counts(step: float, line: _Line, transfer: _Transfer, dark: float) -> bool:
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


def _floor_of_counts(
    blocks: Blocks, transfer: _Transfer, shape: _Shape, dark: float
) -> bool:
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


def _camera(blocks: Blocks, shape: _Shape, line: _Line, offset: float | None) -> Estimate:
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
