"""Velox and Berkeley EMD, py4DSTEM's H5, HyperSpy's HSPY, HDF5 and ZSPY.

HDF5's library crashes on some damaged files and hangs on others, so that it runs in a
process of its own (`child`), which sends descriptions first and pixels block by block.
"""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emdn.io.arrays import unique_names
from emdn.io.child import BLOCK, NO_MORE_THAN, Limits, ask
from emdn.io.metadata import calibrated
from emdn.io.source import Source, check_form, checked, refuse_if

Corner = Sequence[int]

_CHILD = "emdn.io.hdf5_layouts"


def sources(path: Path, limits: Limits = NO_MORE_THAN) -> list[Source]:
    """Describe the images and stacks of a file.

    Of a Velox file: recorded images, then computed ones (DPC, FFT), each by the time that
    they were started, then by the name of the detector. Of others: in the file's order,
    which is that of the names if the file does not keep another. Images of complex numbers
    come last. Spectra, spectrum images and four-dimensional data are left out.

    Parameters
    ----------
    path : Path
        A file, or a folder of Zarr.
    limits : Limits
        Time and memory for describing, and for each block of pixels.
    """
    file = str(path.absolute())
    found = ask(f"{_CHILD}:describe", file, limits=limits)
    names = unique_names([image["name"] for image in found])
    return [_source(file, *each, limits) for each in zip(names, found, strict=True)]


def _source(file: str, name: str, image: dict[str, Any], limits: Limits) -> Source:
    shape = tuple(image["shape"])
    dtype = np.dtype(image["dtype"]).newbyteorder("=")

    # A chunk is unpacked whole for any part of it, in twice its memory.
    at_once = max(BLOCK, image["chunk"])
    limits = Limits(limits.seconds, limits.memory + 3 * image["chunk"])

    def part(start: Corner, stop: Corner) -> NDArray:
        check_form(shape, dtype)
        sides = tuple(end - first for first, end in zip(start, stop, strict=True))
        result = None
        for low, high in _pieces(start, stop, at_once // dtype.itemsize):
            question = (file, image["array"], image["order"], low, high)
            block = ask(f"{_CHILD}:read", *question, limits=limits)
            if block.shape == sides:
                return block.astype(dtype, copy=False)
            if result is None:
                result = np.empty(sides, dtype)
            where = zip(low, high, start, strict=True)
            result[tuple(slice(a - first, b - first) for a, b, first in where)] = block
        assert result is not None
        return result

    def read() -> NDArray:
        size, memory = math.prod(shape) * dtype.itemsize, _memory()
        fault = f"holds {size / 1e9:.0f} GB of pixels, more than this machine's memory"
        refuse_if(size > memory, f"{fault}; read it image by image")
        return checked(part([0] * len(shape), shape))

    def frames() -> Iterator[NDArray]:
        if len(shape) == 2:
            yield read()
            return
        count, height, width = shape
        step = max(1, at_once // (height * width * dtype.itemsize))
        for first in range(0, count, step):
            last = min(first + step, count)
            block = part([first, 0, 0], [last, height, width])
            for index in range(last - first):
                # A copy, so that one that is kept does not keep the block.
                yield block[index].copy()
            del block  # before the next is asked for

    def block(number: int, rows: slice, columns: slice) -> NDArray:
        check_form(shape, dtype)
        stack = [number] if len(shape) == 3 else []
        above = [each + 1 for each in stack]
        start, stop = (*stack, rows.start, columns.start), (*above, rows.stop, columns.stop)
        sides = (rows.stop - rows.start, columns.stop - columns.start)
        return part(start, stop).reshape(sides)

    metadata = calibrated(**image["facts"])
    return Source(name, shape, dtype, metadata, read, frames, block=block)


def _memory() -> float:
    """Return the machine's memory in bytes, infinity where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _pieces(
    start: Corner, stop: Corner, most: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the corners of parts of at most `most` pixels: some frames, or rows of one."""
    rest = math.prod(end - first for first, end in zip(start[1:], stop[1:], strict=True))
    step = max(1, most // rest)
    for low in range(start[0], stop[0], step):
        high = min(low + step, stop[0])
        if rest > most and len(start) == 3:
            for below, above in _pieces(start[1:], stop[1:], most):
                yield [low, *below], [high, *above]
        else:
            yield [low, *start[1:]], [high, *stop[1:]]
