"""How little dose a specimen needs: a good image, exposed anew at several doses."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emdn.detector import Detector
from emdn.metrics import ssim
from emdn.scaling import Scaling
from emdn.trust.resolution import WITH_TRUTH, ring_correlation
from emdn.trust.risk import Denoise
from emdn.trust.sound import Sound

DOSES = (3.0, 10.0, 30.0, 100.0, 300.0)  # electrons a pixel in the mean


class Exposure(NamedTuple):
    """What is left of a good image at one dose.

    Parameters
    ----------
    dose : float
        Electrons a pixel in the mean.
    error : float
        Root of the mean squared error of the denoised image, over the deviation of the good
        one: 1 says that nothing is left.
    noise : float
        The same of the noisy image.
    ssim : float
        Structural similarity of the denoised and the good image.
    resolution : float
        Finest full period, in pixels, that the denoised image has right, where its Fourier
        ring correlation with the good image falls below 1/2; infinite if none is.
    """

    dose: float
    error: float
    noise: float
    ssim: float
    resolution: float


def expose(
    good: ArrayLike | Sound,
    denoise: Denoise,
    rng: np.random.Generator,
    doses: Sequence[float] = DOSES,
    *,
    mask: ArrayLike | None = None,
) -> list[Exposure]:
    """Expose a good image at several doses, and denoise what comes of it.

    Parameters
    ----------
    good : (H, W) array or Sound
        An image of the specimen with little noise. Its own noise is taken for structure, so
        a resolution that it does not reach itself is not promised. Its darkest level stands
        for no electrons. Its largest rectangle without bars, margins and masked areas is
        exposed.
    denoise : callable
        Takes an (H, W) image and its detector, and returns the denoised image.
    rng : numpy.random.Generator
        Source of randomness.
    doses : sequence of float
        Electrons a pixel in the mean, above 0.
    mask : (H, W) array of bool, optional
        True where a pixel is not to be believed.

    Raises
    ------
    ValueError
        If the good image is constant, or a dose is not positive.
    """
    sound = Sound.of(good, mask)
    shown = sound.image[sound.window]
    clean = np.maximum(Scaling.fit(shown).apply(shown), 0.0)
    if not clean.std() > 0:
        raise ValueError("the image must not be constant")
    if not all(0 < dose < np.inf for dose in doses):
        raise ValueError(f"doses must be positive, got {list(doses)}")
    return [_expose(clean / clean.mean(), denoise, rng, dose) for dose in doses]


def _expose(
    clean: NDArray, denoise: Denoise, rng: np.random.Generator, dose: float
) -> Exposure:
    """Expose an image of mean 1."""
    counts = rng.poisson(dose * clean).astype(np.float32)
    found = denoise(counts, Detector(1.0)) / dose
    scale = float(clean.std())
    span = float(clean.max())
    return Exposure(
        dose,
        float(np.sqrt(np.mean((found - clean) ** 2))) / scale,
        float(np.sqrt(np.mean((counts / dose - clean) ** 2))) / scale,
        ssim(clean, found, data_range=span),
        ring_correlation(found, clean, WITH_TRUTH).resolution(),
    )


def least(exposures: Sequence[Exposure], period: float) -> float | None:
    """Return the lowest dose from which on a period is right, or None.

    Parameters
    ----------
    exposures : sequence of Exposure
        In the order of their doses.
    period : float
        Full period of the wanted detail, in pixels.
    """
    enough = None
    for each in reversed(exposures):
        if each.resolution > period:
            break
        enough = each.dose
    return enough
