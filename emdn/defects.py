"""Pixels that are no image, found and replaced with a few rows of an image in memory.

Masked pixels, those that are not finite, and those far out of what their neighbours show
decide nothing: the nearest sound neighbour takes their place. What is far out is decided
once for the whole image, from all its rows, so that every part of an image, read by
itself, is mended as the whole image is.

Pairs and lines of hot or dead pixels are found from ten spans of the image on. A pixel that
stands alone is found from one or two spans on, if it lies far out of its eight neighbours:
compared with how far these lie apart, and with how far neighbours lie apart in most of the
image. Atom columns that are sampled by more than a pixel and particles of a few pixels do
not stand so alone. Hot pixels that are less bright look like specimen, and stay.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, median_filter

from emdn.detector import SIDE
from emdn.tiling import bands_of

SAMPLE = 2**22  # pixels at most, of which the median level is taken
REACH = 5  # pixels in a row or column, whose median no pair or line of hot pixels changes
FAR_OUT = 10.0  # spans of those medians; what lies farther out is a defect
# What stands alone lies a span out of the medians, and out of all neighbours by so many
# times what these lie apart and what neighbours lie apart around 95 % of the pixels. So no
# more than one count in a million is taken for hot, at any rate (tests/test_defects.py).
LONE, STEEP, STEEPEST, MOST = 1.0, 6.0, 5.0, 0.95
JUDGED = 2**19  # pixels at most, by which that is decided
# Pixels up to which a sound neighbour is looked for. Beyond the last, far inside of a mask,
# the image's median level stands in: no network looks that far.
NEAR, FARTHEST = 8, 128


@dataclass(frozen=True)
class Pixels:
    """An image of which parts are read, from an array or from a file.

    Parameters
    ----------
    shape : (int, int)
        Height and width, in pixels.
    read : callable
        Returns the numbers in a slice of rows and one of columns, as floats.
    masked : callable
        Returns, likewise, True where a pixel is not to be believed.
    """

    shape: tuple[int, int]
    read: Callable[[slice, slice], NDArray[np.floating]]
    masked: Callable[[slice, slice], NDArray[np.bool_]]

    @classmethod
    def of(cls, image: NDArray[np.floating], masked: NDArray[np.bool_]) -> Self:
        """Return the pixels of an (H, W) array and its mask."""
        height, width = image.shape
        return cls(
            (height, width),
            lambda rows, columns: image[rows, columns],
            lambda rows, columns: masked[rows, columns],
        )

    @property
    def columns(self) -> slice:
        """All columns."""
        return slice(0, self.shape[1])

    def bands(self) -> Iterator[slice]:
        """Yield the slices of rows, from top to bottom, that are in memory at once."""
        return bands_of(self.shape)

    def around(self, window: tuple[slice, slice], margin: int) -> tuple[slice, slice]:
        """Return a window with a margin on all sides, as far as the image goes."""
        rows, columns = (
            slice(max(each.start - margin, 0), min(each.stop + margin, length))
            for each, length in zip(window, self.shape, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class Defects:
    """What tells the sound pixels of one image from the others.

    Parameters
    ----------
    lowest, highest : float
        Grey levels beyond which a pixel is a defect; infinite where nothing is known.
    level : float
        The median of the sound pixels, for places without any sound pixel near.
    darkest, brightest : float
        Grey levels beyond which a pixel is a defect that stands alone among its neighbours.
    step : float
        Least difference from all of its neighbours of a pixel that stands alone.
    """

    lowest: float
    highest: float
    level: float
    darkest: float = -np.inf
    brightest: float = np.inf
    step: float = np.inf

    @classmethod
    def of(cls, pixels: Pixels) -> Self:
        """Find out which grey levels no sound pixel of an image has.

        A pair or a line of hot pixels stands out of the median along a row or of that along
        a column. A peak of the specimen is wider than that. Rows and columns of one value,
        such as the gaps of a detector, may be wider still, and say nothing of the specimen.
        """
        blank_rows, blank_columns, level = _blanks(pixels)
        unknown = cls(-np.inf, np.inf, level)
        if min(pixels.shape) < 2 * SIDE:
            return unknown
        darkest, brightest, apart, any_sound = np.inf, -np.inf, 0.0, False
        stride = -(-pixels.shape[0] * pixels.shape[1] // JUDGED)
        for band in pixels.bands():
            rows, _ = pixels.around((band, pixels.columns), REACH // 2)
            image = pixels.read(rows, pixels.columns)
            bad = _bad(pixels, rows, pixels.columns, image)
            bad |= blank_rows[rows, np.newaxis] | blank_columns
            inner = slice(band.start - rows.start, band.stop - rows.start)
            any_sound |= not bad[inner].all()
            sound = np.where(bad, image.dtype.type(level), image)
            along, down = (median_filter(sound, side) for side in ((1, REACH), (REACH, 1)))
            low, high = np.minimum(along, down)[inner], np.maximum(along, down)[inner]
            darkest = min(darkest, float(high.min()))
            brightest = max(brightest, float(low.max()))
            some = np.arange(inner.start + -band.start % stride, inner.stop, stride)
            apart = max(apart, _usually_apart(sound, bad, some))
        span = brightest - darkest
        if not any_sound or not span > 0:
            return unknown
        far, near = FAR_OUT * span, LONE * span
        # Where most neighbours are equal, as in images of few counts, nothing is known.
        step = STEEPEST * apart if apart > 0 else np.inf
        ends, alone = (darkest - far, brightest + far), (darkest - near, brightest + near)
        return cls(*ends, level, *alone, step)

    def unsound(
        self, pixels: Pixels, rows: slice, columns: slice
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        """Return the pixels of a window as they are, and which of them are no image."""
        wide = pixels.around((rows, columns), 1)
        image = pixels.read(*wide)
        bad = _bad(pixels, *wide, image)
        top, left = rows.start - wide[0].start, columns.start - wide[1].start
        inner = np.s_[
            top : top + rows.stop - rows.start, left : left + columns.stop - columns.start
        ]
        alone = self._alone(image, bad)[inner]
        image, bad = image[inner], bad[inner]
        return image, bad | (image > self.highest) | (image < self.lowest) | alone

    def _alone(
        self, image: NDArray[np.floating], bad: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Say which pixels lie far out of all their neighbours, if those are all sound."""
        alone = ((image > self.brightest) | (image < self.darkest)) & ~bad
        if not np.isfinite(self.step) or not alone.any():
            return np.zeros_like(alone)
        places = np.nonzero(alone)
        sound = np.where(bad, image.dtype.type(self.level), image)
        near = np.sort(_neighbours(sound, *places), axis=0)
        out = np.maximum(image[places] - near[-1], near[0] - image[places])
        steep = (out > STEEP * (near[-2] - near[1])) & (out > self.step)
        alone[places] = steep & ~_neighbours(bad, *places).any(axis=0)
        return alone

    def filled(self, pixels: Pixels, rows: slice, columns: slice) -> NDArray[np.floating]:
        """Return a window in which the nearest sound neighbour replaces what is no image.

        A part of the image gives what the whole image gives there: a neighbour is looked
        for outside of the window too.
        """
        image, bad = self.unsound(pixels, rows, columns)
        if not bad.any():
            return image
        for margin in (NEAR, FARTHEST):
            wide = pixels.around((rows, columns), margin)
            image, bad = self.unsound(pixels, *wide)
            inner = tuple(
                slice(each.start - whole.start, each.stop - whole.start)
                for each, whole in zip((rows, columns), wide, strict=True)
            )
            if bad.all():
                continue
            found: Any = distance_transform_edt(bad, return_indices=True)
            distance, nearest = found[0][inner], found[1][:, *inner]
            if distance.max() <= margin:
                return image[tuple(nearest)]
            if margin == FARTHEST:
                level = image.dtype.type(self.level)
                return np.where(distance > FARTHEST, level, image[tuple(nearest)])
        return np.full_like(image[inner], self.level)


def _neighbours(image: NDArray, y: NDArray[np.intp], x: NDArray[np.intp]) -> NDArray:
    """Return the eight neighbours of each place, reflected at the edges of the image."""
    ys, xs = (
        [last - np.abs(last - np.abs(each + step)) for step in (-1, 0, 1)]
        for each, last in zip((y, x), np.subtract(image.shape, 1), strict=True)
    )
    around = [image[a, b] for a in ys for b in xs]
    return np.stack(around[:4] + around[5:])


def _usually_apart(
    image: NDArray[np.floating], bad: NDArray[np.bool_], rows: NDArray[np.intp]
) -> float:
    """Return how far the neighbours of most pixels in some rows lie apart.

    The highest and the lowest neighbour are left out, since one may be hot.
    """
    places = rows[:, np.newaxis], np.arange(image.shape[1])[np.newaxis]
    near = np.sort(_neighbours(image, *places), axis=0)
    sound = ~(bad[rows] | _neighbours(bad, *places).any(axis=0))
    apart = (near[-2] - near[1])[sound]
    return float(np.quantile(apart, MOST)) if apart.size else 0.0


def _bad(
    pixels: Pixels, rows: slice, columns: slice, image: NDArray[np.floating]
) -> NDArray[np.bool_]:
    return pixels.masked(rows, columns) | ~np.isfinite(image)


def _blanks(pixels: Pixels) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """Return which rows and columns hold one value, and the median level of the rest."""
    height, width = pixels.shape
    step = -(-height * width // SAMPLE)  # rows, from one that is sampled to the next
    least, largest = np.full(width, np.inf), np.full(width, -np.inf)
    rows, sampled = np.zeros(height, bool), []
    for band in pixels.bands():
        image = pixels.read(band, pixels.columns)
        bad = _bad(pixels, band, pixels.columns, image)
        plain = np.where(bad, 0, image)
        least = np.minimum(least, plain.min(axis=0))
        largest = np.maximum(largest, plain.max(axis=0))
        rows[band] = np.ptp(plain, axis=1) == 0
        some = slice(-band.start % step, None, step)
        # A copy, since a view would keep the whole band in memory.
        sampled.append((image[some].copy(), bad[some] | rows[band][some, np.newaxis]))
    columns = least == largest
    levels = [image[~(bad | columns)] for image, bad in sampled]
    found = np.concatenate(levels)
    if found.size:
        return rows, columns, float(np.median(found))
    return rows, columns, float(least.min() / 2 + largest.max() / 2)
