"""How wrong a denoised image is, estimated without the truth.

The residual, what a denoiser took out, is the noise less what the denoiser kept of it, plus
what it lost of the specimen. How much noise a denoiser keeps shows when a small part of the
electrons is taken away: that is its `Response`. With noise of variance v in a pixel, of
which the denoiser keeps the share k, squares have the means

    residual**2 = v - 2 k v + error**2,

whatever the denoiser and the specimen are (Stein's lemma). So the mean squared error
follows from two passes, `estimated_risk`. The best denoiser for a kind of specimens
moreover errs by k v (Tweedie's formula) and leaves a residual of v - k v: less than the
noise. `residual_levels` and `residual_whiteness` compare residuals with that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from emdn.detector import MODEL_ERROR, Detector, Estimate
from emdn.spectrum import radial_spectrum, windowed_power
from emdn.trust.sound import Sound
from emdn.trust.thinning import electrons, thin
from emdn.whitening import Whitening

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Denoise = Callable[[NDArray, Detector], NDArray]

# Share of the dose that is taken away to see the response. The error of an estimate grows
# with it; of a smaller one, computers that round to 8 bits would see little.
STEP = 0.01
DARK = 0.05  # of the mean variance, below which no pixel's is taken to be
# Frequencies that share their noise after a Hann window, whose neighbours correlate by 2/3
# and next ones by 1/6, along rows and columns.
HANN = (1 + 2 * ((2 / 3) ** 2 + (1 / 6) ** 2)) ** 2


class Response(NamedTuple):
    """What a denoiser makes of an image, and how much noise it keeps.

    Parameters
    ----------
    denoised : (H, W) float64 array
        In units of the image.
    variance : (H, W) float64 array
        Of the noise in each pixel, in squared units of the image. It is taken from the
        noisy pixels and right in the mean.
    kept : (H, W) float64 array
        Covariance of the noise in a noisy and in the denoised pixel, in the same units. It
        is right in the mean too.
    passed : (H, W) float64 array
        Variance that the noise of all pixels causes in the denoised one.
    shared : float
        How much more the mean square of shared noise scatters than that of white noise, as
        a factor of its variance; 1 for white noise.
    judged : (H, W) bool array
        Where pixels are an image; elsewhere the maps mean nothing.
    """

    denoised: Floats
    variance: Floats
    kept: Floats
    passed: Floats
    shared: float
    judged: Bools


@dataclass(frozen=True)
class Risk:
    """The error of a denoised image, as far as the noisy one tells it.

    Parameters
    ----------
    mse : float
        Estimate of the mean squared error, in squared units of the image. It is unbiased
        for every denoiser and may fall below 0 by chance.
    error : float
        Its standard error.
    noise : float
        Mean variance of the noise.
    kept : float
        Share of that variance that the denoiser keeps: 1 if it does nothing.
    """

    mse: float
    error: float
    noise: float
    kept: float

    @property
    def expected(self) -> float:
        """Mean squared error of the best denoiser that keeps so much noise.

        It has hardly any standard error, but holds only for specimens as those that the
        denoiser was trained on. An `mse` that lies above says that this is another one, as
        a lattice, where the shipped weights err by up to 1.3 times what is expected.
        """
        return self.kept * self.noise

    @property
    def residual(self) -> float:
        """Deviation of the residual, over that of the noise, of such a denoiser."""
        return float(np.sqrt(max(1 - self.kept, 0)))


class Levels(NamedTuple):
    """Variance of the residual against the level of the image.

    Parameters
    ----------
    level : (L,) float64 array
        Mean of the denoised pixels, in units of the image, from the darkest to the
        brightest.
    residual, noise, expected : (L,) float64 array
        Mean square of the residual there, the variance of the noise, and what the residual
        of the best denoiser has: the noise less what the denoiser keeps.
    """

    level: Floats
    residual: Floats
    noise: Floats
    expected: Floats


class Whiteness(NamedTuple):
    """What is left of the specimen in the residual.

    Parameters
    ----------
    frequency, power : (min(H, W) // 2,) float64 array
        Cycles per pixel, and the power of the residual there over that of the noise. A good
        denoiser leaves no more than 1, and less where it keeps noise.
    chance : float
        Probability, at most, that noise alone is anywhere as strong: in a ring of
        frequencies or in a single one, as of a lattice. If it is small, the denoiser took
        structure out, or the noise is stronger than the detector says.
    """

    frequency: Floats
    power: Floats
    chance: float


def respond(
    denoise: Denoise,
    image: ArrayLike | Sound,
    detector: Detector,
    rng: np.random.Generator,
    *,
    mask: ArrayLike | None = None,
    probes: int = 1,
) -> Response:
    """Denoise an image, and again without a few of its electrons.

    Parameters
    ----------
    denoise : callable
        Takes an (H, W) image and its detector, and returns the denoised image:
        ``lambda image, detector: denoiser.denoise(image, detector=detector)``.
    image : (H, W) array or Sound
        The noisy image. The denoiser sees it with neighbours in place of what is masked,
        not finite or a bar, see `Sound`.
    detector : Detector
        What an electron does to a pixel, told or measured.
    rng : numpy.random.Generator
        Source of randomness.
    mask : (H, W) array of bool, optional
        True where a pixel is not to be believed.
    probes : int
        Times that a few are taken away; of `kept` and `passed` the mean is returned.

    References
    ----------
    S. Ramani, T. Blu and M. Unser, "Monte-Carlo SURE", IEEE Transactions on Image
    Processing 17 (2008), 1540-1554.

    Y. Le Montagner, E. D. Angelini and J.-C. Olivo-Marin, "An unbiased risk estimator for
    image denoising in the presence of mixed Poisson-Gaussian noise", IEEE Transactions on
    Image Processing 23 (2014), 1255-1268.
    """
    sound = Sound.of(image, mask)
    noisy = sound.image
    dark, most = detector.offset, 1 - STEP
    denoised = denoise(noisy, detector).astype(np.float64)
    kept, passed = np.zeros_like(noisy), np.zeros_like(noisy)
    for _ in range(probes):
        thinned = thin(noisy, detector, most, rng)
        fewer = denoise(thinned.first, thinned.detectors[0]).astype(np.float64)
        coins = (thinned.first - dark) - most * (noisy - dark)
        moved = (fewer - dark) - most * (denoised - dark)
        kept += coins * moved / (STEP * most * probes)
        passed += moved**2 / (STEP * most * probes)
    variance, spread = _noise(noisy, noisy, detector)
    strength, shared = 1.0, 1.0
    if spread is not None:
        power = 1 / np.abs(spread.filter) ** 2
        strength, shared = power.mean(), (power**2).mean() / power.mean() ** 2
    maps = denoised, strength * variance, kept, passed
    return Response(*maps, float(shared), sound.judged)


def noise_error_of(estimate: Estimate | None) -> float:
    """Return the relative standard error of the variance of the noise.

    Parameters
    ----------
    estimate : Estimate or None
        How the detector was measured. One that was told, or that counts, has no error.
    """
    return 0.0 if estimate is None or estimate.counting else MODEL_ERROR


def estimated_risk(
    image: ArrayLike | Sound, response: Response, noise_error: float = 0.0
) -> Risk:
    """Estimate the mean squared error of a denoised image.

    Parameters
    ----------
    image : (H, W) array or Sound
        The noisy image.
    response : Response
        What the denoiser makes of it, from `respond`, and which pixels count.
    noise_error : float
        Relative standard error of the variance of the noise, from `noise_error_of`, where
        the detector was measured.

    Notes
    -----
    The standard error is about that of the noise's own mean square over N pixels, the
    square root of 2 / N times the noise's variance. So the estimate is given with it: an
    error below 14 / sqrt(N) of that variance, 3 % for 512 x 512 pixels, cannot be told
    within a tenth. On validation crops of that size 23 of 30 estimates are within a tenth
    of the truth. The others, all of errors below 6 % of the noise, are within two standard
    errors of it (studies/results/trust_risk.csv).

    No estimate that is right in the mean for every specimen scatters less. Pixels of
    independent noise are a complete statistic, so there is but one such estimate that
    depends on them alone, and what would cancel the noise's own power must know the
    specimen.

    References
    ----------
    E. L. Lehmann and H. Scheffe, "Completeness, similar regions, and unbiased estimation",
    Sankhya 10 (1950), 305-340.

    P. C. Bellec and C.-H. Zhang, "Second-order Stein: SURE for SURE and other applications
    in high-dimensional inference", Annals of Statistics 49 (2021), 1864-1903.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.mgrid[:256, :256]
    >>> clean = 20 + 10 * np.sin(x / 8) * np.cos(y / 8)
    >>> noisy, counter = rng.poisson(clean), Detector(1.0)
    >>> response = respond(lambda image, _: gaussian_filter(image, 2), noisy, counter, rng)
    >>> risk = estimated_risk(noisy, response)
    >>> truth = np.mean((response.denoised - clean) ** 2)
    >>> print(f"{risk.mse:.2f} +- {risk.error:.2f}, in truth {truth:.2f}")
    0.51 +- 0.12, in truth 0.51
    """
    square, variance, kept, passed = (
        each[response.judged]
        for each in (
            _squares(image, response),
            response.variance,
            response.kept,
            response.passed,
        )
    )
    noise, keeps = float(variance.mean()), float(kept.mean())
    scatter = np.mean(variance * (4 * square - 2 * variance + 4 * passed))
    scatter += 8 * kept.var()  # of the coins
    mse = float(square.mean()) - noise + 2 * keeps
    error = np.sqrt(max(scatter, 0) * response.shared / square.size)
    error = np.hypot(error, noise_error * (noise - 2 * keeps))
    return Risk(mse, float(error), noise, keeps / noise if noise > 0 else 1.0)


def residual_levels(
    image: ArrayLike | Sound, response: Response, levels: int = 16
) -> Levels:
    """Compare the residual with the noise, from dark to bright.

    Parameters
    ----------
    image : (H, W) array or Sound
        The noisy image.
    response : Response
        What the denoiser makes of it, from `respond`, and which pixels count.
    levels : int
        Number of levels, which hold about as many pixels each.
    """
    square = _squares(image, response)
    judged = response.judged
    order = np.argsort(response.denoised[judged])
    parts = np.array_split(order, levels)

    def means(values: NDArray) -> Floats:
        return np.array([values[judged][part].mean() for part in parts])

    noise = means(response.variance)
    expected = noise - means(response.kept)
    return Levels(means(response.denoised), means(square), noise, expected)


def residual_whiteness(
    image: ArrayLike | Sound,
    denoised: ArrayLike,
    detector: Detector,
    *,
    mask: ArrayLike | None = None,
) -> Whiteness:
    """Look for structure in what the denoiser took out.

    Parameters
    ----------
    image, denoised : (H, W) array
        The noisy image, which may be a Sound, and the denoised one. Looked at is their
        largest rectangle without bars, margins and masked areas, which must be at least 8
        pixels high and wide.
    detector : Detector
        What an electron does to a pixel, told or measured.
    mask : (H, W) array of bool, optional
        True where a pixel is not to be believed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clean = 20 + 5 * np.sin(np.arange(128) / 2) * np.ones((128, 1))
    >>> noisy, blank = rng.poisson(clean), np.full(clean.shape, 20.0)
    >>> for denoised in (clean, blank):
    ...     print(residual_whiteness(noisy, denoised, Detector(1.0)).chance < 0.01)
    False
    True
    """
    sound = Sound.of(image, mask)
    wide, found = sound.image, sound.beside(denoised)
    variance, spread = _noise(wide, found, detector)
    left = wide - found if spread is None else spread.apply(wide - found)
    left, variance, judged = (each[sound.window] for each in (left, variance, sound.judged))
    deviation = np.sqrt(np.maximum(variance, DARK * variance.mean()))
    residual = np.where(judged, left / deviation, 0.0) / np.sqrt(judged.mean())
    frequency, power = radial_spectrum(residual)
    step = frequency[1] - frequency[0]
    counts = (
        np.pi * frequency * step * residual.size / HANN
    )  # of the half that is not double
    rings = len(power) * norm.sf((power - 1) * np.sqrt(counts)).min()
    strongest = residual.size / 2 * np.exp(-windowed_power(residual).max())
    return Whiteness(frequency, power, float(min(1.0, 2 * min(rings, strongest))))


def _squares(image: ArrayLike | Sound, response: Response) -> Floats:
    """Return the squares of the residual; of pixels that are no image they mean nothing."""
    noisy = image.image if isinstance(image, Sound) else np.ma.getdata(image)
    return (np.asarray(noisy, np.float64) - response.denoised) ** 2


def _noise(
    image: Floats, level: Floats, detector: Detector
) -> tuple[Floats, Whitening | None]:
    """Return the variance of an image's noise at a level, and how neighbours share it.

    The variance is that of the noise once it is white, in squared units of the image.
    """
    spread = Whitening.of(image, detector) if any(detector.correlation) else None
    white = level if spread is None else spread.apply(level)
    variance = electrons(white, detector) + detector.readout**2
    return detector.gain**2 * variance, spread
