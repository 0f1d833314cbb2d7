"""Cut an image into overlapping tiles, and put tiles back together.

A network's prediction is worst near the edge of what it sees, and a large image does not
fit its memory. So an image of any size is covered by equal tiles, every tile is computed
once, and a margin on each side, the overlap, is dropped. Tiles that stick out of the image
see it continued by reflection; that makes all tiles equal, and edge cases disappear.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

BAND = 2**22  # pixels of a band of rows, 16 MB of single precision


@dataclass(frozen=True)
class Tiling:
    """Cover an image of shape (H, W) with equal overlapping tiles.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image, in pixels.
    size : (int, int)
        Height and width of a tile, in pixels.
    overlap : int
        Margin that is dropped on each side of a tile, in pixels; by default the paper's.

    Examples
    --------
    >>> tiling = Tiling(shape=(90, 150), size=(64, 64), overlap=8)
    >>> len(tiling)
    8
    >>> print(tiling)
    2 x 4 tiles of 64 x 64 pixels with overlap 8
    rows:    read -8:56 40:104, keep 0:48 48:90
    columns: read -8:56 40:104 88:152 136:200, keep 0:48 48:96 96:144 144:150
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    overlap: int = 25

    def __post_init__(self) -> None:
        _require_pair("shape", self.shape)
        _require_pair("size", self.size)
        if self.overlap < 0:
            raise ValueError(
                f"overlap must not be negative, got {self.overlap}; use 0 for none"
            )
        if min(self.size) <= 2 * self.overlap:
            raise ValueError(
                f"size must exceed twice the overlap of {self.overlap}, got {self.size}; "
                f"use tiles of at least {2 * self.overlap + 1} pixels or a smaller overlap"
            )

    @classmethod
    def balanced(
        cls,
        shape: tuple[int, int],
        *,
        size: int = 512,
        overlap: int = 25,
        multiple: int = 16,
    ) -> "Tiling":
        """Cover an image with the fewest tiles, then shrink them until they waste least.

        Parameters
        ----------
        shape : (int, int)
            Height and width of the image, in pixels.
        size : int
            Largest side of a tile, in pixels, a multiple of `multiple`.
        overlap : int
            Margin that is dropped on each side of a tile, in pixels.
        multiple : int
            Divisor of the sides of a tile, in pixels: the largest stride of the network.

        Examples
        --------
        >>> Tiling((600, 600), size=(512, 512)).grid  # two strips of 462 for 600 rows
        (2, 2)
        >>> Tiling.balanced((600, 600)).size  # two strips of 302 do
        (352, 352)
        """
        if multiple < 1:
            raise ValueError(f"multiple must be at least 1, got {multiple}")
        if size % multiple:
            below = size - size % multiple
            use = f"{below} or {below + multiple}" if below else multiple
            raise ValueError(
                f"size must be a multiple of {multiple}, got {size}; use {use}"
            )
        largest = cls(shape, (size, size), overlap)
        height, width = (
            math.ceil((math.ceil(pixels / tiles) + 2 * overlap) / multiple) * multiple
            for pixels, tiles in zip(shape, largest.grid, strict=True)
        )
        return cls(shape, (height, width), overlap)

    @property
    def stride(self) -> tuple[int, int]:
        """Height and width of what is kept of a tile: also the step to the next tile."""
        height, width = self.size
        return height - 2 * self.overlap, width - 2 * self.overlap

    @property
    def grid(self) -> tuple[int, int]:
        """Number of rows and columns of tiles."""
        (height, width), (down, right) = self.shape, self.stride
        return math.ceil(height / down), math.ceil(width / right)

    def __len__(self) -> int:
        """Return the number of tiles."""
        return math.prod(self.grid)

    def corners(self) -> NDArray[np.intp]:
        """Return the top left pixel (y, x) of each tile, row by row, as an (N, 2) array.

        Corners are counted in pixels of the image; negative ones lie in the reflection.
        """
        return np.indices(self.grid).reshape(2, -1).T * self.stride - self.overlap

    def __str__(self) -> str:
        rows, columns = self.grid
        height, width = self.size
        return (
            f"{rows} x {columns} tiles of {height} x {width} pixels "
            f"with overlap {self.overlap}\n"
            f"rows:    {self._intervals(axis=0)}\ncolumns: {self._intervals(axis=1)}"
        )

    def _intervals(self, axis: int) -> str:
        """List the pixels that tiles read and keep along an axis, as slices."""
        stride, length = self.stride[axis], self.shape[axis]
        kept = [(y, min(y + stride, length)) for y in range(0, length, stride)]
        read = [(y - self.overlap, y + stride + self.overlap) for y, _ in kept]
        return f"read {_abbreviate(read)}, keep {_abbreviate(kept)}"


def split(
    image: NDArray[T], tiling: Tiling, start: int = 0, stop: int | None = None
) -> NDArray[T]:
    """Cut an image into tiles, all of them or those from `start` to before `stop`.

    Only the tiles that are asked for take memory, and no padded copy of the image does, so
    that batches of a large (even memory-mapped) image stay small.

    Parameters
    ----------
    image : (H, W) array
        Image of shape ``tiling.shape``; it may be smaller than a tile.
    tiling : Tiling
        Where the tiles lie.
    start, stop : int
        Number of the first tile, counted row by row, and of the tile after the last.

    Returns
    -------
    (N, h, w) array
        Tiles of shape ``tiling.size``, with the image continued by reflection.

    Examples
    --------
    >>> image = np.arange(6.0).reshape(2, 3)
    >>> tiling = Tiling(image.shape, size=(4, 4), overlap=1)
    >>> split(image, tiling)[0]
    array([[4., 3., 4., 5.],
           [1., 0., 1., 2.],
           [4., 3., 4., 5.],
           [1., 0., 1., 2.]])
    """
    _require_shape("image", image, tiling)
    (height, width), (tile_height, tile_width) = tiling.shape, tiling.size
    y, x = tiling.corners()[start:stop].T[..., np.newaxis]
    rows = _reflect(y + np.arange(tile_height), height)
    columns = _reflect(x + np.arange(tile_width), width)
    return image[rows[:, :, np.newaxis], columns[:, np.newaxis, :]]


def places(tiling: Tiling, number: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which rows and which columns of the image a tile reads.

    Parameters
    ----------
    tiling : Tiling
        Where the tiles lie.
    number : int
        Number of the tile, counted row by row.

    Examples
    --------
    >>> rows, columns = places(Tiling((2, 3), size=(4, 4), overlap=1), 0)
    >>> print(rows, columns)
    [1 0 1 0] [1 0 1 2]
    """
    down, along = tiling.grid
    index = divmod(range(down * along)[number], along)
    rows, columns = (
        _reflect(n * stride - tiling.overlap + np.arange(side), length)
        for n, stride, side, length in zip(
            index, tiling.stride, tiling.size, tiling.shape, strict=True
        )
    )
    return rows, columns


def paste(output: NDArray[T], tiles: NDArray[T], tiling: Tiling, start: int = 0) -> None:
    """Write what is kept of some tiles into their places in an image.

    This function alone changes an argument: it fills `output` batch by batch.

    Parameters
    ----------
    output : (H, W) array
        Image of shape ``tiling.shape`` to write into; other pixels are left alone.
    tiles : (N, h, w) array
        Tiles of shape ``tiling.size``.
    tiling : Tiling
        Where the tiles lie.
    start : int
        Number of the first tile, counted as in `split`.

    Examples
    --------
    >>> image = np.random.default_rng(0).uniform(size=(50, 70))
    >>> tiling = Tiling(image.shape, size=(32, 32), overlap=4)
    >>> output = np.empty_like(image)
    >>> for start in range(0, len(tiling), 4):  # four tiles at a time
    ...     paste(output, split(image, tiling, start, start + 4), tiling, start)
    >>> np.array_equal(output, image)
    True
    """
    _require_shape("output", output, tiling)
    _require_tiles(tiles, tiling, start)
    (down, right), overlap = tiling.stride, tiling.overlap
    corners = tiling.corners()[start : start + len(tiles)] + overlap
    for tile, (y, x) in zip(tiles, corners, strict=True):
        place = output[y : y + down, x : x + right]  # clipped where the image ends
        height, width = place.shape
        place[:] = tile[overlap : overlap + height, overlap : overlap + width]


def merge(tiles: NDArray[T], tiling: Tiling) -> NDArray[T]:
    """Put all tiles back together as an image; undoes `split`.

    Parameters
    ----------
    tiles : (N, h, w) array
        The ``len(tiling)`` tiles in the order of `split`.
    tiling : Tiling
        Where the tiles lie.

    Returns
    -------
    (H, W) array
        Each pixel comes from the one tile that keeps it.

    Examples
    --------
    >>> image = np.random.default_rng(0).uniform(size=(50, 70))
    >>> tiling = Tiling(image.shape, size=(32, 32), overlap=4)
    >>> np.array_equal(merge(split(image, tiling), tiling), image)
    True
    """
    if len(tiles) != len(tiling):
        raise ValueError(
            f"tiles must be all {len(tiling)} tiles, got {len(tiles)}; use paste for some"
        )
    output = np.empty(tiling.shape, tiles.dtype)
    paste(output, tiles, tiling)
    return output


def bands_of(shape: tuple[int, int], pixels: int = BAND) -> Iterator[slice]:
    """Yield slices of rows of at most so many pixels, or of one row."""
    height, width = shape
    step = max(1, pixels // width)
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def _reflect(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Fold indices of any value into an axis, as np.pad(mode="reflect") does."""
    period = max(2 * (length - 1), 1)  # there and back; one pixel only repeats itself
    folded = index % period
    return np.minimum(folded, period - folded)


def _abbreviate(intervals: list[tuple[int, int]]) -> str:
    names = [f"{begin}:{end}" for begin, end in intervals]
    if len(names) > 4:
        names = [*names[:2], "...", names[-1]]
    return " ".join(names)


def _require_pair(name: str, pair: object) -> None:
    sides = tuple(pair) if isinstance(pair, Iterable) else ()
    whole = all(isinstance(side, int | np.integer) and side > 0 for side in sides)
    if len(sides) != 2 or not whole:
        raise ValueError(
            f"{name} must be two positive whole numbers (height, width), got {pair}"
        )


def _require_shape(name: str, image: NDArray[np.generic], tiling: Tiling) -> None:
    if image.shape != tuple(tiling.shape):
        raise ValueError(
            f"{name} must have the tiling's shape {tiling.shape}, got {image.shape}; "
            "make a Tiling of the image's own shape"
        )


def _require_tiles(tiles: NDArray[np.generic], tiling: Tiling, start: int) -> None:
    if tiles.shape[1:] != tuple(tiling.size):
        raise ValueError(
            f"tiles must have shape (N, {tiling.size[0]}, {tiling.size[1]}), "
            f"got {tiles.shape}; drop an axis of channels by tiles[..., 0]"
        )
    if not 0 <= start <= start + len(tiles) <= len(tiling):
        raise ValueError(
            f"start must leave room for {len(tiles)} tiles among {len(tiling)}, got {start}"
        )
