"""SER, the series of TIA (Emispec, FEI).

RosettaSciIO reads it too, but holds a series several times over, takes an offset that is
missing for pixels, and takes the calibration of a diffraction pattern for metres.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emdn.io.metadata import Metadata, calibrated
from emdn.io.raw_frames import raw_source
from emdn.io.source import CUT_SHORT, MicrographError, Source, refuse_if

# As Chris Boothroyd described the format, and as RosettaSciIO reads it.
_FIRST_BYTES = b"II\x97\x01"
_HEADER = "<HIIII"  # version, kind, kind of tags, planned and recorded elements
_IMAGES = 0x4122  # the kind; 0x4120 are spectra
_SHORT_OFFSETS = 0x0210  # up to this version they have 4 bytes, later 8
_CALIBRATION = "<ddIddI"  # offset, step, element; of columns, then of rows
_BEFORE_PIXELS = struct.calcsize(_CALIBRATION) + 10  # type and sides
_TYPES = {1: "u1", 2: "u2", 3: "u4", 4: "i1", 5: "i2", 6: "i4", 7: "f4", 8: "f8"}
_TYPES |= {9: "c8", 10: "c16"}
_MOST_DIMENSIONS = 16  # of the series: TIA makes lines and maps, 1 and 2


def sources(path: Path) -> list[Source]:
    """Describe the one image or series of a file; RosettaSciIO's order of rows is kept.

    The file holds neither unit nor kind of its calibration: steps of less than 0.1 mm are
    taken for metres, those of 1 and more for 1/m of a diffraction pattern.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        offsets = _offsets(file, end)
        elements = [_element(file, offset) for offset in offsets]
    forms, calibrations = (list(each) for each in zip(*elements, strict=True))
    fault = "holds images that differ in size or type; export them as TIFF"
    refuse_if(any(form != forms[0] for form in forms), fault)
    height, width, dtype = forms[0]
    same = all(each == calibrations[0] for each in calibrations)
    metadata = calibrations[0] if same else Metadata()
    # The offsets are those of the elements, whose pixels come behind calibration and sizes.
    size = height * width * dtype.itemsize
    start = _BEFORE_PIXELS
    _check_gaps(offsets, start + size)
    pixels = [offset + start for offset in offsets]
    frame = (height, width)
    return [raw_source("image", path, pixels, frame, dtype, metadata, upside_down=True)]


def _offsets(file: BinaryIO, end: int) -> list[int]:
    """Return where the elements start, of images only."""
    if file.read(4) != _FIRST_BYTES:
        raise ValueError("not a SER file")
    version, kind, _, _, count = _unpack(file, _HEADER)
    fault = "holds no image, but spectra; export an image"
    refuse_if(kind != _IMAGES, fault)
    refuse_if(count == 0, "holds no pixels; the acquisition was stopped, take another file")
    width = 4 if version <= _SHORT_OFFSETS else 8
    table, dimensions = _unpack(file, "<QI" if width == 8 else "<II")
    refuse_if(dimensions > _MOST_DIMENSIONS, "has a damaged header; copy it again")
    sizes = [_dimension(file) for _ in range(dimensions)]
    map_of_images = sum(size > 1 for size in sizes) > 1
    fault = f"holds a map {tuple(sizes)} of images; export an image or a stack"
    refuse_if(map_of_images, fault)
    refuse_if(table + width * count > end, CUT_SHORT)
    file.seek(table)
    offsets = np.frombuffer(file.read(width * count), f"<u{width}").tolist()
    refuse_if(max(offsets) > end, CUT_SHORT)
    _check_gaps(offsets, _BEFORE_PIXELS)
    return offsets


def _check_gaps(offsets: list[int], least: int) -> None:
    overlap = bool((np.diff(offsets) < least).any())
    refuse_if(overlap, "has damaged offsets; copy it again")


def _dimension(file: BinaryIO) -> int:
    """Return a dimension's size and step over its calibration and texts."""
    size, *_, description = _unpack(file, "<IddII")
    file.seek(description, os.SEEK_CUR)
    (unit,) = _unpack(file, "<I")
    file.seek(unit, os.SEEK_CUR)
    return size


def _element(file: BinaryIO, offset: int) -> tuple[tuple[int, int, np.dtype], Metadata]:
    """Return an image's height, width and type, and its calibration."""
    file.seek(offset)
    _, across, _, _, down, _ = _unpack(file, _CALIBRATION)
    code, width, height = _unpack(file, "<HII")
    if code not in _TYPES:
        raise MicrographError(f"has pixels of the unknown type {code}; export it as TIFF")
    unit = "m" if across < 1e-4 else "1/m" if across >= 1 else ""
    form = (height, width, np.dtype(f"<{_TYPES[code]}"))
    return form, calibrated(across, down, unit)


def _unpack(file: BinaryIO, form: str) -> tuple:
    contents = file.read(struct.calcsize(form))
    refuse_if(len(contents) < struct.calcsize(form), CUT_SHORT)
    return struct.unpack(form, contents)
