"""Which pixels of a micrograph can be judged: neither masked, nor invalid, nor a bar.

What the denoiser replaces, since it is masked, not finite, hot or dead, holds no electrons
that could judge anything. Nor do information bars, frames, the blank margins of an image
that was aligned, and saturated areas: the denoiser measures no noise there. A `Sound` image
says where such pixels are, and holds what their neighbours suggest in their place.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from emdn.defects import Defects, Pixels
from emdn.detector import SIDE

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Window = tuple[slice, slice]

AREA = 7  # pixels at a side, from where on what is no image is an area, not a few pixels
# Shares of pixels. In an image of more than half an electron a pixel fewer than `SPARSE`
# equal a neighbour in their line; of sparser counts no bar can be told. A bar has one level
# in more than `PLAIN` of its pixels, and more than `WRITTEN` of the others lie side by side
# with one of them, as strokes do and stray electrons do not.
# It ends along a straight line: over `EDGE` pixels the share of that level falls by more
# than `STRAIGHT`.
SPARSE = 0.75
PLAIN = 0.6
WRITTEN = 0.9
EDGE = 3
STRAIGHT = 0.4


class Sound(NamedTuple):
    """A noisy image, and which of its pixels are one.

    Parameters
    ----------
    image : (H, W) float64 array
        Finite. What is no image holds what its nearest neighbours do.
    judged : (H, W) bool array
        False where a pixel is no image: masked, not finite, hot or dead, of an information
        bar, a blank margin or a saturated area.
    window : (slice, slice)
        Rows and columns of the largest rectangle without a bar, a margin, or a masked area
        of 7 x 7 pixels or more: what a Fourier transform can be taken of.
    """

    image: Floats
    judged: Bools
    window: Window

    @classmethod
    def of(cls, image: "ArrayLike | Sound", mask: ArrayLike | None = None) -> "Sound":
        """Find out which pixels can be judged.

        Parameters
        ----------
        image : (H, W) array or Sound
            One micrograph. Masked arrays keep their mask; a sound image stays as it is.
        mask : (H, W) array of bool, optional
            True where a pixel is not to be believed.

        Raises
        ------
        ValueError
            If the image or the mask has another shape, or no pixel can be judged.

        Examples
        --------
        >>> image = np.random.default_rng(0).poisson(50.0, size=(64, 80)).astype(float)
        >>> image[-16:] = 0  # a bar
        >>> image[:, :3] = np.nan
        >>> found = Sound.of(image)
        >>> found.image[found.window].shape, f"{found.judged.mean():.2f}"
        ((48, 77), '0.72')
        """
        if isinstance(image, Sound):
            return image
        pixels, bad = parted(image, mask)
        if pixels.ndim != 2:
            raise ValueError(f"image must have shape (H, W), got {pixels.shape}")
        bad |= _barred(pixels, bad)
        if bad.all():
            raise ValueError("image must have a finite pixel that is not masked, got none")
        source = Pixels.of(pixels, bad)
        defects = Defects.of(source)
        every = slice(0, len(pixels))
        _, unsound = defects.unsound(source, every, source.columns)
        mended: Any = defects.filled(source, every, source.columns)
        judged = ~(unsound | _saturated(pixels, bad))
        if not judged.any():
            raise ValueError("image must have a pixel that is not saturated, got none")
        return cls(mended, judged, sound_window(bad))

    @property
    def whole(self) -> bool:
        """Whether all pixels can be judged."""
        return bool(self.judged.all())

    def beside(self, other: ArrayLike) -> Floats:
        """Return another image of the same pixels, as this one where nothing is judged.

        Parameters
        ----------
        other : (H, W) array
            A denoised image, in the same units; finite where pixels are judged.
        """
        values = np.asarray(np.ma.getdata(other), np.float64)
        if values.shape != self.image.shape:
            raise ValueError(
                f"the denoised image must have the shape of the noisy one, "
                f"{self.image.shape}, got {values.shape}"
            )
        if not np.isfinite(values[self.judged]).all():
            raise ValueError("the denoised image must be finite where the noisy one is")
        return np.where(self.judged, values, self.image)


def parted(image: ArrayLike, mask: ArrayLike | None = None) -> tuple[Floats, Bools]:
    """Return the numbers of an array, and where they are masked or not finite.

    Parameters
    ----------
    image : array
        Real numbers of any shape; masked arrays keep their mask.
    mask : array of bool, optional
        True where a pixel is not to be believed; of the shape of the image, or of one image
        of a stack.

    Raises
    ------
    ValueError
        If the mask has another shape.
    """
    pixels = np.asarray(np.ma.getdata(image), np.float64)
    bad = np.ma.getmaskarray(np.ma.asarray(image)) | ~np.isfinite(pixels)
    if mask is not None:
        given = np.asarray(mask, bool)
        if given.shape not in (pixels.shape, pixels.shape[-2:]):
            raise ValueError(f"mask must have shape {pixels.shape}, got {given.shape}")
        bad = bad | given
    return pixels, bad


def filled(pixels: Floats, bad: Bools) -> Floats:
    """Return (H, W) or (N, H, W) pixels with the nearest others in place of bad ones."""
    if not bad.any():
        return pixels
    if pixels.ndim == 3:
        return np.stack([filled(*each) for each in zip(pixels, bad, strict=True)])
    if bad.all():
        raise ValueError("image must have a finite pixel that is not masked, got none")
    source = Pixels.of(pixels, bad)
    level = float(np.median(pixels[~bad]))
    defects = Defects(-np.inf, np.inf, level)
    found: Any = defects.filled(source, slice(0, len(pixels)), source.columns)
    return found


# ------------------------------------------------------------------- bars and saturation


def _barred(pixels: Floats, bad: Bools) -> Bools:
    """Say which pixels belong to bars and blank margins at the borders of an image."""
    image = inner = np.where(bad, np.nan, pixels)
    top, left, (bottom, right) = 0, 0, image.shape
    found = max(_alike(inner), _alike(inner.T)) < SPARSE
    while found and inner.size:
        rows = _bar(inner), _bar(inner[::-1])
        top, bottom = top + rows[0], max(bottom - rows[1], top + rows[0])
        inner = image[top:bottom, left:right].T
        columns = _bar(inner), _bar(inner[::-1])
        left, right = left + columns[0], max(right - columns[1], left + columns[0])
        inner = image[top:bottom, left:right]
        found = any(rows + columns)
    barred = np.ones(pixels.shape, bool)
    barred[top:bottom, left:right] = False
    return barred


def _alike(lines: Floats) -> float:
    """Return the median share of pixels in a line that equal a neighbour in it."""
    same = lines[:, 1:] == lines[:, :-1]
    alike = np.pad(same, ((0, 0), (1, 0))) | np.pad(same, ((0, 0), (0, 1)))
    return float(np.median(alike.sum(1) / np.maximum(np.isfinite(lines).sum(1), 1)))


def _bar(lines: Floats) -> int:
    """Return how many of the first lines of an image are a bar, or of one level each.

    Parameters
    ----------
    lines : (L, W) array
        Rows, or columns, from a border on; NaN where a pixel is no image.
    """
    if not lines.size:
        return 0
    known = np.isfinite(lines)
    least = np.where(known, lines, np.inf).min(1)
    most = np.where(known, lines, -np.inf).max(1)
    blank = int(np.argmin(np.append(least >= most, False)))  # the first that is not
    levels, pixels_at = np.unique(lines[: 2 * SIDE], return_counts=True)
    plain = lines == levels[np.argmax(pixels_at)]
    share = plain.mean(1)
    flat = np.flatnonzero(share > (1 + np.median(share)) / 2)
    gaps = np.diff(np.concatenate([[-1], flat, [len(lines) + 3 * SIDE]]))
    last = int(np.argmax(gaps > 2 * SIDE))  # flat lines before a gap as wide as a bar
    bar = int(flat[last - 1]) + 1 if last else 0
    if not SIDE <= bar < len(lines) or plain[:bar].mean() < PLAIN:
        return blank
    inside, outside = share[bar - EDGE : bar], share[bar : bar + EDGE]
    if np.median(inside) - np.median(outside) < STRAIGHT:
        return blank
    stray = ~plain[:bar]
    near = np.pad(stray, 1)
    beside = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:]
    written = (stray & beside).sum() >= WRITTEN * stray.sum()
    return max(bar, blank) if written else blank


def _saturated(pixels: Floats, bad: Bools) -> Bools:
    """Say which pixels belong to areas of one level, but for the darkest.

    Where electrons are sparse many pixels have none, which is no fault.
    """
    least, most = (
        f(np.where(bad, end, pixels), AREA)
        for f, end in ((minimum_filter, -np.inf), (maximum_filter, np.inf))
    )
    level = (least == most) & (least > pixels[~bad].min())
    around: Any = maximum_filter(level, AREA)
    return around & ~bad


def sound_window(bad: Bools) -> Window:
    """Return the largest rectangle without an area of pixels that are no image.

    Parameters
    ----------
    bad : (H, W) array of bool
        True where a pixel is no image. Fewer than 7 x 7 together, away from borders, and
        lines that are thinner, are no area.
    """
    height, width = bad.shape
    if not bad.any():
        return slice(0, height), slice(0, width)
    wide = np.pad(bad, AREA, constant_values=True)
    areas = maximum_filter(minimum_filter(wide, AREA), AREA)[AREA:-AREA, AREA:-AREA]
    rest = np.pad(areas, ((0, -height % SIDE), (0, -width % SIDE)))
    cells: Any = rest.reshape(-(-height // SIDE), SIDE, -1, SIDE).any((1, 3))
    top, bottom, left, right = (SIDE * end for end in _largest(~cells))
    bottom, right = min(bottom, height), min(right, width)
    for _ in range(SIDE):  # what a cell at the border has of its own
        top -= top > 0 and not areas[top - 1, left:right].any()
        bottom += bottom < height and not areas[bottom, left:right].any()
        left -= left > 0 and not areas[top:bottom, left - 1].any()
        right += right < width and not areas[top:bottom, right].any()
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _largest(free: Bools) -> tuple[int, int, int, int]:
    """Return the ends, in rows and columns, of the largest rectangle that is free."""
    best, ends = 0, (0, 0, 0, 0)
    heights = np.zeros(free.shape[1] + 1, int)  # the last one ends what is open
    for row, line in enumerate(free):
        heights[:-1] = np.where(line, heights[:-1] + 1, 0)
        rising: list[tuple[int, int]] = []  # first column and height, lower to higher
        for column, height in enumerate(heights):
            start = column
            while rising and rising[-1][1] >= height:
                start, high = rising.pop()
                if high * (column - start) > best:
                    best = high * (column - start)
                    ends = (row + 1 - high, row + 1, start, column)
            rising.append((start, int(height)))
    return ends
