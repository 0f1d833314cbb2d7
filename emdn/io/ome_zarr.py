"""OME-Zarr 0.5, an image in chunks with coarser copies of it, by the package zarr alone.

Zarr is an extra of this package, so it is imported when a file needs it.
https://ngff.openmicroscopy.org/0.5/ describes the metadata.
"""

import math
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emdn.io.arrays import Axis, image_order
from emdn.io.metadata import Metadata, calibrated
from emdn.io.raw_frames import checked_part
from emdn.io.source import MicrographError, Source, check_form, checked, refuse_if

CHUNK = 512  # pixels at a side of a chunk, 1 MB of single precision
LEVELS = 5  # the image and coarser copies, each of half the side of the one before
# Names of units in OME-Zarr, which spells them out, and ours.
_UNITS = {"nanometer": "nm", "picometer": "pm", "angstrom": "A", "micrometer": "um"}
_UNITS |= {"millimeter": "mm", "meter": "m", "centimeter": "cm"}
_SPELLED = {ours: theirs for theirs, ours in _UNITS.items()}
OURS = "emdn"
"""Name of the attribute that holds `Metadata`, as far as OME-Zarr has no place for it."""


def require_zarr() -> Any:
    """Return the package zarr, or say how to get it."""
    try:
        return import_module("zarr")
    except ModuleNotFoundError:
        remedy = 'pip install "emdn[zarr]" brings it'
        raise MicrographError(
            f"needs the package zarr, which is missing; {remedy}"
        ) from None


def is_store(path: Path) -> bool:
    """Tell a store from any other folder, by the files that each version of Zarr has."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def sources(path: Path) -> list[Source]:
    """Describe the image or stack of a store: an OME-Zarr's finest level, or an array."""
    no_store = path.is_dir() and not is_store(path)
    refuse_if(no_store, "is not a file, nor a folder of Zarr; name a file inside it")
    root = _opened(path)
    arrays = _arrays(root)
    refuse_if(not arrays, "holds no image of OME-Zarr, nor an array; name one inside it")
    return [_source(path, *each) for each in arrays]


def _opened(path: Path) -> Any:
    return require_zarr().open(str(path), mode="r")


def _arrays(root: Any) -> list[tuple[str, list[Axis], dict[str, Any]]]:
    """Return the path of each array, its axes, and what this package told of it."""
    if hasattr(root, "shape"):
        return [("", [Axis(size) for size in root.shape], {})]
    told = root.attrs.get("ome") or root.attrs
    found = []
    for image in told.get("multiscales") or []:
        first = image["datasets"][0]
        shape = root[first["path"]].shape
        scale = next(
            (
                each["scale"]
                for each in first["coordinateTransformations"]
                if "scale" in each
            ),
            [None] * len(shape),
        )
        axes = [
            Axis(
                size,
                axis["name"],
                str(_UNITS.get(axis.get("unit", ""), axis.get("unit", ""))),
                step if axis.get("unit") else None,
                axis.get("type") != "space" or axis["name"] == "z",
            )
            for size, axis, step in zip(shape, image["axes"], scale, strict=True)
        ]
        found.append((first["path"], axes, dict(root.attrs.get(OURS, {}))))
    return found


def _source(path: Path, name: str, axes: Sequence[Axis], facts: dict[str, Any]) -> Source:
    order = image_order(axes)
    array = _array(path, name)
    shape = tuple(axes[index].size for index in order)
    dtype = np.dtype(array.dtype).newbyteorder("=")
    check_form(shape, dtype)
    y, x = (axes[index] for index in order[-2:])
    known = ("detector", "voltage", "dwell_time", "other")
    metadata = calibrated(
        x.scale,
        y.scale,
        x.unit,
        y.unit,
        **{key: facts[key] for key in known if key in facts},
    )

    def block(number: int, rows: slice, columns: slice) -> NDArray:
        stack = [slice(number, number + 1)] if len(order) == 3 else []
        where: list[Any] = [0] * len(axes)
        for axis, part in zip(order, [*stack, rows, columns], strict=True):
            where[axis] = part
        turn = [sorted(order).index(axis) for axis in order]
        part = np.transpose(_array(path, name)[tuple(where)], turn)
        return checked_part(part.reshape(part.shape[-2:]))

    def frames() -> Iterator[NDArray]:
        for number in range(shape[0] if len(shape) == 3 else 1):
            yield block(number, slice(0, shape[-2]), slice(0, shape[-1]))

    def read() -> NDArray:
        return checked(np.stack(list(frames())))

    return Source(name or "array", shape, dtype, metadata, read, frames, block=block)


def _array(path: Path, name: str) -> Any:
    root = _opened(path)
    return root[name] if name else root


def write(
    path: Path,
    images: Iterator[NDArray],
    shape: tuple[int, ...],
    dtype: np.dtype,
    metadata: Metadata,
) -> None:
    """Write images, or bands of their rows, and coarser copies of them.

    Parameters
    ----------
    path : Path
        The folder to make.
    images : iterator of (h, W) arrays
        Rows from top to bottom, of one image after the other.
    shape, dtype
        Of all images.
    metadata : Metadata
        The pixel size becomes the scale; the rest is kept under a name of our own.
    """
    zarr = require_zarr()
    group = zarr.create_group(str(path))
    sides, stack = shape[-2:], shape[:-2]
    datasets, names = [], [*"tyx"][-len(shape) :]
    size, unit = metadata.pixel_size or 1.0, _SPELLED.get(metadata.unit or "")
    level = 0
    while level == 0 or (level < LEVELS and max(sides) > CHUNK and min(sides) > 1):
        if level:
            sides = tuple(side // 2 for side in sides)
        array = group.create_array(
            str(level),
            shape=(*stack, *sides),
            dtype=dtype,
            chunks=(*(1 for _ in stack), *(min(CHUNK, side) for side in sides)),
            dimension_names=names,
        )
        parts = images if level == 0 else _halved(group[str(level - 1)], sides)
        _fill(array, parts)
        whole, shift = [1.0] * len(stack), [0.0] * len(stack)
        moved = (2**level - 1) / 2 * size  # the middle of the first pixel
        transforms = [
            {"type": "scale", "scale": [*whole, *[2**level * size] * 2]},
            {"type": "translation", "translation": [*shift, moved, moved]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
        level += 1
    space = {"type": "space", **({"unit": unit} if unit and metadata.pixel_size else {})}
    axes = [
        {"name": name, **({"type": "time"} if name == "t" else space)} for name in names
    ]
    image = {"name": "image", "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    kept = ("detector", "voltage", "dwell_time", "other")
    facts = {key: value for key in kept if (value := getattr(metadata, key))}
    if facts:
        group.attrs[OURS] = facts


def _fill(array: Any, bands: Iterator[NDArray]) -> None:
    """Write bands of rows, as many at a time as a chunk has: each is packed once."""
    *stack, height, _ = array.shape
    number = row = 0
    waiting: list[NDArray] = []
    for band in bands:
        while len(band):
            held = sum(map(len, waiting))
            end = min((row // CHUNK + 1) * CHUNK, height)
            part, band = band[: end - row - held], band[end - row - held :]
            waiting.append(part)
            if row + held + len(part) == end:
                where = (number,) if stack else ()
                array[(*where, slice(row, end))] = np.concatenate(waiting)
                waiting, row = [], end
                if end == height:
                    number, row = number + 1, 0


def _halved(array: Any, sides: tuple[int, ...]) -> Iterator[NDArray]:
    """Yield bands of a level in which each pixel is the mean of four."""
    *stack, _, _ = array.shape
    height, width = sides
    for number in range(math.prod(stack)):
        where = (number,) if stack else ()
        for first in range(0, height, CHUNK // 2):
            last = min(first + CHUNK // 2, height)
            fine = array[(*where, slice(2 * first, 2 * last), slice(0, 2 * width))]
            fours = fine.reshape(last - first, 2, width, 2).mean((1, 3), dtype=np.float64)
            whole = np.rint(fours) if array.dtype.kind in "iu" else fours
            yield whole.astype(array.dtype)
