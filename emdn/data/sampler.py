"""Pair number n, a function of the seed and of n alone.

Its micrograph, its crop, its symmetry, its scale and its noise follow from the number. So a
training that was killed goes on with the pair that would have come next, and two machines
that share the numbers share the work.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from emdn.data.augment import SYMMETRIES, augmented, symmetric
from emdn.data.corpus import MOST_LOST, SPLITS, DataConfig, Record, Split
from emdn.io import MicrographError, read_micrograph
from emdn.noise import NoisyPair, noisy_pair, sample_scale
from emdn.specimens.scenes import scene

ACTIVE = 64  # micrographs that crops are taken from at a time


class Sampler:
    """Makes training pairs of one split, each from its number alone.

    Parameters
    ----------
    records : sequence of Record
        What `survey` found; those of other splits and those with a fault are left out.
    config : DataConfig
        How pairs are made.
    split : {"train", "val", "test"}
        Which micrographs to use.
    seed : int
        Different seeds give different pairs.

    Raises
    ------
    ValueError
        If the split holds no micrograph.
    """

    def __init__(
        self,
        records: Sequence[Record],
        config: DataConfig,
        split: Split = "train",
        *,
        seed: int = 0,
    ) -> None:
        self.records = [r for r in records if r.split == split and not r.fault]
        if not self.records:
            raise ValueError(f"{config.folder}: no micrograph is in the split {split!r}")
        self.config = config
        self.key = (seed, SPLITS.index(split))
        self.lost: set[str] = set()
        self.fault: ValueError | None = None  # what stopped a thread that makes pairs
        training = split == "train"  # what validates stays as it is
        self._augment = config.augment and training
        self._share = config.scenes if training else 0.0
        self._images = _Cache(self._read, config.cache * 1e9)
        self._scenes = _Cache(self._draw, 2 * ACTIVE * 16 * config.crop**2)

    def pair(self, number: int) -> NoisyPair:
        """Return the pair of a number, always the same."""
        rng = np.random.default_rng([*self.key, 0, number])
        crop = self.crop(number, rng)
        scale = sample_scale(self.config.dose_range, rng)
        if self._augment:
            return augmented(crop, self.config.crop, scale, rng)
        return noisy_pair(crop, scale, rng)

    def crop(self, number: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a random crop in one of the eight symmetries, in the image's units.

        Where magnification is to be changed, its side is between two thirds and the double
        of a training crop's.
        """
        image = self._image(number)
        side = self.config.crop
        if self._augment:
            largest = min(*image.shape[-2:], 2 * side)
            side = int(np.clip(side * np.exp(rng.normal(0, 0.4)), side / 1.5, largest))
        y, x = (rng.integers(length - side + 1) for length in image.shape[-2:])
        frame = image[rng.integers(len(image))] if image.ndim == 3 else image
        return symmetric(frame[y : y + side, x : x + side], int(rng.integers(SYMMETRIES)))

    def _image(self, number: int) -> NDArray[np.float32]:
        """Return what a number is cropped from: a scene or a micrograph.

        Numbers visit `ACTIVE` images in turn, a few times each, before they move on. Where
        a micrograph became unreadable, another is drawn.
        """
        visit, place = number // (ACTIVE * self.config.crops_per_visit), number % ACTIVE
        rng = np.random.default_rng([*self.key, 1, place, visit])
        # A share of 0 leaves the draws below alone.
        if self._share and rng.random() < self._share:
            return self._scenes(f"{visit} {place}")
        while True:
            record = self.records[int(rng.choice(len(self.records), p=self._chances))]
            try:
                return self._images(record.file)
            except MicrographError as error:
                self._lose(record, error)

    def _draw(self, name: str) -> NDArray[np.float32]:
        """Draw the scene of a visit and a place."""
        visit, place = map(int, name.split())
        side = 2 * self.config.crop
        return scene((side, side), np.random.default_rng([*self.key, 2, place, visit]))

    def _lose(self, record: Record, error: MicrographError) -> None:
        """Remember a file that was readable once; too many of them stop the training."""
        self.lost.add(record.file)
        if len(self.lost) > MOST_LOST * len(self.records):
            self.fault = ValueError(
                f"{len(self.lost)} of {len(self.records)} micrographs became unreadable, "
                f"more than {MOST_LOST:.0%}. The last: {error}"
            )
            raise self.fault from error

    @cached_property
    def _chances(self) -> NDArray[np.float64]:
        """Return how likely each micrograph is to be drawn."""
        sizes = Counter(record.source for record in self.records)
        exponent = self.config.source_exponent - 1
        weights = np.array([sizes[r.source] ** exponent for r in self.records], float)
        return weights / weights.sum()

    def _read(self, file: str) -> NDArray[np.float32]:
        image, _ = read_micrograph(self.config.folder / file)
        image = shrink(image, self.config.downsizing)
        if not np.isfinite(image).all():
            raise MicrographError(f"{self.config.folder / file}: holds NaN or infinities")
        return image


def shrink(image: NDArray, factor: int) -> NDArray[np.float32]:
    """Downsize images by a whole factor, each pixel the mean of an area.

    Parameters
    ----------
    image : (..., H, W) array
        Rows and columns that fill no area are cut off.
    factor : int
        Side of an area, in pixels.

    Examples
    --------
    >>> shrink(np.arange(16).reshape(4, 4), 2)
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    height, width = (side // factor * factor for side in image.shape[-2:])
    # Summing strided views is six times faster than a mean over short axes.
    total = np.zeros((*image.shape[:-2], height // factor, width // factor), np.float32)
    for y, x in np.ndindex(factor, factor):
        total += image[..., y:height:factor, x:width:factor]
    return total / np.float32(factor**2)


class _Cache:
    """Keeps the images last used, as many as fit in a number of bytes."""

    def __init__(self, read: Callable[[str], NDArray[np.float32]], size: float) -> None:
        self.read, self.size, self.held = read, size, 0
        self.images: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self.lock = threading.Lock()

    def __call__(self, file: str) -> NDArray[np.float32]:
        with self.lock:
            if file in self.images:
                self.images.move_to_end(file)
                return self.images[file]
        image = self.read(file)  # two threads may read the same, rather than wait
        with self.lock:
            if file not in self.images:
                self.images[file] = image
                self.held += image.nbytes
            while self.held > self.size and len(self.images) > 1:
                self.held -= self.images.popitem(last=False)[1].nbytes
        return image
