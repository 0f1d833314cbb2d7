"""The spectrum of the noise: what correlates it, and what passes for noise beside it.

A point spread and a memory take energy of the noise from fast frequencies, in each block by
the same factor. The spectra of all that are possible are compared with the energies of an
image: alone, with structure as fine as pixels, and with white readout noise. The likeliest
explanation is taken. Whatever it holds besides white noise has a cost.

Noise behind a point spread with a tail looks like structure as fine as pixels. But noise is
everywhere. So where nearly all blocks are alike, what would be structure that holds about
half of their energy can be taken for noise. Where many blocks differ there is structure as
fine as pixels, and sharp only to a point: what lenses and smaller copies of an image let
through looks like noise behind a very wide Gaussian, of which none is then believed.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import toeplitz

from emdn.detector.blocks import COSINES, FAST, SIDE, TRANSFORM, U, V
from emdn.detector.model import (
    Mtf,
    Spread,
    autocorrelation,
    covariance,
    kernels,
    neighbours,
    shared,
)
from emdn.detector.photon_transfer import Transfer

Floats = NDArray[np.float64]

WIDEST = 0.8  # pixels, standard deviation of the widest point spread that is looked for
WIDEST_AMID = 0.6  # and of the widest amid fine structure
DECAY = (1.5, 4.5)  # of the exponential MTFs that are looked for
MOST_MEMORY = 0.6  # share of a pixel's signal that goes to the next at most
DECAYS = (2, 4, 8)  # powers of frequency with which the energy of fine structure falls
KINDS = ("noise", *DECAYS, "readout")  # what may be beside the noise, if anything is

# Settings of the estimator. studies/weights/detector.py measures what they achieve.
MODEL_ERROR = 0.05  # relative deviation of real noise spectra from their model
COST_OF_CORRELATION = 30.0  # twice a log-likelihood, to believe in correlated noise
COST_OF_TEXTURE = 10.0  # and to believe in fine structure that is in all blocks
COST_OF_STRENGTH = 15.0  # times the share that this structure has in the energy
COST_OF_READOUT = 5.0  # and in white noise beside the correlated noise
# Blocks are alike that have no more energy than smooth ones as bright.
AMID = 0.8  # share of blocks that are alike, up to which WIDEST_AMID holds
ALIKE = 0.9  # share of blocks that are alike, from where on MOST_TEXTURE holds
MOST_TEXTURE = 0.45  # largest share of the energy that may be structure


class Shape(NamedTuple):
    """How the energy of the noise is spread over the coefficients."""

    correlation: tuple[float, float]
    mtf: Mtf
    correlation_error: float
    parts: Floats  # (k, 64): noise of 1, and structure or readout if there is any
    energy: Floats  # (64,), of all parts as they are
    structured: bool  # whether fine structure is in all blocks
    level: float  # of the noise
    readout: float  # energy of white noise beside correlated noise
    misfit: float  # of the best explanation, with the cost of what is beside the noise


def noise_shape(
    transfer: Transfer, *, only_white: bool = False, alike_is_noise: bool = False
) -> Shape:
    """Find the point spread and memory that explain how energy falls with frequency.

    Twice the negative log-likelihood is least, plus a cost for each thing to believe in.

    Parameters
    ----------
    transfer : Transfer
        The energies of the noise.
    only_white : bool
        Whether no correlation is looked for, but for what is beside white noise.
    alike_is_noise : bool
        Whether point spreads with a tail are looked for as well, and not much structure is
        believed where nearly all blocks are alike.
    """
    alike = alike_is_noise and transfer.alike > ALIKE
    widest = WIDEST if transfer.alike > AMID else WIDEST_AMID
    tried = _coarse(widest, alike_is_noise)[: 1 if only_white else None]
    choice = _cheapest(tried, transfer, alike)
    deviation = 0.0
    step = np.array(Spread(width=0.04, memory=0.05, decay=0.25))
    for halving in range(0 if only_white else 3):
        tried = _finer(choice.spread, step / 2**halving, widest)
        choice = _cheapest(tried, transfer, alike)
        if halving == 0:
            deviation = _deviation(tried, choice)
    spectrum, correlation = _spectrum(choice.spread)
    parts = spectrum[np.newaxis]
    if choice.kind != "noise":
        parts = np.stack([spectrum, _beside(spectrum)[KINDS.index(choice.kind) - 1]])
    return Shape(
        correlation,
        "exponential" if choice.spread.decay > 0 else "gaussian",
        float(np.hypot(deviation, 0.02)),
        parts,
        choice.amounts[: len(parts)] @ parts,
        choice.kind in DECAYS,
        float(choice.amounts[0]),
        float(choice.amounts[1]) if choice.kind == "readout" else 0.0,
        float(choice.costs.min()),
    )


@cache
def _coarse(widest: float, tails: bool) -> list[Spread]:
    """Return the spreads that are tried first; the first one is white."""
    widths = np.append(0.0, np.arange(0.24, widest + 0.01, 0.08))
    memories = np.arange(-MOST_MEMORY, MOST_MEMORY + 0.01, 0.1).round(1)
    spreads = [Spread(float(w), float(m)) for w in widths for m in memories]
    decays = np.arange(DECAY[0], DECAY[1] + 0.1, 0.5) if tails else []
    spreads += [Spread(decay=float(decay)) for decay in decays]
    return [Spread(), *(spread for spread in spreads if any(spread))]


def _finer(spread: Spread, step: Floats, widest: float) -> list[Spread]:
    """Return a spread and its neighbours at a step, after that of white noise."""
    moves = np.array([(i, j, 0) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    if spread.decay > 0:
        moves = np.array([(0, 0, i) for i in (-1, 0, 1)])
    around = np.array(spread) + moves * step
    if spread.width == 0 == spread.decay:  # a width below 0.2 pixels reaches no neighbour
        around[:, 0] = np.where(moves[:, 0] > 0, 0.2 + step[0], 0.0)
    around[:, 0] = np.clip(around[:, 0], 0, widest)
    around[:, 1] = np.clip(around[:, 1], -MOST_MEMORY, MOST_MEMORY)
    if spread.decay > 0:
        around[:, 2] = np.clip(around[:, 2], *DECAY)
    every = np.unique(np.vstack([np.array(Spread()), around]).round(5), axis=0)
    return [Spread(*map(float, each)) for each in every]


class _Choice(NamedTuple):
    """The best explanation of a spectrum among several."""

    spread: Spread
    kind: str | int  # of `KINDS`
    amounts: Floats  # (2,), of the noise and of what is beside it
    costs: Floats  # (G,), of all spreads that were tried with this kind


def _cheapest(spreads: list[Spread], transfer: Transfer, alike: bool) -> _Choice:
    """Try noise alone, with structure and with readout, for several spreads.

    Where blocks are alike, structure has no large share, and none beside a tail.
    """
    spectra = np.stack([_spectrum(spread)[0] for spread in spreads])
    beside = _beside(spectra)
    amounts, costs = _misfit_of_levels(spectra, beside, transfer)
    costs += _misfit_of_slopes(spectra, transfer)
    noise = amounts[1:, :, 0] * spectra[:, FAST].mean(1)
    other = amounts[1:, :, 1] * beside[..., FAST].mean(2)
    share = other / np.maximum(noise + other, 1e-300)
    costs[1:-1] += COST_OF_TEXTURE + COST_OF_STRENGTH * share[:-1]
    if alike:
        tail = np.array([spread.decay > 0 for spread in spreads])
        costs[1:-1][tail | (share[:-1] > MOST_TEXTURE)] = np.inf
    white = np.array([not any(spread) for spread in spreads])
    costs[-1] += np.where(white, np.inf, COST_OF_READOUT)  # of white noise it is no part
    total = costs + np.where(white, 0.0, COST_OF_CORRELATION)
    kind, i = np.unravel_index(np.argmin(total), total.shape)
    return _Choice(spreads[i], KINDS[kind], amounts[kind, i], costs[kind])


@cache
def _spectrum(spread: Spread) -> tuple[Floats, tuple[float, float]]:
    """Return what a detector does to white noise of 1.

    Returns
    -------
    spectrum : (64,) array
        Energy of each coefficient.
    correlation : (float, float)
        Correlation of neighbours in a row and in a column.
    """
    if spread.decay > 0:
        behind = covariance(spread.decay)
        places = np.indices((SIDE, SIDE)).reshape(2, -1)
        rows, columns = places[:, :, np.newaxis] - places[:, np.newaxis]
        energy = ((TRANSFORM @ behind[rows, columns]) * TRANSFORM).sum(1)
        return energy, (shared(behind), shared(behind))
    down, along = kernels(spread.width, spread.memory)
    axes = [
        ((COSINES @ toeplitz(autocorrelation(kernel, SIDE))) * COSINES).sum(1)
        for kernel in (down, along)
    ]
    return np.outer(*axes).ravel(), (neighbours(along), neighbours(down))


def _beside(spectra: Floats) -> Floats:
    """Return (4, ..., 64) parts that may be beside noise: structure, and readout."""
    structure = [spectra * _structure(decay) for decay in DECAYS]
    return np.stack([*structure, np.ones_like(spectra)])


@cache
def _structure(decay: int) -> Floats:
    """Return how the energy of fine structure is spread over the coefficients."""
    squared = np.maximum(U**2 + V**2, 1)
    return np.minimum((49.0 / squared) ** (decay / 2), 1e6)


def _misfit_of_levels(
    noise: Floats, beside: Floats, transfer: Transfer
) -> tuple[Floats, Floats]:
    """Fit (G, 64) noise, alone and with each of (K, G, 64) others, to the levels.

    Energies have gamma distributions. The likeliest amount of one part is a mean; those of
    two are found by Fisher's scoring.

    Returns
    -------
    amounts : (1 + K, G, 2) array
        Of the noise, and of what is beside it.
    misfit : (1 + K, G) array
        The deviance; infinite where an amount would be negative.
    """
    unit = np.median(np.abs(transfer.level[FAST]))
    level = np.maximum(transfer.level[FAST] / unit, 0.01)
    error = transfer.level_error[FAST].sum() / np.abs(transfer.level[FAST]).sum()
    certainty = 2 / (error**2 + MODEL_ERROR**2)
    noise, beside = noise[:, FAST], beside[..., FAST]
    amounts = np.zeros((1 + len(beside), len(noise), 2))
    amounts[0, :, 0] = (level / noise).mean(1)
    both = np.broadcast_to(level, beside.shape)
    for _ in range(4):
        amounts[1:] = _two_parts(noise, beside, level, 1 / both**2)
        both = amounts[1:, :, :1] * noise + amounts[1:, :, 1:] * beside
        both = np.maximum(both, 0.03 * level)
    ratio = level / np.concatenate([amounts[:1, :, :1] * noise, both])
    misfit = certainty * (ratio - 1 - np.log(ratio)).sum(2)
    return unit * amounts, np.where((amounts < 0).any(2), np.inf, misfit)


def _misfit_of_slopes(spectra: Floats, transfer: Transfer) -> Floats:
    """Say how badly noise and structure of each spectrum explain the slopes.

    White readout noise has no slope, so it cannot feign a floor of white shot noise here.
    """
    slope = transfer.slope[FAST]
    error = np.hypot(transfer.slope_error[FAST], MODEL_ERROR * slope) + 1e-9
    noise, structure = spectra[:, FAST], (spectra * _structure(4))[:, FAST]
    amounts = _two_parts(noise, structure, slope, error**-2)
    both = amounts[:, :1] * noise + amounts[:, 1:] * structure
    misfit = (((both - slope) / error) ** 2).sum(1)
    return misfit - misfit.min()


def _two_parts(first: Floats, second: Floats, values: Floats, weight: Floats) -> Floats:
    """Return the (..., 2) amounts of two parts by weighted least squares."""
    of_first, of_second = weight * first, weight * second
    a, b, c = (
        (x * y).sum(-1)
        for x, y in ((of_first, first), (of_first, second), (of_second, second))
    )
    ridge = 1e-9 * (a + c)  # of two parts that are alike
    a, c = a + ridge, c + ridge
    p, q = (of_first * values).sum(-1), (of_second * values).sum(-1)
    amounts = np.stack([c * p - b * q, a * q - b * p], axis=-1)
    return amounts / (a * c - b * b)[..., np.newaxis]


def _deviation(tried: list[Spread], choice: _Choice) -> float:
    """Return the deviation of the correlation among spreads, by their likelihood."""
    likelihood = np.exp(-0.5 * (choice.costs - choice.costs.min()))
    likelihood /= likelihood.sum()
    correlation = np.array([_spectrum(spread)[1] for spread in tried])
    chosen = np.array(_spectrum(choice.spread)[1])
    return float(np.sqrt(likelihood @ (correlation - chosen) ** 2).max())
