"""How far off each pixel of a denoised image may be.

The best denoiser for a kind of specimens errs, in the mean square, by as much as it keeps
of the noise (Tweedie's formula), and that shows when a few electrons are taken away.
So the map follows from the network itself: it is large where the network lets noise pass,
at edges, faint atoms and fine texture, and small where it averages over much. Specimens
that are not like those it was trained on raise the whole map, as far as the risk of the
image says, which needs no truth either.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from emdn.detector import Detector
from emdn.trust.risk import Denoise, Response, Risk, estimated_risk, respond
from emdn.trust.sound import Sound

Floats = NDArray[np.float64]

PROBES = 4  # times that a few electrons are taken away
# Settings that studies/trust/uncertainty.py chose on the training and validation splits.
REACH = 3.0  # pixels, standard deviation of the Gaussian over which probes are averaged
OWN = 0.75  # share of a pixel's variance that its surroundings say, and not the whole image
SPECIMENS = 0.15  # relative deviation of the risk from what the noise kept says
SURE = 2.0  # standard errors, by which a risk below 0 says that the noise was misread


class Uncertainty(NamedTuple):
    """What may be wrong with a denoised image.

    Parameters
    ----------
    denoised : (H, W) float64 array
        The denoised image.
    deviation : (H, W) float64 array
        Standard deviation of the error of each pixel, in units of the image; NaN where
        there is no image.
    risk : Risk
        The mean squared error, as the counts tell it.
    response : Response
        What the denoiser keeps of the noise, in the mean of all probes.
    """

    denoised: Floats
    deviation: Floats
    risk: Risk
    response: Response


def estimated_uncertainty(
    denoise: Denoise,
    image: ArrayLike | Sound,
    detector: Detector,
    rng: np.random.Generator,
    *,
    mask: ArrayLike | None = None,
    noise_error: float = 0.0,
    probes: int = PROBES,
) -> Uncertainty:
    """Denoise an image and tell how far off each pixel may be.

    Parameters
    ----------
    denoise : callable
        Takes an (H, W) image and its detector, and returns the denoised image.
    image : (H, W) array or Sound
        The noisy image. The denoiser sees it with neighbours in place of what is masked,
        not finite or a bar, see `Sound`.
    detector : Detector
        What an electron does to a pixel, told or measured.
    rng : numpy.random.Generator
        Source of randomness.
    mask : (H, W) array of bool, optional
        True where a pixel is not to be believed.
    noise_error : float
        Relative standard error of the variance of the noise, where the detector was
        measured, from `emdn.trust.risk.noise_error_of`. The map is widened by as much.
    probes : int
        Times that a few electrons are taken away; each takes as long as the denoising.

    Notes
    -----
    On 64 exposures of the test split by four detectors, which were measured in each image,
    one deviation covers 60 to 76 % of the errors in 57, and 1.96 cover 92 to 98 % in 59.
    In most of the others the noise was misread, as of a scintillator at hundreds of
    electrons: of the 45 whose noise was read within a tenth they are 43 and 44
    (studies/results/trust_uncertainty.csv).

    References
    ----------
    B. Efron, "Tweedie's formula and selection bias", Journal of the American Statistical
    Association 106 (2011), 1602-1614.
    """
    sound = Sound.of(image, mask)
    response = respond(denoise, sound, detector, rng, probes=probes)
    risk = estimated_risk(sound, response, noise_error)
    deviation = (1 + noise_error) * _deviation(response, risk)
    return Uncertainty(response.denoised, deviation, risk, response)


def _deviation(response: Response, risk: Risk) -> Floats:
    """Return the standard deviation of the error of each pixel."""
    judged = response.judged
    kept, share = (
        gaussian_filter(np.where(judged, each, 0.0), REACH)[judged]
        for each in (response.kept, 1.0)
    )
    kept = np.maximum(kept / share, 0.0)
    mean = float(kept.mean())
    relative = kept / mean if mean > 0 else np.ones_like(kept)
    deviation = np.full(judged.shape, np.nan)
    deviation[judged] = np.sqrt((OWN * relative + 1 - OWN) * _level(risk))
    return deviation


def _level(risk: Risk) -> float:
    """Return the mean squared error that both say, each weighted by its certainty.

    Of a specimen that the network does not know, the noise that it keeps says too little.
    """
    if risk.expected <= 0:
        return max(risk.mse, 0.0)
    if risk.mse < -SURE * risk.error:
        return risk.expected
    says = np.array([risk.expected, risk.mse])
    weights = (
        np.array([SPECIMENS * risk.expected, max(risk.error, 1e-9 * risk.noise)]) ** -2
    )
    return max(float(weights @ says / weights.sum()), risk.mse - SURE * risk.error, 0.0)
