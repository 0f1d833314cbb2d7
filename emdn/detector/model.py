"""A detector as a model: what an electron does to a pixel, applied to a clean image.

The signal of an electron spreads in two ways. A point spread reaches all neighbours alike;
a memory, of an amplifier that is slow, reaches those that are read later. Both keep the
counts and correlate the noise. A point spread is a Gaussian, or it has a tail, as where
light or electrons are scattered in a scintillator: its modulation transfer function (MTF)
then falls exponentially with frequency.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.fft import fftfreq, irfft2, rfftfreq
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.ndimage import convolve1d

from emdn.noise import add_shot_noise

Floats = NDArray[np.float64]
Mtf = Literal["gaussian", "exponential"]

PERIOD = 64  # pixels, after which a covariance behind an exponential MTF repeats itself


@dataclass(frozen=True)
class Detector:
    """What an electron does to a pixel, and what the electronics add.

    Parameters
    ----------
    gain : float
        What one electron adds, to all pixels together, in units of the image. It is
        negative where contrast is inverted. An image of mean m has a dose of
        (m - offset) / gain electrons a pixel.
    offset : float
        Grey level of no electrons, in units of the image.
    readout : float
        Standard deviation of the electronics' noise, in electrons. It is white.
    correlation : (float, float)
        Correlation of the shot noise of neighbours in a row and of neighbours in a column,
        each in [0, 0.9]. An isotropic point spread, a Gaussian, causes what both have in
        common: (0.45, 0.45) is a scintillator's with a deviation of 0.6 pixels. A memory,
        of an amplifier that passes on a share of each pixel's signal to the next, causes
        what one has more than the other: (0.4, 0) is a slow amplifier's along rows.
    mtf : {"gaussian", "exponential"}
        How the point spread weakens waves, the more the faster they are. Behind an
        exponential MTF both correlations are equal: at (0.55, 0.55) it is 0.35 at half of
        the highest frequency and 0.12 at the highest.

    Examples
    --------
    >>> electrons = np.full((256, 256), 50.0)
    >>> camera = Detector(gain=7.0, offset=100.0, correlation=(0.45, 0.45))
    >>> image = camera.apply(electrons, np.random.default_rng(0))
    >>> print(f"{camera.dose(image):.0f} electrons a pixel")
    50 electrons a pixel
    """

    gain: float
    offset: float = 0.0
    readout: float = 0.0
    correlation: tuple[float, float] = (0.0, 0.0)
    mtf: Mtf = "gaussian"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.gain) and self.gain != 0):
            raise ValueError(f"gain must be finite and not 0, got {self.gain}")
        if not np.isfinite(self.offset):
            raise ValueError(f"offset must be finite, got {self.offset}")
        if not 0 <= self.readout < np.inf:
            raise ValueError(f"readout must be 0 electrons or more, got {self.readout}")
        if not all(0 <= each <= 0.9 for each in self.correlation):
            raise ValueError(f"correlation must be in [0, 0.9], got {self.correlation}")
        if self.mtf not in get_args(Mtf):
            raise ValueError(f"mtf must be one of {get_args(Mtf)}, got {self.mtf!r}")
        if self.mtf == "exponential" and self.correlation[0] != self.correlation[1]:
            raise ValueError(
                "behind an exponential MTF the correlation must be the same in rows and in "
                f"columns, got {self.correlation}; take their mean, or a gaussian MTF"
            )

    def apply(self, electrons: NDArray, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the image that the detector records.

        Parameters
        ----------
        electrons : (H, W) array
            Expected electrons in each pixel, 0 or more.
        rng : numpy.random.Generator
            Source of randomness; the same state gives the same image.

        Returns
        -------
        (H, W) float32 array
            Grey levels. The detector blurs signal and noise alike: the mean image is
            ``self.expected(electrons)``.

        Raises
        ------
        ValueError
            If electrons are negative or not finite.
        """
        brightest = float(electrons.max())
        if not (electrons.min() >= 0 and brightest < np.inf):  # false for NaN as well
            raise ValueError(
                "electrons must be finite and 0 or more, got "
                f"[{electrons.min()}, {electrons.max()}]; add the dark level as offset"
            )
        counts = np.zeros(electrons.shape, np.float32)
        if brightest > 0:
            counts = add_shot_noise(electrons / brightest, brightest, rng)
        signal = self._spread(counts.astype(np.float64))
        if self.readout > 0:
            signal += rng.normal(0.0, self.readout, signal.shape)
        return (self.gain * signal + self.offset).astype(np.float32)

    def expected(self, electrons: NDArray) -> NDArray[np.float32]:
        """Return the image without noise, blurred as the detector blurs."""
        signal = self._spread(electrons.astype(np.float64))
        return (self.gain * signal + self.offset).astype(np.float32)

    def dose(self, image: NDArray) -> float:
        """Return the electrons a pixel that made an image, in the mean."""
        return self.dose_of(float(image.mean(dtype=np.float64)))

    def dose_of(self, mean: float) -> float:
        """Return the electrons a pixel that made an image of that mean."""
        return float((mean - self.offset) / self.gain)

    def transfer(
        self, shape: tuple[int, int], columns: slice = slice(None)
    ) -> NDArray[np.complex128]:
        """Return what the spread of an electron's signal does to waves.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns of an image.
        columns : slice
            Which of the frequencies along the rows are wanted; all by default.

        Returns
        -------
        (H, W // 2 + 1) complex array
            Its magnitude is the modulation transfer function, 1 for the mean. Frequencies
            are those of ``numpy.fft.rfft2``.
        """
        spread = spread_of(self.correlation, self.mtf)
        rows, frequencies = fftfreq(shape[0]), rfftfreq(shape[1])[columns]
        down, along = kernels(spread.width, spread.memory)
        waves = np.outer(_waves(down, rows), _waves(along, frequencies))
        return np.asarray(waves * _exponential(spread.decay, rows, frequencies), complex)

    def _spread(self, counts: Floats) -> Floats:
        """Return the counts after point spread and memory, which keep their sum."""
        spread = spread_of(self.correlation, self.mtf)
        for axis, kernel in enumerate(kernels(spread.width, spread.memory)):
            if len(kernel) > 1:
                counts = convolve1d(counts, kernel, axis=axis, mode="reflect")
        if spread.decay > 0:  # cosines are the waves of an image that its borders mirror
            down, along = (np.arange(length) / (2 * length) for length in counts.shape)
            waves: Any = dctn(counts)
            counts = np.asarray(idctn(waves * _exponential(spread.decay, down, along)))
        return counts


class Spread(NamedTuple):
    """How the signal of an electron reaches other pixels.

    Parameters
    ----------
    width : float
        Standard deviation of the Gaussian point spread, in pixels.
    memory : float
        Share of each pixel's signal that goes on to the next in a row, or, if negative,
        to the next in a column.
    decay : float
        The d of the exponential MTF, exp(-d f) at a frequency of f cycles a pixel.
    """

    width: float = 0.0
    memory: float = 0.0
    decay: float = 0.0


def spread_of(correlation: tuple[float, float], mtf: Mtf = "gaussian") -> Spread:
    """Return the point spread and the memory that correlate neighbours so.

    Parameters
    ----------
    correlation : (float, float)
        Of neighbours in a row and in a column, each in [0, 0.9].
    mtf : {"gaussian", "exponential"}
        Of the point spread.

    Examples
    --------
    >>> print(f"{spread_of((0.445, 0.445)).width:.2f} pixels")
    0.60 pixels
    >>> print(f"exp(-{spread_of((0.55, 0.55), 'exponential').decay:.1f} f)")
    exp(-4.2 f)
    """
    common, larger = min(correlation), max(correlation)
    if mtf == "exponential" and common > 1e-6:
        return Spread(decay=_root(lambda d: shared(covariance(d)) - common, 1e-6, 20.0))
    width = 0.0
    if common > 1e-6:
        width = _root(lambda w: neighbours(_gaussian(w)) - common, 0.1, 2.0)
    memory = 0.0
    if larger > common + 1e-6:
        spread = _gaussian(width)
        memory = _root(
            lambda m: neighbours(np.convolve(spread, _memory(m))) - larger, 0.0, 0.97
        )
    return Spread(width, memory if correlation[0] >= correlation[1] else -memory)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function is zero between two values."""
    from scipy.optimize import brentq  # takes half a second, and few images need it

    root: Any = brentq(function, low, high)
    return float(root)


def _gaussian(width: float) -> Floats:
    """Return a Gaussian kernel of sum 1."""
    if width < 0.1:  # pixels; less than 1e-20 would reach a neighbour
        return np.ones(1)
    x = np.arange(-8, 9)
    kernel = np.exp(-(x**2) / (2 * width**2))
    return kernel / kernel.sum()


def _memory(share: float) -> Floats:
    """Return a kernel of sum 1 that passes a share on from each pixel to the next."""
    if share == 0:
        return np.ones(1)
    reach = 64 if share > 0.7 else 32
    kernel = np.zeros(2 * reach + 1)
    kernel[reach:] = share ** np.arange(reach + 1)
    return kernel / kernel.sum()


def kernels(width: float, memory: float) -> tuple[Floats, Floats]:
    """Return the kernels down the columns and along the rows.

    Parameters
    ----------
    width, memory : float
        Of a `Spread`.

    Returns
    -------
    down, along : (K,) arrays
        Of sum 1, around their middle.
    """
    spread = _gaussian(width)
    longer = np.convolve(spread, _memory(abs(memory)))
    return (spread, longer) if memory >= 0 else (longer, spread)


def _waves(kernel: Floats, frequencies: NDArray[np.floating]) -> NDArray:
    """Return the Fourier transform of a kernel around its middle."""
    places = np.arange(len(kernel)) - len(kernel) // 2
    return np.exp(-2j * np.pi * np.outer(frequencies, places)) @ kernel


def _exponential(decay: float, down: NDArray, along: NDArray) -> Floats:
    """Return an exponential MTF at frequencies down the columns and along the rows."""
    return np.exp(-decay * np.hypot(down[:, np.newaxis], along))


def covariance(decay: float) -> Floats:
    """Return the covariance of white noise of 1 behind an exponential MTF.

    Parameters
    ----------
    decay : float
        Of a `Spread`.

    Returns
    -------
    (64, 64) array
        Of a pixel and of those that lie so many rows and columns farther.
    """
    power = _exponential(decay, fftfreq(PERIOD), rfftfreq(PERIOD)) ** 2
    return np.asarray(irfft2(power, (PERIOD, PERIOD)))


def shared(covariance: Floats) -> float:
    """Return the correlation of neighbours, by their covariance over the distance."""
    return float(covariance[0, 1] / covariance[0, 0])


def autocorrelation(kernel: Floats, reach: int) -> Floats:
    """Return the covariance, at distances from 0 on, of white noise after a kernel.

    Parameters
    ----------
    kernel : (K,) array
        What spreads the noise, of which each pixel had a variance of 1.
    reach : int
        How many distances are wanted, in pixels.
    """
    covariance = np.correlate(kernel, kernel, "full")[len(kernel) - 1 :][:reach]
    return np.pad(covariance, (0, reach - len(covariance)))


def neighbours(kernel: Floats) -> float:
    """Return the correlation of neighbours in white noise after a (K,) kernel."""
    covariance = autocorrelation(kernel, 2)
    return float(covariance[1] / covariance[0])
