"""Images that lie in a file as they are, row after row, each from an offset of its own."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emdn.io.metadata import Metadata
from emdn.io.source import CUT_SHORT, Source, check_form, checked, refuse_if


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

    return Source(name, shape, native, metadata, read, frames)
