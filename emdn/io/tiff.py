"""TIFF, plain or packed by gzip or bzip2, of any maker.

tifffile takes the files apart; what is added here is judgement: which of several images is
meant, which pixel size belongs to it, which numbers its maker meant, and what is damage.
tifffile tells damage to its log alone, so that the chain of pages is followed before it
reads one.
"""

import json
import math
import re
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from emdn.io import compressed
from emdn.io.arrays import unique_names
from emdn.io.compressed import check_unpacked_size
from emdn.io.metadata import Metadata, calibrated, first_of
from emdn.io.raw_frames import checked_part, raw_block
from emdn.io.source import (
    CUT_SHORT,
    MicrographError,
    Source,
    check_form,
    checked,
    grey,
    refuse_if,
)
from emdn.io.vendor_tags import companion_metadata, vendor_metadata

# tifffile would look for more files of these kinds in the folder.
_ONE_FILE: dict[str, Any] = {"is_mmstack": False, "is_ndtiff": False}
# Bytes of a value of each type that a tag may have, TIFF 6.0 section 2 and BigTIFF.
_TYPE_SIZES = dict(zip(range(1, 14), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), strict=True))
_TYPE_SIZES |= {16: 8, 17: 8, 18: 8}
_MOST_MIXED = 64  # pages of a series that may be of several detectors
_MOST_TAGS = 4096  # of a page; tifffile refuses more
_RESOLUTION_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}
_COLOURS = (2, 5, 6, 8, 9, 10)  # RGB, CMYK, YCbCr and three kinds of Lab
_LOSSY = {
    6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000",
    34712: "JPEG 2000", 34892: "JPEG", 34887: "LERC", 50001: "WebP",
}  # fmt: skip
OURS = "emdn="
"""Begins the line of a description that holds `Metadata` as JSON."""


def sources(path: Path) -> list[Source]:
    """Describe the images and stacks of a file, the largest first.

    Of two with as many pixels a grey one comes before one in colours, else the earlier.
    Overviews and thumbnails that are marked as such are left out, as are the coarser levels
    of pyramids.
    """
    with _opened(path) as tif:
        beside, images = companion_metadata(path), _OMEImages(tif)
        parts = _parts(tif, images)
        names = unique_names([part.name for part in parts])
        found: list[tuple[tuple[int, bool, int], Source]] = []
        faults: list[tuple[str, str]] = []
        for number, (part, name) in enumerate(zip(parts, names, strict=True)):
            in_colours = _coloured(part.page)
            metadata = _metadata(part.page, images.of(part.series))
            metadata = first_of(Metadata(detector=part.detector), metadata)
            try:
                source = _describe(path, tif, part, name, first_of(metadata, beside))
                # A preview in colours is found out by its pixels alone.
                if in_colours and len(parts) > 1:
                    next(source.frames())
            except MicrographError as fault:
                faults.append((name, str(fault)))
                continue
            found.append(((-math.prod(source.shape), in_colours, number), source))
    if not found:
        told = [fault for _, fault in faults] or ["holds no image; export it again"]
        raise MicrographError("; and ".join(told))
    first, *rest = [source for _, source in sorted(found, key=lambda each: each[0])]
    left_out = (f"leaves out {name!r}, which {fault}" for name, fault in faults)
    return [replace(first, warnings=(*first.warnings, *left_out)), *rest]


class _Part(NamedTuple):
    """An image or stack of a file: a series of pages, or some pages of one."""

    name: str
    series: int  # its number in the file
    page: tifffile.TiffPage  # the first, which tells of all
    numbers: tuple[int, ...] | None = None  # of its pages in the series; None for all
    detector: str | None = None


def _parts(tif: tifffile.TiffFile, images: "_OMEImages") -> list[_Part]:
    """Return what is in a file, but for overviews that are marked as such."""
    series = list(enumerate(_all_series(tif)))
    whole = [each for each in series if not each[1].keyframe.is_reduced]
    parts = []
    for index, each in whole or series:
        name = each.name or f"Series {index + 1}"
        channels, groups = _channels(each, images.of(index)), _groups(each)
        for channel, numbers in channels.items():
            parts.append(_Part(channel, index, each.keyframe, numbers, channel))
        if channels:
            continue
        if len(groups) < 2:
            parts.append(_Part(name, index, each.keyframe))
            continue
        for (detector, *_), pages in groups.items():
            numbers = tuple(number for number, _ in pages)
            parts.append(_Part(detector or name, index, pages[0][1], numbers))
    return parts


def _all_series(tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return the series of a file, and what tifffile takes for levels of their pyramids.

    It does so with any pages of half a size, marked as reduced or not.
    """
    return [
        level
        for series in tif.series
        for level in (series.levels if series.kind == "generic" else [series])
    ]


def _channels(
    series: tifffile.TiffPageSeries, image: ElementTree.Element | None
) -> dict[str, tuple[int, ...]]:
    """Return the pages of each channel of an OME-TIFF, where detectors gave them names."""
    found = [] if image is None else image.findall("{*}Pixels/{*}Channel")
    names = [each.get("Name") or "" for each in found]
    leading = [axis for axis in series.axes if axis not in "YXS"]
    lengths = [series.shape[series.axes.index(axis)] for axis in leading]
    distinct = "" not in names and len({*names}) == len(names) > 1
    if not distinct or "C" not in leading or len(leading) > 2:
        return {}
    axis = leading.index("C")
    if lengths[axis] != len(names) or math.prod(lengths) != len(series.pages):
        return {}
    order = np.arange(math.prod(lengths)).reshape(lengths)
    return {
        name: tuple(np.take(order, number, axis).ravel().tolist())
        for number, name in enumerate(names)
    }


def _groups(
    series: tifffile.TiffPageSeries,
) -> dict[tuple[Any, ...], list[tuple[int, tifffile.TiffPage]]]:
    """Return the pages, by number, of each detector and pixel size that a series mixes.

    A microscope may write the images of its detectors as pages of one size.
    """
    groups: dict[tuple[Any, ...], list[tuple[int, tifffile.TiffPage]]] = {}
    if series.kind != "generic" or not 1 < len(series.pages) <= _MOST_MIXED:
        return groups
    for number, page in enumerate(series.pages):
        if not isinstance(page, tifffile.TiffPage):
            return {}
        about = first_of(vendor_metadata(page), _common_metadata(page))
        if about.detector is None and about.pixel_size is None:
            return {}
        size = about.pixel_size and float(f"{about.pixel_size:.3g}")
        groups.setdefault((about.detector, size, about.unit), []).append((number, page))
    return groups


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    with compressed.opened(path) as file:
        _check_pages(file)
        packed = path.suffix.lower() in compressed.SUFFIXES
        name = path.stem if packed else None
        with tifffile.TiffFile(file if packed else path, name=name, **_ONE_FILE) as tif:
            _check_files(tif, path, packed=packed)
            yield tif


def _check_pages(file: IO[bytes]) -> None:
    """Follow the chain of pages, and refuse one with lost links, tags or values."""
    size = compressed.size_of(file)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) > 15 else 0
    if version not in (42, 43):
        raise ValueError("not a TIFF file")
    big = version == 43
    count, entry, link = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    count, entry, link = (struct.Struct(order + each) for each in (count, entry, link))
    start = 8 if big else 4
    (offset,) = link.unpack(head[start : start + link.size])
    seen = set()
    while offset:
        refuse_if(offset in seen, "has pages that follow each other in a ring; export it")
        refuse_if(offset + count.size > size, CUT_SHORT)
        seen.add(offset)
        file.seek(offset)
        (tags,) = count.unpack(file.read(count.size))
        if not 0 < tags <= _MOST_TAGS:
            raise ValueError(f"a page of {tags} tags")
        table = file.read(tags * entry.size + link.size)
        refuse_if(len(table) < tags * entry.size + link.size, CUT_SHORT)
        for code, kind, number, value in entry.iter_unpack(table[: -link.size]):
            if kind not in _TYPE_SIZES:
                raise ValueError(f"tag {code} of unknown type {kind}")
            length = number * _TYPE_SIZES[kind]
            refuse_if(length > link.size and value + length > size, CUT_SHORT)
        (offset,) = link.unpack(table[-link.size :])
    refuse_if(not seen, "holds no image; export it as TIFF again")
    file.seek(0)


def _check_files(tif: tifffile.TiffFile, path: Path, *, packed: bool) -> None:
    """Refuse an OME-TIFF that names files elsewhere, or what is no regular file."""
    for name in re.findall(r'FileName\s*=\s*"([^"]*)"', tif.ome_metadata or ""):
        if name.lower() == path.name.lower():
            continue
        fault = f"names another file, {name!r}"
        elsewhere = re.search(r"[/\\]", name) or name in ("", "..")
        refuse_if(bool(elsewhere), f"{fault}, outside its folder; copy that beside it")
        refuse_if(packed, f"{fault}; unpack both")
        beside = path.with_name(name)
        regular = not beside.exists() or stat.S_ISREG(beside.lstat().st_mode)
        refuse_if(not regular, f"{fault}, which is no regular file; copy that beside it")


def _describe(
    path: Path, tif: tifffile.TiffFile, part: _Part, name: str, metadata: Metadata
) -> Source:
    series = _all_series(tif)[part.series]
    page = series.keyframe
    if page.dtype is None:
        bits = page.bitspersample
        raise MicrographError(f"holds numbers of {bits} bits, of no known kind; export it")
    convert, warnings = _numbers(page)
    axes = zip(page.shape, page.axes, strict=True)
    per_page = convert(
        np.zeros([1 if axis in "YX" else length for length, axis in axes], page.dtype)
    )
    axes = zip(series.shape, series.axes, strict=True)
    others = [length for length, axis in axes if axis not in "YXS"]
    others = others if part.numbers is None else [len(part.numbers)]
    samples = per_page.shape[:-2] if "S" in page.axes else ()
    stacked = [length for length in (*others, *samples) if length > 1]
    shape = (*stacked, page.imagelength, page.imagewidth)
    check_form(shape, per_page.dtype)
    check_unpacked_size(math.prod(shape) * page.dtype.itemsize, _stored(tif, series))
    compression = _LOSSY.get(page.compression)
    if compression:
        warnings = (*warnings, f"is packed by {compression}, which changed its noise")
    frames = partial(_frames, path, part.series, part.numbers)
    lazy = page.samplesperpixel == 1 and path.suffix.lower() not in compressed.SUFFIXES
    block = partial(_block, path, part.series, part.numbers)
    return Source(
        name,
        shape,
        per_page.dtype,
        metadata,
        partial(_read, frames, shape, per_page.dtype),
        frames,
        warnings,
        block if lazy else None,
    )


def _stored(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> int:
    """Return a bound of the bytes that hold a series, in all of its files."""
    sizes = {
        page.parent.filehandle.name: page.parent.filehandle.size
        for page in series.pages
        if page is not None
    }
    return sum(sizes.values()) or tif.filehandle.size


def _read(
    frames: Callable[[], Iterator[NDArray]], shape: tuple[int, ...], dtype: np.dtype
) -> NDArray:
    image = np.empty(shape, dtype)
    places = image.reshape(-1, *shape[-2:])
    number = -1
    for number, frame in enumerate(frames()):
        places[number] = frame
    if number + 1 != len(places):
        raise ValueError(f"{number + 1} of {len(places)} images are there")
    return checked(image)


def _frames(path: Path, index: int, numbers: tuple[int, ...] | None) -> Iterator[NDArray]:
    with _opened(path) as tif:
        series = _all_series(tif)[index]
        convert, _ = _numbers(series.keyframe)
        for pixels in _pages(tif, series, numbers):
            images = convert(pixels)
            for image in images if images.ndim == 3 else [images]:
                yield checked(image)


def _pages(
    tif: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    numbers: tuple[int, ...] | None,
) -> Iterator[NDArray]:
    """Yield the pixels of each page, or of what stands for one in a lump of numbers."""
    page = series.keyframe
    if series.dataoffset is not None and numbers is None:
        # ImageJ writes one page alone, and all images behind each other.
        dtype = np.dtype(tif.byteorder + series.dtype.char)
        size = page.size * dtype.itemsize
        refuse_if(series.dataoffset + series.nbytes > tif.filehandle.size, CUT_SHORT)
        for number in range(series.size // page.size):
            offset = series.dataoffset + number * size
            pixels = tif.filehandle.read_array(dtype, page.size, offset)
            yield pixels.reshape(page.shape)
        return
    for page in series.pages if numbers is None else [series.pages[n] for n in numbers]:
        with _readable(page) as whole:
            yield whole.asarray()


@contextmanager
def _readable(
    page: tifffile.TiffPage | tifffile.TiffFrame | None,
) -> Iterator[tifffile.TiffPage | tifffile.TiffFrame]:
    """Give a page of which nothing is missing, with its file open."""
    if page is None:
        raise MicrographError("lacks some of its pages; save it in one file")
    _check_whole(page)
    file = page.parent.filehandle
    beside = file.closed  # one of several files
    if beside:
        file.open()
    try:
        yield page
    finally:
        if beside:
            file.close()


def _block(
    path: Path,
    index: int,
    numbers: tuple[int, ...] | None,
    number: int,
    rows: slice,
    columns: slice,
) -> NDArray:
    """Return a part of one image, of which only the strips or tiles needed are unpacked."""
    with _opened(path) as tif:
        series = _all_series(tif)[index]
        convert, _ = _numbers(series.keyframe)
        if series.dataoffset is not None and numbers is None:
            page = series.keyframe
            dtype = np.dtype(tif.byteorder + series.dtype.char)
            refuse_if(series.dataoffset + series.nbytes > tif.filehandle.size, CUT_SHORT)
            start = series.dataoffset + number * page.size * dtype.itemsize
            sides = (page.imagelength, page.imagewidth)
            pixels = raw_block(path, lambda _: start, sides, dtype)(0, rows, columns)
        else:
            wanted = series.pages[number if numbers is None else numbers[number]]
            with _readable(wanted) as page:
                pixels = _part(page, rows, columns)
        return checked_part(convert(pixels))


def _part(
    page: tifffile.TiffPage | tifffile.TiffFrame, rows: slice, columns: slice
) -> NDArray:
    """Return a part of a page."""
    if not _in_one_lump(page):
        return _segments(page, rows, columns)
    about: Any = page.keyframe  # perhaps of a single strip, which may be huge
    dtype = np.dtype(page.parent.byteorder + about.dtype.char)
    sides = (about.imagelength, about.imagewidth)
    file, start = Path(page.parent.filehandle.path), page.dataoffsets[0]
    return raw_block(file, lambda _: start, sides, dtype)(0, rows, columns)


def _in_one_lump(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """Tell whether a page's strips follow each other and hold its numbers as they are."""
    ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
    return page.is_final and list(ends)[:-1] == list(page.dataoffsets[1:])


def _segments(
    page: tifffile.TiffPage | tifffile.TiffFrame, rows: slice, columns: slice
) -> NDArray:
    """Unpack the strips or tiles that meet a part of a page of one sample."""
    keyframe: Any = page.keyframe
    file = page.parent.filehandle
    part = np.empty((rows.stop - rows.start, columns.stop - columns.start), keyframe.dtype)
    if keyframe.is_tiled:
        height, width = keyframe.tilelength, keyframe.tilewidth
    else:
        height, width = (
            min(keyframe.rowsperstrip, keyframe.imagelength),
            keyframe.imagewidth,
        )
    across = -(-keyframe.imagewidth // width)
    for down in range(rows.start // height, -(-rows.stop // height)):
        for along in range(columns.start // width, -(-columns.stop // width)):
            number = down * across + along
            file.seek(page.dataoffsets[number])
            packed = file.read(page.databytecounts[number])
            tables = {"jpegtables": page.jpegtables} if page.jpegtables else {}
            segment, _, shape = keyframe.decode(packed, number, **tables)
            refuse_if(segment is None, "lacks some of its pixels; save it again")
            top, left = down * height, along * width
            held = segment.reshape(segment.shape[-3:-1])[: shape[-3], : shape[-2]]
            y0, y1 = max(rows.start, top), min(rows.stop, top + held.shape[0])
            x0, x1 = max(columns.start, left), min(columns.stop, left + held.shape[1])
            place = part[
                y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start
            ]
            place[:] = held[y0 - top : y1 - top, x0 - left : x1 - left]
    return part


def _check_whole(page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    # Given half a tile, tifffile may hand out what happens to be in memory; given none, it
    # fills the place with zeros.
    sizes = page.databytecounts
    refuse_if(0 in sizes, "lacks some of its pixels; save it again")
    if len(sizes) != len(page.dataoffsets):
        raise ValueError(f"{len(page.dataoffsets)} parts of {len(sizes)} lengths")
    end = max(map(sum, zip(page.dataoffsets, sizes, strict=True)))
    refuse_if(end > page.parent.filehandle.size, CUT_SHORT)


# Numbers as they were meant


def _coloured(page: tifffile.TiffPage) -> bool:
    return page.photometric in _COLOURS and page.samplesperpixel > 1


def _numbers(
    page: tifffile.TiffPage,
) -> tuple[Callable[[NDArray], NDArray], tuple[str, ...]]:
    """Return what makes a page's pixels (H, W) or (N, H, W) numbers, and warnings."""
    steps: list[Callable[[NDArray], NDArray]] = []
    warnings: list[str] = []
    if page.samplesperpixel > 1:
        steps.append(partial(_samples, page))
    if page.photometric == 0:
        steps.append(partial(_inverted, page.bitspersample))
    if page.photometric == 3 and page.colormap is not None:
        table = _grey_levels(page.colormap)
        if table is None:
            warnings.append("has a palette of colours; the numbers read are its indices")
        elif not np.array_equal(table, np.arange(len(table))):
            steps.append(lambda pixels: table[pixels])
    description = imagej_description(page)
    if page.dtype in (np.uint8, np.uint16) and "c0" in description:
        if description.get("cf", "0") == "0":
            steps.append(partial(_calibrated_levels, description))
        else:
            warnings.append("has a curve of calibration, which is not applied")

    def convert(pixels: NDArray) -> NDArray:
        for step in steps:
            pixels = step(pixels)
        return pixels

    return convert, tuple(warnings)


def _samples(page: tifffile.TiffPage, pixels: NDArray) -> NDArray:
    """Return the one grey level of equal colours, or a stack of what are no colours."""
    pixels = np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 else pixels
    count = page.samplesperpixel
    transparent = tuple(page.extrasamples or ())[-1:] in ((1,), (2,))
    if _coloured(page):
        refuse_if(
            count > 4, f"holds {count} samples a pixel in colours; save it as greyscale"
        )
        return grey(pixels)
    if transparent and count == 2:
        return grey(pixels)
    return np.moveaxis(pixels[..., :-1] if transparent else pixels, -1, 0)


def _inverted(bits: int, pixels: NDArray) -> NDArray:
    """Return numbers that grow from black to white, of those where zero is white."""
    if pixels.dtype.kind == "u":
        return pixels.dtype.type(2**bits - 1) - pixels
    return ~pixels if pixels.dtype.kind in "ib" else -pixels


def _grey_levels(colormap: NDArray[np.uint16]) -> NDArray | None:
    """Return the grey level of each index of a palette, or None if it has colours."""
    levels = colormap[0]
    if (colormap != levels).any():
        return None
    for step in (257, 256):  # two ways to make eight bits sixteen
        if len(levels) <= 256 and not (levels % step).any():
            return (levels // step).astype(np.uint8)
    return levels


def _calibrated_levels(description: dict[str, str], pixels: NDArray) -> NDArray:
    """Apply ImageJ's straight line; its signed integers are stored 32768 too high."""
    offset, slope = float(description["c0"]), float(description.get("c1", "1"))
    if slope == 1 and offset == np.round(offset):
        ends = np.array([offset, offset + np.iinfo(pixels.dtype).max])
        for dtype in (pixels.dtype, np.int8, np.int16, np.int32):
            about = np.iinfo(dtype)
            if about.min <= ends[0] and ends[1] <= about.max:
                return (pixels.astype(np.int64) + int(offset)).astype(dtype)
    return (offset + slope * pixels.astype(np.float64)).astype(np.float32)


# What is told beside the numbers


def imagej_description(page: tifffile.TiffPage) -> dict[str, str]:
    """Return the lines "name=value" that ImageJ wrote into a page's description."""
    if not str(page.description).startswith(("ImageJ=", "SCIFIO=")):
        return {}
    pairs = (line.partition("=") for line in page.description.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _metadata(page: tifffile.TiffPage, image: ElementTree.Element | None) -> Metadata:
    """Ask ImageJ, OME, the maker's tags, then the common ones, each of this page."""
    return first_of(
        _our_metadata(page),
        _imagej_metadata(page),
        _ome_metadata(image),
        vendor_metadata(page),
        _common_metadata(page),
    )


def _sides(page: tifffile.TiffPage) -> tuple[float, float]:
    across, down = page.resolution
    return (1 / across if across else 0.0), (1 / down if down else 0.0)


def _our_metadata(page: tifffile.TiffPage) -> Metadata:
    """Return the facts that this package wrote, without the size, which ImageJ keeps."""
    text = imagej_description(page).get(OURS.removesuffix("="))
    try:
        facts = json.loads(text) if text else {}
    except ValueError:
        return Metadata()
    names = ("detector", "voltage", "dwell_time", "other")
    return calibrated(None, None, **{name: facts.get(name) for name in names})


def _imagej_metadata(page: tifffile.TiffPage) -> Metadata:
    description = imagej_description(page)
    unit = description.get("unit", "")
    return calibrated(*_sides(page), unit, description.get("yunit") or unit)


def _common_metadata(page: tifffile.TiffPage) -> Metadata:
    return calibrated(*_sides(page), _RESOLUTION_UNITS.get(int(page.resolutionunit), ""))


class _OMEImages:
    """The images that an OME-TIFF's XML describes, by the number of the series."""

    def __init__(self, tif: tifffile.TiffFile) -> None:
        self.series, self.images = _all_series(tif), []
        if tif.ome_metadata:
            try:
                self.images = ElementTree.fromstring(tif.ome_metadata).findall("{*}Image")
            except ElementTree.ParseError:  # tifffile, too, goes on without
                return

    def of(self, index: int) -> ElementTree.Element | None:
        """Return the image of that name and size, or none where two may be meant."""
        series = self.series[index]
        page, kind = series.keyframe, series.kind
        fitting = [each for each in self.images if _has_size(each, page)]
        if kind == "ome" and len(self.images) == len(self.series):
            return self.images[index] if self.images[index] in fitting else None
        if kind == "ome":
            fitting = [each for each in fitting if each.get("Name", "") == series.name]
        return fitting[0] if len(fitting) == 1 else None


def _has_size(image: ElementTree.Element, page: tifffile.TiffPage) -> bool:
    pixels = image.find("{*}Pixels")
    size = (page.imagewidth, page.imagelength)
    return pixels is not None and size == tuple(
        int(pixels.get(name, -1)) for name in ("SizeX", "SizeY")
    )


def _ome_metadata(image: ElementTree.Element | None) -> Metadata:
    pixels: Any = None if image is None else image.find("{*}Pixels")
    if pixels is None:
        return Metadata()
    channels = [each.get("Name") for each in pixels.findall("{*}Channel")]
    width, unit = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "um")
    height = pixels.get("PhysicalSizeY", width)
    return calibrated(
        width,
        height,
        unit,
        pixels.get("PhysicalSizeYUnit", "um") if "PhysicalSizeY" in pixels.attrib else unit,
        detector=channels[0] if len(channels) == 1 else None,
    )
