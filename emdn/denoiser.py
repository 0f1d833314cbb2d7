"""Denoise micrographs of any size and range: load once, call many times.

What an electron does to a pixel is measured in each image, or told. The image is scaled to
[0, 1] once, cut into overlapping tiles, run through the network a few tiles at a time, put
together and returned to its own units. Pixels that are no image, since they are masked, not
finite or defects of the detector, decide nothing: their neighbours take their place.
"""

import copy
import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emdn.axes import colours_last
from emdn.console import progress
from emdn.defects import Defects, Pixels
from emdn.detector import SIDE, Detector, Estimate, estimate_detector
from emdn.files import sha256
from emdn.levels import Levels, Return, View, not_in_bars
from emdn.tiling import Tiling, paste, split
from emdn.weights import Name, Network, find, load
from emdn.weights.backends import Backend, Precision, choose_precision
from emdn.whitening import Whitening

if TYPE_CHECKING:
    from emdn.trust.adaptation import Adaptation

Quality = Literal["fast", "best"]
"""How much time an image may take, see `Denoiser`."""

MANY_TILES = 16  # tiles of an image from which on a progress bar is worth its line

FEWEST_PIXELS = 2 * SIDE  # at a side, below which nothing is measured

STRIDE = 16  # pixels, the largest stride of any network

# Counts at the brightest level, assumed of images that are too small to measure noise in.
USUAL_COUNTS = 100.0
LEAST_NOISE = 0.016  # of the range; of 2500 counts, the most that were learnt, it is 0.02
LEAST_AT_MEAN = 0.05  # of the distance from the mean to the nearer end of the range
_FAINT = (
    "the image shows hardly any noise, so hardly any is taken off; if it was smoothed, "
    "interpolated or denoised, denoise the image that was recorded; if it still looks "
    "noisy, tell its gain"
)


class Denoiser:
    """A trained network and how to apply it.

    Parameters
    ----------
    weights : {"auto", "compact", "low", "ordinary"}, path or Network
        Weights to use. Those for every dose are gain-aware: "auto", and "compact", the
        paper's graph, which takes a fraction of the time and leaves more error. The paper's
        graph is also there as in the paper, blind, for scales of 25 + Exp(75) counts at
        the brightest pixel or of 200 to 2500. A path names a file of other weights,
        ``.onnx`` or ``.keras``; a network is one that `emdn.weights.load` returns, with its
        backend and precision.
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
    quality : {"fast", "best"}
        "best" averages what the network makes of each tile's eight symmetries, turned and
        mirrored, in eight times the time: in most images about 1 % less mean squared error,
        of fringes of few pixels more.
    backend : {"auto", "ncnn", "onnx", "tensorflow"}
        What runs the network: ONNX Runtime, or ncnn if it is installed and runs it, or
        TensorFlow if that is loaded already, if it is installed beside the driver of a
        graphics card, or if a file is of Keras; see
        `emdn.weights.backends.choose_backend`.
    precision : {"auto", "float32", "bfloat16"}
        The numbers that the network computes with. TensorFlow takes bfloat16, in half the
        time, where the processor multiplies such numbers; see
        `emdn.weights.backends.choose_precision`.
    progress : bool, optional
        Show a progress bar; by default for large images on a terminal or in a notebook.

    Raises
    ------
    ValueError
        If a setting is impossible, or one that the file or the processor is not made for.
    FileNotFoundError
        If there are no such weights.
    ModuleNotFoundError
        If what the backend needs is not installed.

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
        weights: Name | str | PathLike[str] | Network = "auto",
        *,
        tile_size: int = 576,
        overlap: int = 32,
        batch_size: int = 2,
        clip: bool = True,
        quality: Quality = "fast",
        backend: Backend = "auto",
        precision: Precision = "auto",
        progress: bool | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if overlap % STRIDE:
            raise ValueError(f"overlap must be a multiple of {STRIDE}, got {overlap}")
        if quality not in get_args(Quality):
            raise ValueError(
                f"quality must be one of {', '.join(get_args(Quality))}, got {quality!r}"
            )
        Tiling.balanced((1, 1), size=tile_size, overlap=overlap)  # complains if impossible
        self.weights = weights if isinstance(weights, Network) else find(weights, backend)
        if isinstance(self.weights, Path):  # complain of a precision that is impossible
            choose_precision(precision, tensorflow=self.weights.suffix != ".onnx")
        self.backend: Backend = backend
        self.precision: Precision = precision
        self.tile_size = tile_size
        self.overlap = overlap
        self.batch_size = batch_size
        self.clip = clip
        self.quality = quality
        self.progress = progress

    def denoise(
        self,
        image: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        detector: Detector | None = None,
        gain: float | None = None,
        offset: float | None = None,
        readout: float | None = None,
    ) -> NDArray[np.float32]:
        """Return the image without its noise.

        Parameters
        ----------
        image : (H, W) or (N, H, W) array
            One micrograph or a stack of them, of any real type and in any units. It is
            not changed. Masked arrays keep their mask.
        mask : (H, W) or (N, H, W) array of bool, optional
            True where a pixel is not to be believed. Such pixels, those that are NaN or
            infinite and hot or dead ones are replaced by their nearest sound neighbour
            before the network sees them, and a warning counts them.
        detector : Detector, optional
            What an electron does to a pixel, for all images of a stack. By default
            `emdn.detector.estimate_detector` measures it, in each image anew. Blind
            networks do not need it.
        gain : float, optional
            In place of `detector`: what one electron adds to a pixel, in units of the
            image; 1 for counts. It is negative where contrast is inverted.
        offset : float, optional
            Grey level of no electrons. Beside a gain it is 0 by default, or the darkest
            level if that is negative.
        readout : float, optional
            Standard deviation of the electronics' noise, in electrons, beside a gain.

        Returns
        -------
        (H, W) or (N, H, W) float32 array
            In the units of the image and with its mean. Images that show no noise come
            back as they are, with a warning; so do constant ones, without.

        Raises
        ------
        ValueError
            If the array is not real, not of two or three axes, empty, or if the last of
            three axes has 1 to 4 columns, as colours have; if an image of it has no sound
            pixel; if what is told of the detector is impossible or incomplete.
        """
        images, masks = _real_images(image, mask)
        network = self.network
        tiling = self.tiling(images.shape[1:])
        denoised = np.empty(images.shape, np.float32)
        tiles = len(images) * len(tiling)
        show = False if self.progress is None and tiles < MANY_TILES else self.progress
        exposures = _exposures(
            images,
            masks,
            Told(detector, gain, offset, readout),
            measuring=network.gain_aware,
        )
        with progress(tiles, description="Denoising tiles", show=show) as advance:
            for number, (filled, _, known) in enumerate(exposures):
                denoised[number] = self._denoise(filled, known, network, tiling, advance)
        return denoised[0] if np.ndim(image) == 2 else denoised

    def adapt(
        self,
        image: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        detector: Detector | None = None,
        gain: float | None = None,
        offset: float | None = None,
        readout: float | None = None,
    ) -> "Adaptation[Self]":
        """Adapt the network to one's own micrograph, without a truth, if that is better.

        The network learns on nine tenths of the counts, and the tenth held out judges. It
        takes whole counts of a counting detector, 64 pixels at a side or more, and a
        gain-aware network. This denoiser stays as it is.

        Parameters
        ----------
        image : (H, W) or (N, H, W) array
            One micrograph, or a stack that shares one adaptation.
        mask, detector, gain, offset, readout
            As of `denoise`.

        Returns
        -------
        Adaptation
            Its `denoiser` denoises this image, all counts of it, and others of its kind.
            Where the noise is no pure shot noise or the adapted network is not found to be
            better, it uses the network that this one does; `reason` says so.

        Raises
        ------
        ValueError
            As `denoise`.
        FileNotFoundError
            If the weights are an ONNX file and no Keras file is beside it.
        ModuleNotFoundError
            If TensorFlow, which trains, is not installed.

        Examples
        --------
        >>> camera = np.random.default_rng(0).normal(50.0, 7.0, size=(64, 64))
        >>> adaptation = Denoiser().adapt(camera, gain=1.0)
        >>> print(adaptation.reason)
        not adapted: the grey levels are no whole counts of electrons
        """
        from emdn.trust.adaptation import Exposure, adapt

        images, masks = _real_images(image, mask)
        told = Told(detector, gain, offset, readout)
        network = self.network
        exposures = _exposures(images, masks, told, measuring=network.gain_aware)
        return adapt(
            network,
            (Exposure(*each) for each in exposures),
            self._using,
            lambda noise_remover, counts: noise_remover._denoise_counts(counts),
        )

    @property
    def gain_aware(self) -> bool:
        """Whether the network uses the gain; a blind one ignores it."""
        return self.network.gain_aware

    def fingerprint(self) -> str:
        """Return what tells the network from others, in hexadecimal digits.

        It is the SHA-256 of the weights' file, or of what a network in memory makes of a
        pattern.
        """
        if not isinstance(self.weights, Network):
            return sha256(self.weights)
        pattern = np.random.default_rng(0).uniform(size=(1, 64, 64)).astype(np.float32)
        return hashlib.sha256(self.weights(pattern, 0.01).tobytes()).hexdigest()

    def tiling(self, shape: tuple[int, int]) -> Tiling:
        """Return the tiles in which an image of a shape (H, W) is denoised."""
        # Mirrored noise passes for structure, so what fits into one tile gets no margin.
        overlap = self.overlap if max(shape) > self.tile_size else 0
        return Tiling.balanced(shape, size=self.tile_size, overlap=overlap)

    def denoise_tiles(self, tiles: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
        """Return what the network makes of some tiles, as it is shown them.

        Parameters
        ----------
        tiles : (N, h, w) float32 array
            Tiles of one image, scaled to about [0, 1]; sides are multiples of 16.
        gain : float
            What one electron adds to a pixel of a tile.
        """
        return self._run(self.network, tiles, gain)

    @property
    def network(self) -> Network:
        """The network, loaded on first use."""
        if isinstance(self.weights, Network):
            return self.weights
        return load(self.weights, backend=self.backend, precision=self.precision)

    def _using(self, network: Network) -> Self:
        """Return this denoiser with another network."""
        if network is self.network:
            return self
        other = copy.copy(self)
        other.weights = network
        return other

    def _denoise_counts(self, counts: NDArray[np.floating]) -> NDArray[np.float32]:
        """Denoise one sound image of counts, of shape (H, W)."""
        tiling = self.tiling(counts.shape)
        return self._denoise(counts, Detector(1.0), self.network, tiling, lambda _: None)

    def _denoise(
        self,
        image: NDArray[np.floating],
        detector: Detector | None,
        network: Network,
        tiling: Tiling,
        advance: Callable[[int], None],
        matched: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Denoise one sound image of shape (H, W), whose mean is that of some pixels."""
        noiseless = network.gain_aware and detector is None
        if noiseless or image.min() == image.max():
            advance(len(tiling))
            return image.astype(np.float32)
        if matched is None:
            known = detector if network.gain_aware else None
            matched = not_in_bars(image, *Levels.of_image(image).blank(known))
            if not matched.any():
                matched = ~matched
        if network.gain_aware and detector is not None and any(detector.correlation):
            whitening = Whitening.of(image, detector)
            white, alone = whitening.apply(image), replace(detector, correlation=(0.0, 0.0))
            denoised = whitening.invert(
                self._denoise(white, alone, network, tiling, advance, matched)
            )
            return np.clip(denoised, image.min(), image.max()) if self.clip else denoised
        levels = Levels.of_image(image)
        view = View.of(levels, detector if network.gain_aware else None)
        scaled = view.apply(image)
        denoised = np.empty(tiling.shape, np.float32)
        for start in range(0, len(tiling), self.batch_size):
            tiles = split(scaled, tiling, start, start + self.batch_size)
            paste(denoised, self._run(network, tiles, view.gain), tiling, start)
            advance(len(tiles))
        mean = float(scaled.mean(dtype=np.float64, where=matched))
        seen = replace(Levels.of_image(scaled), mean=mean)
        back = Return(view, levels, seen, self.clip)
        confined = back.confined(denoised)
        return back.apply(confined, float(confined.mean(dtype=np.float64, where=matched)))

    def _run(
        self, network: Network, tiles: NDArray[np.float32], gain: float
    ) -> NDArray[np.float32]:
        """Denoise (N, h, w) tiles, in all their symmetries if the best is wanted."""
        if self.quality == "fast":
            return network(tiles, gain)
        total = np.zeros_like(tiles)
        for turns in range(4):
            turned = np.rot90(tiles, turns, axes=(1, 2))
            total += np.rot90(network(turned, gain), -turns, axes=(1, 2))
            mirrored = network(turned[:, ::-1], gain)[:, ::-1]
            total += np.rot90(mirrored, -turns, axes=(1, 2))
        return total / np.float32(8)


@dataclass(frozen=True)
class Told:
    """What a caller tells of the detector, whole or in pieces."""

    detector: Detector | None
    gain: float | None
    offset: float | None
    readout: float | None

    def __post_init__(self) -> None:
        if (
            self.detector is not None
            and not self.gain is self.offset is self.readout is None
        ):
            raise ValueError(
                "detector tells gain, offset and readout; give one or the other"
            )
        if self.offset is not None and not np.isfinite(self.offset):
            raise ValueError(f"offset must be finite, got {self.offset}")


def _exposures(
    images: NDArray[np.floating], masks: NDArray[np.bool_], told: Told, *, measuring: bool
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.bool_], Detector | None]]:
    """Yield each image without its defects, where those were, and its detector."""
    for noisy, masked in zip(images, masks, strict=True):
        pixels = Pixels.of(noisy, masked)
        defects = Defects.of(pixels)
        unsound = _unsound(pixels, defects)
        if text := defects_in_words(unsound, noisy, masked):
            warnings.warn(text, stacklevel=3)
        filled = noisy
        if unsound.any():
            bands = (
                defects.filled(pixels, each, pixels.columns) for each in pixels.bands()
            )
            filled = np.concatenate(list(bands))
        levels = Levels.of_image(filled)
        known = told.detector or detector_told(levels, told.gain, told.offset, told.readout)
        if known is None and measuring:
            found = None
            if min(noisy.shape) >= FEWEST_PIXELS:
                found = estimate_detector(noisy, unsound, offset=told.offset)
            known, text = detector_measured(filled.shape, levels, found, told.offset)
            if text:
                warnings.warn(text, stacklevel=3)
        yield filled, unsound, known


def measure(
    image: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    offset: float | None = None,
) -> Estimate | None:
    """Measure the detector as `Denoiser.denoise` does, from its sound pixels alone.

    Parameters
    ----------
    image : (H, W) array
        One micrograph.
    mask : (H, W) array of bool, optional
        True where a pixel is not to be believed.
    offset : float, optional
        Grey level of no electrons, if it is known.

    Returns
    -------
    Estimate or None
        None if the image shows no noise, or is too small.
    """
    return measured_with_levels(image, mask=mask, offset=offset)[0]


def measured_with_levels(
    image: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    offset: float | None = None,
) -> tuple[Estimate | None, Levels]:
    """Return what `measure` does, and the levels of the image without its defects."""
    (noisy,), (masked,) = _real_images(np.ma.asarray(image), mask)
    pixels = Pixels.of(noisy, masked)
    defects = Defects.of(pixels)
    unsound = _unsound(pixels, defects)
    bands = (defects.filled(pixels, each, pixels.columns) for each in pixels.bands())
    levels = Levels.of(bands)
    if min(noisy.shape) < FEWEST_PIXELS:
        return None, levels
    return estimate_detector(noisy, unsound, offset=offset), levels


def detector_told(
    levels: Levels, gain: float | None, offset: float | None, readout: float | None
) -> Detector | None:
    """Return the detector that is told in pieces, or None if no gain is."""
    if gain is None:
        if readout is not None:
            raise ValueError(f"readout needs a gain beside it, got a readout of {readout}")
        return None
    dark = min(0.0, levels.offset) if offset is None else offset
    return Detector(gain, dark, readout or 0.0)


def detector_measured(
    shape: tuple[int, ...],
    levels: Levels,
    estimate: Estimate | None,
    offset: float | None,
) -> tuple[Detector | None, str]:
    """Return the detector to use for an image of which one was measured, and a warning.

    It is None where there is no noise, and assumed where an image is too small to measure.
    """
    if min(shape) < FEWEST_PIXELS:
        dark = min(0.0, levels.offset) if offset is None else offset
        span = levels.offset + levels.span - dark
        return (Detector(span / USUAL_COUNTS, dark) if span > 0 else None), ""
    if estimate is not None:
        faint = _is_faint(levels, estimate.detector)
        return estimate.detector, _FAINT if faint else ""
    text = (
        "the image shows no noise, or noise that neighbours share to a large part, and "
        "comes back as it is; tell its gain if it has any"
    )
    return None, "" if levels.constant else text


def _is_faint(levels: Levels, detector: Detector) -> bool:
    """Say whether noise is small beside the range, and beside the contrast at the mean.

    A few bright pixels make the range of a dark image, but not the contrast at its mean.
    """
    low, high = levels.offset, levels.offset + levels.span

    def noise(level: float) -> float:
        electrons = max(detector.dose_of(level), 0.0)
        return abs(detector.gain) * float(np.sqrt(electrons + detector.readout**2))

    contrast = min(levels.mean - low, high - levels.mean)
    most = max(noise(low), noise(high))
    return (
        most < LEAST_NOISE * levels.span and noise(levels.mean) < LEAST_AT_MEAN * contrast
    )


def _real_images(
    image: ArrayLike, mask: ArrayLike | None
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return an array as (N, H, W) floats, and its mask, or say what is wrong with it."""
    own = np.ma.getmaskarray(image) if isinstance(image, np.ma.MaskedArray) else None
    array = np.asarray(image.data if own is not None else image)  # type: ignore[union-attr]
    if array.dtype.kind not in "buif":
        remedy = "; take np.abs of it" if array.dtype.kind == "c" else ""
        raise ValueError(f"image must be of real numbers, got {array.dtype}{remedy}")
    if array.ndim not in (2, 3):
        raise ValueError(
            f"image must have shape (H, W) or (N, H, W), got {array.shape}; "
            "pass one channel and one stack at a time"
        )
    if colours_last(array.shape):
        raise ValueError(
            f"image must have axes (H, W) or (images, H, W), got shape {array.shape}; if "
            "its last axis is of colours, pass image.mean(-1) or image[..., 0], and narrow "
            "images one by one"
        )
    if array.size == 0:
        raise ValueError(f"image must not be empty, got shape {array.shape}")
    masked = np.zeros(array.shape, bool) if own is None else own
    if mask is not None:
        given = np.asarray(mask, bool)
        if given.shape not in (array.shape, array.shape[-2:]):
            raise ValueError(f"mask must have shape {array.shape}, got {given.shape}")
        masked = masked | given
    images = as_floats(array.reshape(-1, *array.shape[-2:]))
    return images, masked.reshape(images.shape)


def as_floats(array: NDArray) -> NDArray[np.floating]:
    """Return numbers in the precision in which they are denoised, single or double."""
    kind = np.float64 if array.dtype.itemsize > 8 else np.result_type(array, np.float32)
    return array.astype(kind, copy=False)


def _unsound(pixels: Pixels, defects: Defects) -> NDArray[np.bool_]:
    """Say which pixels are masked, not finite, or far out of what their neighbours show."""
    bands = (defects.unsound(pixels, each, pixels.columns)[1] for each in pixels.bands())
    return np.concatenate(list(bands))


def defects_in_words(
    unsound: NDArray[np.bool_], image: NDArray[np.floating], masked: NDArray[np.bool_]
) -> str:
    """Count pixels that are no image, but for those that are masked, which are no news."""
    lost = int((~np.isfinite(image) & ~masked).sum())
    hot = int((unsound & ~masked).sum()) - lost
    return counted_defects(int(unsound.sum()), lost, hot, image.size)


def counted_defects(unsound: int, lost: int, hot: int, size: int) -> str:
    """Say how many pixels are no image, or raise an error if all are."""
    if unsound == size:
        raise ValueError("image must have a finite pixel that is not masked, got none")
    kinds = {"NaN or infinite": lost, "hot or dead": hot}
    told = [f"{n} of {size} pixels are {kind}" for kind, n in kinds.items() if n]
    remedy = "each is denoised from its nearest sound neighbour"
    return f"{' and '.join(told)}; {remedy}" if told else ""
