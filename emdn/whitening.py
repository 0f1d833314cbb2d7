"""Noise that neighbours share: made white for a network, and coloured again.

A scintillator spreads the signal of an electron over its neighbours, and a slow amplifier
passes a part of it on to the next pixel. A network that knows independent noise takes such
noise for structure. Since the detector says how the signal was spread, it can be gathered
again: the network then sees the shot noise of single electrons, and its result is spread as
the detector spreads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft, ifft, irfft, irfft2, rfft, rfft2

from emdn.detector import Detector
from emdn.tiling import BAND, bands_of

MARGIN = 32  # pixels of the image, mirrored, that border on the far side's
# Least power of the noise relative to that of slow waves. Noise of less is not raised to
# white, since rounding and readout would be raised with it.
LEAST_POWER = 0.01


@dataclass(frozen=True)
class Whitening:
    """A filter that makes noise white, and its inverse.

    Parameters
    ----------
    filter : (H + 64, W // 2 + 33) complex array
        By what the Fourier transform of a mirrored image of (H, W) pixels is multiplied.
        It is 1 for the mean, which stays.

    Examples
    --------
    >>> camera = Detector(7.0, offset=100.0, correlation=(0.44, 0.44))
    >>> image = camera.apply(np.full((256, 256), 50.0), np.random.default_rng(0))
    >>> white = Whitening.of(image, camera).apply(image)
    >>> for noise in (image, white):
    ...     shared = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    ...     print(f"{abs(shared):.2f}")
    0.44
    0.00
    """

    filter: NDArray[np.complexfloating]

    @classmethod
    def of(cls, image: NDArray[np.floating], detector: Detector) -> Self:
        """Return the filter for an (H, W) image and the detector that recorded it.

        Shot noise is spread and readout noise is white, so the mean dose of the image
        decides how much of the noise is correlated.
        """
        height, width = (length + 2 * MARGIN for length in image.shape)
        return cls(_filter((height, width), detector, detector.dose(image)))

    def apply(self, image: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return an (H, W) image with white noise."""
        return _filtered(image, self.filter)

    def invert(self, image: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return a white (H, W) image as the detector would have recorded it."""
        return _filtered(image, 1 / self.filter)


def _filter(
    shape: tuple[int, int], detector: Detector, dose: float, columns: slice = slice(None)
) -> NDArray[np.complexfloating]:
    """Return the filter for an image with its margins, or some columns of it."""
    spread = detector.transfer(shape, columns)
    dose, readout = max(dose, 1e-6), detector.readout**2
    magnitude = np.abs(spread)
    power = (dose * magnitude**2 + readout) / (dose + readout)
    phase = spread / np.maximum(magnitude, 1e-12)
    return phase.conj() / np.sqrt(np.maximum(power, LEAST_POWER))


def _filtered(
    image: NDArray[np.floating], by: NDArray[np.complexfloating]
) -> NDArray[np.floating]:
    """Return an image after a filter that keeps its mean; borders are mirrored."""
    mean = image.mean(dtype=np.float64)  # of a pedestal, single precision has little left
    mirrored = np.pad(image - mean.astype(image.dtype), MARGIN, mode="symmetric")
    waves: Any = rfft2(mirrored)
    filtered: Any = irfft2(waves * by.astype(waves.dtype), s=mirrored.shape)
    return filtered[MARGIN:-MARGIN, MARGIN:-MARGIN] + mean.astype(image.dtype)


# ------------------------------------------------------------- images larger than memory


@dataclass(frozen=True)
class Scratch:
    """An array in a file, of which rows and columns are read and written.

    Nothing is mapped, since mapped pages would count as memory of this process.

    Parameters
    ----------
    path : Path
        The file, which holds the numbers alone.
    shape : (int, int)
        Rows and columns.
    dtype : dtype
        Type of the numbers.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype

    def read(self, rows: slice, columns: slice) -> NDArray:
        """Return a part of the array."""
        part = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        with self.path.open("rb", buffering=0) as file:
            for place, numbers in self._runs(rows, columns, part):
                file.seek(place)
                if file.readinto(numbers) != numbers.nbytes:
                    raise OSError(f"{self.path}: is cut short; start again")
        return part

    def write(self, rows: slice, columns: slice, part: NDArray) -> None:
        """Write a part of the array; the file must be there."""
        part = np.ascontiguousarray(part, self.dtype)
        with self.path.open("r+b", buffering=0) as file:
            for place, numbers in self._runs(rows, columns, part):
                file.seek(place)
                written = file.write(numbers)
                if written != numbers.nbytes:  # as a full disk does, before it complains
                    file.write(numbers[written:])

    def _runs(
        self, rows: slice, columns: slice, part: NDArray
    ) -> Iterator[tuple[int, memoryview]]:
        """Yield places in the file and the bytes of a part that belong there."""
        width, size = self.shape[1], self.dtype.itemsize
        whole = part.shape[1] == width
        for index, row in enumerate([part] if whole else part):
            place = ((rows.start + index) * width + columns.start) * size
            yield place, row.reshape(-1).view(np.uint8).data


def filter_on_disk(
    bands: Callable[[slice], NDArray[np.floating]],
    image: Scratch,
    mean: float,
    detector: Detector,
    dose: float,
    *,
    inverse: bool = False,
) -> None:
    """Do to an image on disk what `Whitening` does to one in memory.

    The Fourier transform of all rows is kept in a file beside, and that of all columns is
    taken of some columns at a time.

    Parameters
    ----------
    bands : callable
        Returns some rows of the image.
    image : Scratch
        Where to write the result; its type is that of the image.
    mean : float
        Of the image.
    detector : Detector
        Whose correlation is undone.
    dose : float
        Mean electrons in a pixel of the noisy image.
    inverse : bool
        Whether to spread a white image as the detector does.
    """
    height, width = image.shape
    shape = height + 2 * MARGIN, width + 2 * MARGIN
    kind = np.dtype(np.result_type(image.dtype, np.complex64))
    waves = Scratch(image.path.with_suffix(".waves"), (shape[0], shape[1] // 2 + 1), kind)
    for made in (waves.path, image.path):
        made.touch()
    every = slice(0, waves.shape[1])
    try:
        for rows in bands_of(shape):
            mirrored = np.arange(rows.start, rows.stop) - MARGIN
            mirrored %= 2 * height
            mirrored = np.minimum(mirrored, 2 * height - 1 - mirrored)
            first, last = int(mirrored.min()), int(mirrored.max())
            band = bands(slice(first, last + 1))[mirrored - first]
            band = band - np.asarray(mean, band.dtype)
            band = np.pad(band, ((0, 0), (MARGIN, MARGIN)), mode="symmetric")
            along: Any = rfft(band, axis=1)
            waves.write(rows, every, along)
        step = max(1, BAND // 2 // shape[0])
        for start in range(0, waves.shape[1], step):
            columns = slice(start, min(start + step, waves.shape[1]))
            by = _filter(shape, detector, dose, columns)
            by = (1 / by if inverse else by).astype(kind)
            down: Any = fft(waves.read(slice(0, shape[0]), columns), axis=0)
            back: Any = ifft(down * by, axis=0)
            waves.write(slice(0, shape[0]), columns, back)
        for rows in bands_of(image.shape):
            shifted = slice(rows.start + MARGIN, rows.stop + MARGIN)
            band: Any = irfft(waves.read(shifted, every), n=shape[1], axis=1)
            band = band[:, MARGIN:-MARGIN] + np.asarray(mean, band.dtype)
            image.write(rows, slice(0, width), band)
    finally:
        waves.path.unlink()
