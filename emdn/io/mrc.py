"""MRC and the names that CCP4, IMOD and RELION give it, plain or packed.

The numbers come in the order of the file: its first row first, as in every other format
here. (Programs that put the origin at the bottom left show such an image upside down.)
The header of 1024 bytes is read here and not by mrcfile, whose own reader makes room for
what a damaged header promises, and does not know IMOD's bytes; mrcfile's tables say where
each field is.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE, get_ext_header_dtype
from numpy.typing import NDArray

from emdn.io.compressed import SUFFIXES, opened, size_of
from emdn.io.metadata import Metadata, calibrated, first_of
from emdn.io.raw_frames import raw_block
from emdn.io.source import Block, Source, check_form, checked, refuse_if

HEADER_SIZE = 1024  # bytes
FOUR_BIT = 101  # two pixels a byte, the first in the lower half
_MODES = {0: "i1", 1: "i2", 2: "f4", 3: "c8", 4: "c8", 6: "u2", 7: "i4", 12: "f2"}
_RGB = 16
_STANDARD = 20140  # version of the standard of 2014, which made bytes signed
# IMOD's marks, bytes 152 to 160: https://bio3d.colorado.edu/imod/doc/mrc_format.txt
_IMOD_STAMP, _IMOD_SIGNED, _IMOD_FOUR_BIT = 1146047817, 1, 16
_OLD_FEI_EXTENSION = 131072  # bytes
OURS = "emdn="
"""Begins the labels that hold `Metadata` as JSON."""


@dataclass(frozen=True)
class _Header:
    fields: Any  # of mrcfile's HEADER_DTYPE
    mode: int
    shape: tuple[int, int, int]  # (sections, rows, columns), in pixels
    dtype: np.dtype  # of a pixel in the file, or of two in four bits each
    start: int  # of the pixels, in bytes
    extension: bytes

    @property
    def row_items(self) -> int:
        """Items of `dtype` in a row."""
        columns = self.shape[2]
        return (columns + 1) // 2 if self.mode == FOUR_BIT else columns

    @property
    def section_size(self) -> int:
        """Bytes in a section."""
        return self.shape[1] * self.row_items * self.dtype.itemsize


def sources(path: Path) -> list[Source]:
    """Describe the one image, stack or volume of a file."""
    with opened(path) as file:
        header = _read_header(file)
        refuse_if(header.mode == _RGB, "holds colours; save it as greyscale")
        sections = header.shape[0]
        held = size_of(file) - header.start
    shape = header.shape if sections > 1 else header.shape[1:]
    check_form(shape, header.dtype)
    if held < sections * header.section_size:
        raise ValueError("the pixels are cut short")
    metadata = first_of(_our_metadata(header.fields), _metadata(header))
    dtype = header.dtype.newbyteorder("=")
    read, frames = partial(_read, path), partial(_frames, path)
    plain = header.mode != FOUR_BIT and path.suffix.lower() not in SUFFIXES
    block = _block(path, header) if plain else None
    return [Source("map", shape, dtype, metadata, read, frames, block=block)]


def _block(path: Path, header: _Header) -> Block:
    def offset_of(number: int) -> int:
        return header.start + number * header.section_size

    return raw_block(path, offset_of, header.shape[1:], header.dtype)


def _read(path: Path) -> NDArray:
    with opened(path) as file:
        header = _read_header(file)
        return checked(_sections(file, header, header.shape[0]))


def _frames(path: Path) -> Iterator[NDArray]:
    with opened(path) as file:
        header = _read_header(file)
        for _ in range(header.shape[0]):
            yield checked(_sections(file, header, 1))


def _sections(file: IO[bytes], header: _Header, count: int) -> NDArray:
    """Read the next sections, as they are stored."""
    _, rows, columns = header.shape
    items = np.fromfile(file, header.dtype, count * rows * header.row_items)
    items = items.reshape(count, rows, header.row_items)
    if header.mode != FOUR_BIT:
        return items
    halves = np.stack([items & 15, items >> 4], axis=-1)
    return halves.reshape(count, rows, -1)[..., :columns]


def _read_header(file: IO[bytes]) -> _Header:
    """Read a header in the order of bytes that makes sense; the file then stands at pixels.

    The stamp of the order is missing in old files, and wrong in some.
    """
    head, size = file.read(HEADER_SIZE), size_of(file)
    if len(head) < HEADER_SIZE:
        raise ValueError("the header is cut short")
    stamped = ">" if head[212:214] == b"\x11\x11" else "<"
    both = [
        np.frombuffer(head, HEADER_DTYPE.newbyteorder(order))[0]
        for order in (stamped, "<" if stamped == ">" else ">")
    ]
    known = [fields for fields in both if _known_mode(fields)]
    if not known:
        modes = ", ".join(str(each["mode"]) for each in both[:1])
        raise ValueError(f"pixels of mode {modes} are unknown")
    fitting = [fields for fields in known if _positive(fields)]
    refuse_if(
        not fitting, f"holds no pixels, shape {_counts(known[0])}; save a whole image"
    )
    fields = next((each for each in fitting if _end(each) <= size), fitting[0])
    start = HEADER_SIZE + int(fields["nsymbt"])
    if not HEADER_SIZE <= start <= size:
        raise ValueError("the header is cut short")
    extension = file.read(start - HEADER_SIZE)
    mode, dtype = _pixels(fields, head)
    sections, rows, columns = _counts(fields)
    if _packed(fields, head):
        columns *= 2
    return _Header(fields, mode, (sections, rows, columns), dtype, start, extension)


def _known_mode(fields: Any) -> bool:
    return int(fields["mode"]) in (*_MODES, _RGB, FOUR_BIT)


def _counts(fields: Any) -> tuple[int, int, int]:
    return int(fields["nz"]), int(fields["ny"]), int(fields["nx"])


def _positive(fields: Any) -> bool:
    return min(_counts(fields)) > 0


def _end(fields: Any) -> int:
    """Return how long a file of this header is, roughly: two pixels a byte at most."""
    sections, rows, columns = _counts(fields)
    width = {FOUR_BIT: 0.5, _RGB: 3}.get(int(fields["mode"]))
    width = width or np.dtype(_MODES[int(fields["mode"])]).itemsize
    return HEADER_SIZE + int(fields["nsymbt"]) + int(sections * rows * columns * width)


def _imod_flags(fields: Any, head: bytes) -> int | None:
    order = fields.dtype["nx"].str[0].replace("|", "=")
    stamp, flags = struct.unpack(f"{order}II", head[152:160])
    return flags if stamp == _IMOD_STAMP else None


def _packed(fields: Any, head: bytes) -> bool:
    """Tell whether bytes of mode 0 hold two pixels each, as IMOD's mark says."""
    return fields["mode"] == 0 and bool((_imod_flags(fields, head) or 0) & _IMOD_FOUR_BIT)


def _pixels(fields: Any, head: bytes) -> tuple[int, np.dtype]:
    """Return the mode and the type of pixels that is meant."""
    mode, flags = int(fields["mode"]), _imod_flags(fields, head)
    if mode == FOUR_BIT or _packed(fields, head):
        return FOUR_BIT, np.dtype("u1")
    if mode == _RGB:
        return mode, np.dtype("u1")
    dtype = np.dtype(_MODES[mode])
    lowest, highest = float(fields["dmin"]), float(fields["dmax"])
    known = lowest < highest
    if mode == 0:
        if flags is not None:
            signed = bool(flags & _IMOD_SIGNED)
        elif known and highest > 127:
            signed = False
        else:
            signed = fields["nversion"] >= _STANDARD or (known and lowest < 0)
        dtype = np.dtype("i1" if signed else "u1")
    if mode == 1 and known and lowest >= 0 and highest > 32767:
        dtype = np.dtype("u2")  # from before mode 6
    return mode, dtype.newbyteorder(fields.dtype["nx"].str[0].replace("|", "="))


def _metadata(header: _Header) -> Metadata:
    """Return the size of a pixel from cell and grid, or from what FEI put elsewhere."""
    fields = header.fields
    if fields["nversion"] < _STANDARD and len(header.extension) == _OLD_FEI_EXTENSION:
        # FEI put the pixel size there, in metres, and nonsense into the cell.
        (size,) = struct.unpack("<f", header.extension[44:48])
        return calibrated(size, size, "m")
    axes = [int(fields[name]) for name in ("mapc", "mapr")]
    axes = axes if sorted({*axes}) == sorted(axes) and {*axes} <= {1, 2, 3} else [1, 2]
    width, height = (
        float(fields["cella"]["xyz"[axis - 1]]) / max(int(fields[f"m{'xyz'[axis - 1]}"]), 0)
        if int(fields[f"m{'xyz'[axis - 1]}"]) > 0
        else 0.0
        for axis in axes
    )
    cell = calibrated(width / 10, height / 10, "nm")
    return first_of(cell, _fei_metadata(header))


def _fei_metadata(header: _Header) -> Metadata:
    """Return what Thermo Fisher writes before the pixels, for each section; the first's."""
    kind = bytes(header.fields["exttyp"])
    if kind not in (b"FEI1", b"FEI2"):
        return Metadata()
    order = header.fields.dtype["nx"].str[0].replace("|", "=")
    dtype = get_ext_header_dtype(kind, order)
    if dtype is None or len(header.extension) < dtype.itemsize:
        return Metadata()
    facts = np.frombuffer(header.extension, dtype, 1)[0]
    detector = facts["STEM Detector name"] or facts["Camera name"]
    return calibrated(
        facts["Pixel size X"],
        facts["Pixel size Y"],
        "m",
        detector=bytes(detector).decode("latin-1"),
        voltage=facts["HT"] / 1e3,
        dwell_time=facts["Dwell time"],
        other={
            "microscope": bytes(facts["Microscope type"]).decode("latin-1"),
            "magnification": facts["Magnification"] or None,
        },
    )


def _our_metadata(fields: Any) -> Metadata:
    """Return the facts that this package wrote into the labels, but for the size."""
    text = b"".join(bytes(each).ljust(80) for each in fields["label"]).decode("latin-1")
    _, ours, facts = text.partition(OURS)
    try:
        facts = json.loads(facts) if ours else {}
    except ValueError:
        return Metadata()
    names = ("detector", "voltage", "dwell_time", "other")
    return calibrated(None, None, **{name: facts.get(name) for name in names})
