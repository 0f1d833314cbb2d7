"""Images that lie in a file as they are, row after row, each from an offset of its own."""

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
    upside_down: bool = False,
) -> Source:
    """Describe the images of `frame`, (H, W), that start at `offsets`, in bytes.

    Raises
    ------
    MicrographError
        If one of them would end behind the file's end.
    """
    native = dtype.newbyteorder("=")
    pixels = frame[0] * frame[1]
    shape = frame if len(offsets) == 1 else (len(offsets), *frame)
    end = max(offsets, default=0) + pixels * dtype.itemsize
    refuse_if(end > path.stat().st_size, CUT_SHORT)

    def frames() -> Iterator[NDArray]:
        check_form(shape, native)
        for offset in offsets:
            values = np.fromfile(path, dtype, pixels, offset=offset)
            refuse_if(values.size < pixels, CUT_SHORT)
            image = values.reshape(frame)
            yield checked(image[::-1] if upside_down else image)

    def read() -> NDArray:
        check_form(shape, native)
        whole = np.empty((len(offsets), *frame), native)
        for index, image in enumerate(frames()):
            whole[index] = image
        return checked(whole)

    return Source(name, shape, native, metadata, read, frames)
