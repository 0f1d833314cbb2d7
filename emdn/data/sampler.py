"""Pair number n, a function of the seed and of n alone.

Its micrograph, its crop, its symmetry, its scale and its noise follow from the number. So a
training that was killed goes on with the pair that would have come next, and two machines
that share the numbers share the work.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emdn.data.augment import SYMMETRIES, augmented, symmetric
from emdn.data.corpus import LOSSES, SPLITS, DataConfig, Record, Split, too_many_lost
from emdn.io import MicrographError, read_micrograph
from emdn.noise import NoisyPair, noisy_pair, sample_scale, thinned_pair
from emdn.specimens.scenes import scene

ACTIVE = 64  # images that crops are taken from at a time
SCENE = 2  # side of a scene, in sides of a crop
PAIRS, VISITS, SCENES = range(3)  # keys of the streams of random numbers
BYTES_PER_GB = 1e9

DrawScene = Callable[[tuple[int, int], np.random.Generator], NDArray[np.float32]]


class Sampler:
    """Makes training pairs of one split, each from its number alone.

    Parameters
    ----------
    records : sequence of Record
        What `survey` found; records of other splits and with a fault are left out.
    config : DataConfig
        How pairs are made.
    split : {"train", "val", "test"}
        Which micrographs to use. Only pairs of "train" are augmented or of scenes.
    seed : int
        Different seeds give different pairs.
    draw_scene : callable
        Draws a random scene from a shape and a generator, see `emdn.specimens.scenes`.

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
        draw_scene: DrawScene = scene,
    ) -> None:
        self.records = [r for r in records if r.split == split and not r.fault]
        if not self.records:
            raise ValueError(f"{config.folder}: no micrograph is in the split {split!r}")
        self.config = config
        self.key = (seed, SPLITS.index(split))
        self.lost: set[str] = set()
        self.fault: ValueError | None = None  # what stopped a thread that makes pairs
        training = split == "train"  # what validates stays as it is
        self._augmentation = config.augmentation if training else None
        self._share_of_scenes = config.scenes if training else 0.0
        self._draw_scene = draw_scene
        self._images = Cache(self._read, config.cache * BYTES_PER_GB)
        bytes_of_scene = 4 * (SCENE * config.crop) ** 2  # float32
        self._scenes = Cache(self._scene, 2 * ACTIVE * bytes_of_scene)

    def pair(self, number: int) -> NoisyPair:
        """Return the pair of a number, always the same."""
        rng = np.random.default_rng([*self.key, PAIRS, number])
        crop = self.crop(number, rng)
        if self.config.thinned is not None:
            return thinned_pair(crop, self.config.thinned, rng)
        scale = sample_scale(self.config.dose_range, rng)
        if self._augmentation is not None:
            return augmented(crop, self.config.crop, scale, self._augmentation, rng)
        return noisy_pair(crop, scale, rng)

    def crop(self, number: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a random crop in one of the eight symmetries, in the image's units.

        Where the magnification is to be changed, the crop is larger or smaller than those
        of pairs.
        """
        image = self._image(number)
        side = self.config.crop
        if self._augmentation is not None:
            side = self._augmentation.crop_side(side, min(image.shape[-2:]), rng)
        y, x = (rng.integers(length - side + 1) for length in image.shape[-2:])
        frame = image[rng.integers(len(image))] if image.ndim == 3 else image
        return symmetric(frame[y : y + side, x : x + side], int(rng.integers(SYMMETRIES)))

    def _image(self, number: int) -> NDArray[np.float32]:
        """Return what a number is cropped from: a scene or a micrograph.

        Numbers visit `ACTIVE` images in turn, a few times each, before they move on. Where
        a micrograph became unreadable, another is drawn.
        """
        visit, place = number // (ACTIVE * self.config.crops_per_visit), number % ACTIVE
        rng = np.random.default_rng([*self.key, VISITS, place, visit])
        # A share of 0 leaves the draws below alone.
        if self._share_of_scenes and rng.random() < self._share_of_scenes:
            return self._scenes((place, visit))
        while True:
            record = self.records[int(rng.choice(len(self.records), p=self._chances))]
            try:
                return self._images(record.file)
            except MicrographError as error:
                self._count_as_lost(record, error)

    def _scene(self, place_and_visit: tuple[int, int]) -> NDArray[np.float32]:
        """Draw the scene of a place and a visit."""
        side = SCENE * self.config.crop
        rng = np.random.default_rng([*self.key, SCENES, *place_and_visit])
        return self._draw_scene((side, side), rng)

    def _count_as_lost(self, record: Record, error: MicrographError) -> None:
        """Remember a file that was readable once; too many of them stop the training."""
        self.lost.add(record.file)
        if too_many_lost(len(self.lost), len(self.records)):
            self.fault = ValueError(
                f"{len(self.lost)} of {len(self.records)} micrographs became unreadable, "
                f"more than {1 / LOSSES:.0%}. The last: {error}"
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
        image = area_mean(image, self.config.downsizing)
        if not np.isfinite(image).all():
            raise MicrographError(f"{self.config.folder / file}: holds NaN or infinities")
        return image


def area_mean(image: NDArray, factor: int) -> NDArray[np.float32]:
    """Downsize images by a whole factor, each pixel the mean of an area.

    Parameters
    ----------
    image : (..., H, W) array
        Images of any real type; rows and columns that fill no area are cut off.
    factor : int
        Side of an area, in pixels.

    Examples
    --------
    >>> area_mean(np.arange(16).reshape(4, 4), 2)
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    height, width = (side // factor * factor for side in image.shape[-2:])
    # Sums of strided views take a seventh of the time of downscale_local_mean of
    # scikit-image, where 2048 x 2048 pixels are downsized by 2.
    total = np.zeros((*image.shape[:-2], height // factor, width // factor), np.float32)
    for y, x in np.ndindex(factor, factor):
        total += image[..., y:height:factor, x:width:factor]
    return total / np.float32(factor**2)


class Cache:
    """Keeps the images last used, as many as fit in a number of bytes.

    Parameters
    ----------
    make : callable
        Returns the image of a key; may be called in several threads at once.
    size : float
        Memory for images, in bytes. The image used last is kept whatever its size.
    """

    def __init__(self, make: Callable[[Any], NDArray[np.float32]], size: float) -> None:
        self.make, self.size, self.held = make, size, 0
        self.images: OrderedDict[Any, NDArray[np.float32]] = OrderedDict()
        self.lock = threading.Lock()

    def __call__(self, key: Any) -> NDArray[np.float32]:
        """Return the image of a key."""
        with self.lock:
            if key in self.images:
                self.images.move_to_end(key)
                return self.images[key]
        image = self.make(key)  # two threads may make the same, rather than wait
        with self.lock:
            if key not in self.images:
                self.images[key] = image
                self.held += image.nbytes
            while self.held > self.size and len(self.images) > 1:
                self.held -= self.images.popitem(last=False)[1].nbytes
        return image
