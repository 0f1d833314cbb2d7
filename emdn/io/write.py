"""Micrographs into files: TIFF, MRC, NPY, Zarr and, to look at, PNG.

Each writer takes images, or bands of their rows, one after the other and holds one of them,
so that a stack of any length needs the memory of an image, and an image that of a band.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from mrcfile.dtypes import HEADER_DTYPE
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from emdn.io import mrc, ome_zarr, raster, tiff
from emdn.io.metadata import LENGTHS, Metadata
from emdn.io.source import check_form, check_unnamed, refuse_if

Shape = tuple[int, ...]

_TIFF_SIZES = (1e-6, 1e6)  # a resolution is a quotient of two 32-bit integers
_CLASSIC_TIFF = 2**32 - 2**25  # bytes of pixels; more need BigTIFF's offsets
_MRC_MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
_LABELS, _LABEL_SIZE = 10, 80  # of an MRC's header
_PNG_TAILS = 0.1  # percent of pixels that a PNG of floats shows as black, and as white


class Writer(NamedTuple):
    """What writes a format: a check before the work, and the work."""

    check: Callable[[Shape, np.dtype, Metadata], None]
    write: Callable[[Path, Iterator[NDArray], Shape, np.dtype, Metadata], None]


def _facts(metadata: Metadata) -> dict[str, Any]:
    """Return what a format has no place for, all but the size of a pixel."""
    facts = asdict(metadata)
    del facts["pixel_size"], facts["unit"]
    return {name: value for name, value in facts.items() if value}


def _check_tiff(_: Shape, __: np.dtype, metadata: Metadata) -> None:
    size, unit = metadata.pixel_size or 1.0, metadata.unit
    held = _TIFF_SIZES[0] <= size <= _TIFF_SIZES[1]
    refuse_if(not held, f"TIFF cannot hold pixels of {size} {unit}; use another unit")


def _write_tiff(
    path: Path, images: Iterator[NDArray], shape: Shape, dtype: np.dtype, metadata: Metadata
) -> None:
    """Write as ImageJ does, which names the unit of the resolution in the description."""
    size, unit = metadata.pixel_size or 1.0, metadata.unit or "pixel"
    facts = _facts(metadata)
    text = tifffile.imagej_description(shape, axes="TYX"[-len(shape) :], unit=unit)
    # ImageJ passes over a line that it does not know.
    text += f"{tiff.OURS}{json.dumps(facts)}\n" if facts else ""
    nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    with tifffile.TiffWriter(path, bigtiff=nbytes > _CLASSIC_TIFF) as file:
        # imwrite(imagej=True) would do the same, but for three types of pixel only.
        start, _ = file.write(  # pyright: ignore[reportGeneralTypeIssues]
            None,
            returnoffset=True,
            shape=shape,
            dtype=dtype,
            photometric="minisblack",
            description=text,
            metadata=None,
            resolution=(1 / size, 1 / size),
            resolutionunit="NONE",
        )
    with path.open("r+b") as file:
        file.seek(start)
        for image in images:
            file.write(image.tobytes())


def _check_mrc(_: Shape, dtype: np.dtype, metadata: Metadata) -> None:
    remedy = "write image.astype(np.float32), or a TIFF"
    refuse_if(str(dtype) not in _MRC_MODES, f"MRC cannot hold {dtype}; {remedy}")
    unit = metadata.unit or "nm"
    refuse_if(unit not in LENGTHS, f"MRC cannot hold pixels in {unit}; write a TIFF")


def _write_mrc(
    path: Path, images: Iterator[NDArray], shape: Shape, dtype: np.dtype, metadata: Metadata
) -> None:
    """Write the pixels behind a header, whose statistics are known at the end."""
    header = _mrc_header(shape, dtype, metadata)
    least, largest, total, squares = np.inf, -np.inf, 0.0, 0.0
    # The sum of -inf and inf is not a number: that image has no mean, and is no fault.
    with path.open("wb") as file, np.errstate(invalid="ignore"):
        file.write(header.tobytes())
        for image in images:
            file.write(image.tobytes())
            numbers = image.astype(np.float64)
            least = min(least, float(numbers.min()))
            largest = max(largest, float(numbers.max()))
            total += float(numbers.sum())
            squares += float(np.square(numbers).sum())
        pixels = int(np.prod(shape, dtype=object))
        mean = total / pixels
        spread = float(np.sqrt(max(squares / pixels - mean**2, 0.0)))
        statistics = np.array([least, largest, mean, spread])
        if (np.abs(statistics) < np.finfo(np.float32).max).all():
            header["dmin"], header["dmax"], header["dmean"], header["rms"] = statistics
        file.seek(0)
        file.write(header.tobytes())


def _mrc_header(shape: Shape, dtype: np.dtype, metadata: Metadata) -> Any:
    """Return a header of the standard of 2014, its statistics marked as not known."""
    sections = shape[0] if len(shape) == 3 else 1
    sides = (shape[-1], shape[-2], sections)
    size = (metadata.pixel_size or 0.0) * LENGTHS[metadata.unit or "nm"] * 10  # ångströms
    header: Any = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    for axis, side in zip("xyz", sides, strict=True):
        # A stack of images is sampled once along z.
        sampled = 1 if axis == "z" else side
        header[f"n{axis}"], header[f"m{axis}"] = side, sampled
        header["cella"][axis] = sampled * size
    header["mode"] = _MRC_MODES[str(dtype)]
    header["cellb"] = (90, 90, 90)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0, -1, -2, -1
    header["nversion"], header["map"], header["machst"] = 20141, b"MAP ", (68, 68, 0, 0)
    labels = _labels(_facts(metadata))
    header["nlabl"] = len(labels)
    header["label"][: len(labels)] = labels
    return header


def _labels(facts: dict[str, Any]) -> list[bytes]:
    """Cut JSON into labels; facts of `other` are left out where all do not fit."""
    if not facts:
        return []
    text = f"{mrc.OURS}{json.dumps(facts)}".encode()
    if len(text) > _LABELS * _LABEL_SIZE:
        other = dict(facts.get("other", {}))
        if not other:
            return []
        other.popitem()
        return _labels({**facts, "other": other} if other else {**facts, "other": {}})
    return [text[at : at + _LABEL_SIZE] for at in range(0, len(text), _LABEL_SIZE)]


def _check_npy(shape: Shape, _: np.dtype, __: Metadata) -> None:
    check_unnamed(shape)


def _write_npy(
    path: Path, images: Iterator[NDArray], shape: Shape, dtype: np.dtype, _: Metadata
) -> None:
    with path.open("wb") as file:
        about = {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(dtype)}
        npy.write_array_header_1_0(file, about)
        for image in images:
            file.write(image.tobytes())


def _check_zarr(_: Shape, __: np.dtype, ___: Metadata) -> None:
    ome_zarr.require_zarr()


def _check_png(shape: Shape, _: np.dtype, __: Metadata) -> None:
    refuse_if(
        len(shape) > 2, f"PNG holds one image, not a stack of {shape[0]}; write a TIFF"
    )


def _write_png(
    path: Path, images: Iterator[NDArray], _: Shape, __: np.dtype, metadata: Metadata
) -> None:
    """Write 8 and 16 bits as they are, and stretch other numbers to 8 bits."""
    image = np.concatenate(list(images))
    picture = imagecodecs.png_encode(
        image if image.dtype in (np.uint8, np.uint16) else _levels(image)
    )
    facts = {name: value for name, value in asdict(metadata).items() if value}
    if facts:
        text = raster.OURS + json.dumps(facts).encode()
        end = len(picture) - 12  # the last part, IEND, is empty
        picture = picture[:end] + raster.png_chunk(b"tEXt", text) + picture[end:]
    path.write_bytes(picture)


def _levels(image: NDArray) -> NDArray[np.uint8]:
    """Return grey levels to look at; what is not finite is black."""
    finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image.ravel()
    if finite.size == 0:
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(finite.astype(np.float64), [_PNG_TAILS, 100 - _PNG_TAILS])
    levels = (image.astype(np.float64) - low) * (255 / ((high - low) or 1.0))
    return np.nan_to_num(levels, posinf=255.0).clip(0, 255).round().astype(np.uint8)


_TIFF = Writer(_check_tiff, _write_tiff)
_MRC = Writer(_check_mrc, _write_mrc)
WRITERS = {
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".mrc": _MRC,
    ".mrcs": _MRC,
    ".npy": Writer(_check_npy, _write_npy),
    ".zarr": Writer(_check_zarr, ome_zarr.write),
    ".png": Writer(_check_png, _write_png),
}


def images_of(
    frames: Iterable[NDArray], shape: Shape, dtype: np.dtype
) -> Iterator[NDArray]:
    """Yield the images that a writer asked for, native and in one block, or refuse."""
    number = 0
    count = shape[0] if len(shape) == 3 else 1
    for number, frame in enumerate(frames, 1):
        image = np.asarray(frame)
        if number > count or image.shape != shape[-2:] or image.dtype != dtype:
            got = f"image {number} of shape {image.shape} and type {image.dtype}"
            raise ValueError(f"{got} among {count} of shape {shape[-2:]} and type {dtype}")
        yield np.require(image, dtype, ["C"])
    if number < count:
        raise ValueError(f"{number} images in place of {count}")


def bands_of_images(
    bands: Iterable[NDArray], shape: Shape, dtype: np.dtype
) -> Iterator[NDArray]:
    """Yield bands of rows that make up the images asked for, in order, or refuse."""
    rows, all_rows = 0, int(np.prod(shape[:-1], dtype=object))
    for each in bands:
        band = np.asarray(each)
        rows += len(band)
        if rows > all_rows or band.shape[1:] != shape[-1:] or band.dtype != dtype:
            got = f"rows up to {rows} of shape {band.shape} and type {band.dtype}"
            raise ValueError(f"{got} among {all_rows} of {shape[-1]} and type {dtype}")
        yield np.require(band, dtype, ["C"])
    if rows < all_rows:
        raise ValueError(f"{rows} rows in place of {all_rows}")


def convert(image: NDArray[np.float32], dtype: DTypeLike) -> tuple[NDArray, int]:
    """Return an image in a type of pixels, and how many pixels had to be clipped.

    Parameters
    ----------
    image : (H, W) float32 array
        Finite values.
    dtype : dtype
        Integers, to which values are rounded and clipped, or floats.

    Examples
    --------
    >>> convert(np.array([[-1.0, 2.6], [255.2, 300.0]], np.float32), np.uint8)
    (array([[  0,   3],
           [255, 255]], dtype=uint8), 2)
    """
    kind: np.dtype[Any] = np.dtype(dtype)
    whole = kind.kind in "iu"
    limits: Any = np.iinfo(kind.name) if whole else np.finfo(kind.name)
    largest = float(limits.max)
    if whole and largest > limits.max:  # the largest of 64 bits is no double
        largest = float(np.nextafter(largest, 0))
    values = np.rint(image.astype(np.float64)) if whole else image.astype(np.float64)
    clipped = np.clip(values, float(limits.min), largest)
    return clipped.astype(kind), int((clipped != values).sum())


def check_content(suffix: str, shape: Shape, dtype: np.dtype, metadata: Metadata) -> None:
    """Refuse what a format cannot hold."""
    check_form(shape, dtype)
    WRITERS[suffix].check(shape, dtype, metadata)
