"""NPY, NumPy's own format: numbers, their type and shape, and nothing else."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from emdn.io.metadata import Metadata
from emdn.io.raw_frames import raw_block
from emdn.io.source import CUT_SHORT, Source, check_form, check_unnamed, checked, refuse_if

_MOST_HEADER = 10_000  # bytes, NumPy's own limit


def sources(path: Path) -> list[Source]:
    """Describe the one array of a file."""
    with path.open("rb") as file:
        shape, columns_first, dtype = _header(file)
        start = file.tell()
        held = path.stat().st_size - start
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    check_form(shape, dtype)
    check_unnamed(shape)
    refuse_if(held < dtype.itemsize * _product(shape), CUT_SHORT)
    native = dtype.newbyteorder("=")
    read, frames = partial(_read, path), partial(_frames, path)
    size = _product(shape[-2:]) * dtype.itemsize
    height, width = (int(side) for side in shape[-2:])
    rows_first = raw_block(
        path, lambda number: start + number * size, (height, width), dtype
    )
    block = None if columns_first else rows_first
    return [Source("array", shape, native, Metadata(), read, frames, block=block)]


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether columns come first, and type; the file stands at the data."""
    try:
        return _parse_header(file)
    except SystemError:
        # NumPy parses the header as Python, which in Python 3.11 fails by chance while
        # another thread, TensorFlow's for one, parses too.
        file.seek(0)
        return _parse_header(file)


def _parse_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    major, _ = npy.read_magic(file)
    read: Callable[..., Any] = {
        1: npy.read_array_header_1_0,
        2: npy.read_array_header_2_0,
    }.get(major) or _refuse_version
    shape, columns_first, dtype = read(file, max_header_size=_MOST_HEADER)
    if dtype.hasobject:
        raise ValueError("Python objects, which are never opened")
    return shape, columns_first, dtype


def _refuse_version(*_: Any, **__: Any) -> Any:
    raise ValueError("names of fields, not numbers")


def _product(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=object))


def _read(path: Path) -> NDArray:
    with path.open("rb") as file:
        shape, columns_first, dtype = _header(file)
        numbers = np.fromfile(file, dtype, _product(shape))
    return checked(numbers.reshape(shape, order="F" if columns_first else "C"))


def _frames(path: Path) -> Iterator[NDArray]:
    with path.open("rb") as file:
        shape, columns_first, dtype = _header(file)
        sides = shape[-2:]
        if columns_first:  # the first pixels of all images come first
            whole = np.memmap(path, dtype, "r", file.tell(), shape, order="F")
            for place in np.ndindex(shape[:-2]):
                yield checked(np.array(whole[place]))
            return
        for _ in range(_product(shape[:-2])):
            yield checked(np.fromfile(file, dtype, _product(sides)).reshape(sides))
