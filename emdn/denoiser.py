"""Denoise micrographs of any size and range: load once, call many times.

An image is scaled to [0, 1] once, cut into overlapping tiles, run through the network a
few tiles at a time, put together and returned to its own units.
"""

import warnings
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from emdn.console import progress
from emdn.noise import estimate_gain
from emdn.scaling import Scaling
from emdn.tiling import Tiling, paste, split
from emdn.weights import Name, Network, find, load

# What the network may see, in units of the image's span. A pixel further out is a defect of
# the detector, and would burn a hole into its surroundings.
DARKEST, BRIGHTEST = -1.0, 2.0

MANY_TILES = 16  # tiles of an image from which on a progress bar is worth its line

STRIDE = 16  # pixels, the largest stride of any network

# Expected counts at the brightest level, beyond which no network was trained by far.
FEWEST_COUNTS, MOST_COUNTS = 1.0, 1e5
COUNTS_OF_A_LINE = (
    100.0  # the same, assumed of a line of pixels, on which no noise is measured
)


class Denoiser:
    """A trained network and how to apply it.

    Parameters
    ----------
    weights : {"auto", "low", "ordinary"} or path
        Weights to use: those for every dose, which are gain-aware, or those of the paper's
        graph, which is blind, for scales of 25 + Exp(75) counts at the brightest pixel or
        of 200 to 2500. A path names a Keras file of other weights.
    tile_size : int
        Largest side of a tile in pixels, a multiple of 16. The default holds the paper's
        512 pixels and an overlap around them.
    overlap : int
        Margin in pixels dropped on each side of a tile. A multiple of 16, the largest
        stride of a network, makes a tile give what the whole image gives. The image is
        continued by reflection that far. An image that fits into one tile needs no overlap.
    batch_size : int
        Tiles computed at once; memory grows with it.
    clip : bool
        Confine the result to the range of the image's finite values.
    progress : bool, optional
        Show a progress bar; by default for large images on a terminal or in a notebook.

    Examples
    --------
    >>> image = np.random.default_rng(0).poisson(50.0, size=(64, 80))
    >>> noise_remover = Denoiser("low")
    >>> restored = noise_remover.denoise(image)
    >>> restored.shape, restored.dtype
    ((64, 80), dtype('float32'))
    >>> bool(restored.std() < image.std() / 2)
    True
    """

    def __init__(
        self,
        weights: Name | str | PathLike[str] = "auto",
        *,
        tile_size: int = 576,
        overlap: int = 32,
        batch_size: int = 2,
        clip: bool = True,
        progress: bool | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if overlap % STRIDE:
            raise ValueError(f"overlap must be a multiple of {STRIDE}, got {overlap}")
        Tiling.balanced((1, 1), size=tile_size, overlap=overlap)  # complains if impossible
        self.weights = find(weights)
        self.tile_size = tile_size
        self.overlap = overlap
        self.batch_size = batch_size
        self.clip = clip
        self.progress = progress

    def denoise(
        self, image: ArrayLike, *, gain: float | None = None
    ) -> NDArray[np.float32]:
        """Return the image without its noise.

        Parameters
        ----------
        image : (H, W) or (N, H, W) array
            One micrograph or a stack of them, of any real type and in any units. It is
            not changed. Pixels that are NaN or infinite are replaced by their nearest
            finite neighbour before the network sees them, and a warning counts them.
        gain : float, optional
            What one electron adds to a pixel, in units of the image; 1 for counts. By
            default `emdn.noise.estimate_gain` measures it, in each image of a stack anew.
            Blind networks do not need it.

        Returns
        -------
        (H, W) or (N, H, W) float32 array
            In the units of the image and with its mean. Constant images come back as
            they are.

        Raises
        ------
        ValueError
            If the array is not real, not of two or three axes, empty, or if an image of
            it has no finite pixel; if the gain is not positive.
        """
        if gain is not None and not 0 < gain < np.inf:
            raise ValueError(f"gain must be positive and finite, got {gain}")
        images = _real_images(image)
        network = load(self.weights)
        # Mirrored noise passes for structure, so what fits into one tile gets no margin.
        overlap = self.overlap if max(images.shape[1:]) > self.tile_size else 0
        tiling = Tiling.balanced(images.shape[1:], size=self.tile_size, overlap=overlap)
        denoised = np.empty(images.shape, np.float32)
        tiles = len(images) * len(tiling)
        show = False if self.progress is None and tiles < MANY_TILES else self.progress
        with progress(tiles, description="Denoising tiles", show=show) as advance:
            for number, noisy in enumerate(images):
                filled = _fill_defects(noisy)
                denoised[number] = self._denoise(filled, gain, network, tiling, advance)
        return denoised[0] if np.ndim(image) == 2 else denoised

    def _denoise(
        self,
        image: NDArray[np.floating],
        gain: float | None,
        network: Network,
        tiling: Tiling,
        advance: Callable[[int], None],
    ) -> NDArray[np.float32]:
        """Denoise one finite image of shape (H, W)."""
        if image.min() == image.max():
            advance(len(tiling))
            return image.astype(np.float32)
        if not network.gain_aware:
            scaling, scaled_gain = _fit(image), 1.0
        else:
            measured = _measured_gain(image) if gain is None else gain
            scaling, scaled_gain = _exposure(image, measured)
        darkest, brightest = (
            np.float32(scaling.offset + end * scaling.span) for end in (DARKEST, BRIGHTEST)
        )
        scaled = scaling.apply(np.clip(image, darkest, brightest))
        denoised = np.empty(tiling.shape, np.float32)
        for start in range(0, len(tiling), self.batch_size):
            tiles = split(scaled, tiling, start, start + self.batch_size)
            paste(denoised, network(tiles, scaled_gain), tiling, start)
            advance(len(tiles))
        if not self.clip:
            return scaling.invert(_match_mean(denoised, scaled))
        denoised = np.clip(denoised, scaled.min(), scaled.max())
        restored = scaling.invert(_match_mean(denoised, scaled))
        return np.clip(restored, np.float32(image.min()), np.float32(image.max()))


def _fit(image: NDArray[np.floating]) -> Scaling:
    """Return what a blind network works on: the image's own range as [0, 1]."""
    return Scaling.fit(image) if image.size > 1 else Scaling.of_range(image)


def _dark(image: NDArray[np.floating]) -> float:
    """Return the level of no electrons: 0, or the darkest where that is negative."""
    return min(0.0, _fit(image).offset)


def _measured_gain(image: NDArray[np.floating]) -> float:
    """Return the gain that the noise of an image shows; 0 if it has no noise."""
    if min(image.shape) < 3:  # no noise can be measured on a line of pixels
        return float(np.ptp(image)) / COUNTS_OF_A_LINE
    return estimate_gain(image - _dark(image))


def _exposure(image: NDArray[np.floating], gain: float) -> tuple[Scaling, float]:
    """Return what a gain-aware network works on, and the gain there.

    No electrons become 0, and the brightest level becomes 1.
    """
    levels, dark = _fit(image), _dark(image)
    scaling = Scaling(dark, levels.offset + levels.span - dark)
    counts = scaling.span / gain if gain > 0 else MOST_COUNTS
    return scaling, 1 / float(np.clip(counts, FEWEST_COUNTS, MOST_COUNTS))


def _real_images(image: ArrayLike) -> NDArray[np.floating]:
    """Return an array as (N, H, W) floats, or say what is wrong with it."""
    array = np.asarray(image)
    if array.dtype.kind not in "buif":
        remedy = "; take np.abs of it" if array.dtype.kind == "c" else ""
        raise ValueError(f"image must be of real numbers, got {array.dtype}{remedy}")
    if array.ndim not in (2, 3):
        raise ValueError(
            f"image must have shape (H, W) or (N, H, W), got {array.shape}; "
            "pass one channel and one stack at a time"
        )
    if array.size == 0:
        raise ValueError(f"image must not be empty, got shape {array.shape}")
    images = array.reshape(-1, *array.shape[-2:])
    return images.astype(np.result_type(array.dtype, np.float32), copy=False)


def _fill_defects(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """Replace NaN and infinite pixels by their nearest finite neighbour."""
    defects = ~np.isfinite(image)
    if not defects.any():
        return image
    if defects.all():
        raise ValueError("image must have a finite pixel, got only NaN and infinities")
    warnings.warn(
        f"{defects.sum()} of {defects.size} pixels are NaN or infinite; "
        "each is denoised from its nearest finite neighbour",
        stacklevel=4,
    )
    nearest: Any = distance_transform_edt(
        defects, return_distances=False, return_indices=True
    )
    return image[tuple(nearest)]


def _match_mean(
    denoised: NDArray[np.float32], noisy: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Stretch an image from its darkest level, so that no counts are lost or won."""
    dark = noisy.min()
    counts = noisy.mean(dtype=np.float64) - dark
    found = denoised.mean(dtype=np.float64) - dark
    if found <= 0:  # a few lone counts, all taken for noise
        return np.full_like(noisy, dark + counts)
    return dark + (denoised - dark) * np.float32(counts / found)
