"""Images that lie in a file as they are, row after row, each from an offset of its own."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from emdn.io.metadata import Metadata
from emdn.io.source import CUT_SHORT, Block, Source, check_form, checked, refuse_if


def raw_block(
    path: Path,
    offset_of: Callable[[int], int],
    frame: tuple[int, int],
    dtype: np.dtype,
    *,
    upside_down: bool = False,
) -> Block:
    """Return what reads parts of images that lie in a file as they are.

    Pixels are read, not mapped: mapped pages would count as memory of this process.

    Parameters
    ----------
    path : Path
        The file.
    offset_of : callable
        Where the image of a number starts, in bytes.
    frame : (H, W)
        Sides of an image.
    dtype : dtype
        Its numbers as they are stored.
    upside_down : bool
        Whether the last row comes first.
    """
    height, width = frame
    size = dtype.itemsize

    def block(number: int, rows: slice, columns: slice) -> NDArray:
        asked = range(height)[::-1][rows] if upside_down else range(height)[rows]
        first, last = columns.start, columns.stop
        start = offset_of(number) + first * size
        pixels = np.empty((len(asked), last - first), dtype)
        with path.open("rb", buffering=0) as file:
            if last - first == width and not upside_down:
                file.seek(start + asked.start * width * size)
                held = _fill(file, pixels)
            else:
                held = True
                for place, row in zip(pixels, asked, strict=True):
                    file.seek(start + row * width * size)
                    held &= _fill(file, place)
        refuse_if(not held, CUT_SHORT)
        return checked_part(pixels)

    return block


def _fill(file: IO[bytes], pixels: NDArray) -> bool:
    """Read as many bytes as an array has, and tell whether there were so many."""
    left: Any = pixels.reshape(-1).view(np.uint8).data
    while len(left):
        read = file.readinto(left)  # pyright: ignore[reportAttributeAccessIssue]
        if not read:
            return False
        left = left[read:]
    return True


def checked_part(pixels: NDArray) -> NDArray:
    """Return a part of an image in native order and in one block, as an image's rows."""
    check_form((1, 1), pixels.dtype)
    return np.require(pixels, pixels.dtype.newbyteorder("="), ["C", "W"])


def raw_source(
    name: str,
    path: Path,
    offsets: Sequence[int],
    frame: tuple[int, int],
    dtype: np.dtype,
    metadata: Metadata,
    *,
    end: float = math.inf,
    upside_down: bool = False,
) -> Source:
    """Describe images of real numbers; others, and lost pixels, are refused when read.

    Parameters
    ----------
    name, metadata
        Of the `Source`.
    path : Path
        The file.
    offsets : sequence of int
        Where the images start, in bytes, in ascending order.
    frame : (H, W)
        Their sides.
    dtype : dtype
        Their numbers as they are stored, in either order of bytes.
    end : int, optional
        Where their pixels end at the latest, in bytes; by default where the file does.
    upside_down : bool
        Whether the last row comes first.
    """
    native = dtype.newbyteorder("=")
    pixels = frame[0] * frame[1]
    shape = frame if len(offsets) == 1 else (len(offsets), *frame)

    def check() -> None:
        check_form(shape, native)
        last = offsets[-1] + pixels * dtype.itemsize
        refuse_if(last > min(end, path.stat().st_size), CUT_SHORT)

    def frames() -> Iterator[NDArray]:
        check()
        for offset in offsets:
            image = np.fromfile(path, dtype, pixels, offset=offset).reshape(frame)
            yield checked(image[::-1] if upside_down else image)

    def read() -> NDArray:
        check()
        whole = np.empty((len(offsets), *frame), native)
        for index, image in enumerate(frames()):
            whole[index] = image
        return checked(whole)

    part = raw_block(path, offsets.__getitem__, frame, dtype, upside_down=upside_down)

    def block(number: int, rows: slice, columns: slice) -> NDArray:
        check()
        return part(number, rows, columns)

    return Source(name, shape, native, metadata, read, frames, block=block)
