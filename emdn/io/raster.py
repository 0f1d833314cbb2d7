"""Pictures: PNG, JPEG and BMP.

imagecodecs unpacks them; what is added here is which numbers a picture's maker meant, what
is damage, and that a picture of a few bytes does not fill the memory.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from emdn.io.compressed import check_unpacked_size
from emdn.io.metadata import Metadata, calibrated, first_of
from emdn.io.source import CUT_SHORT, Source, check_form, checked, grey, refuse_if
from emdn.io.vendor_tags import companion_metadata

_LARGEST = 2**31  # bytes; no camera makes as large a picture
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
OURS = b"emdn\0"
"""Begins the PNG's text that holds `Metadata` as JSON."""
_JPEG_ROUNDING = 4  # levels by which colours differ that JPEG makes of grey ones
_LOSSY = "is packed by JPEG, which changed its noise; export the original as TIFF"

Decode = Callable[[bytes], NDArray]


def sources(path: Path) -> list[Source]:
    """Describe the one picture of a file."""
    signature, describe = {
        ".png": (PNG_SIGNATURE, _png),
        ".bmp": (b"BM", _bmp),
    }.get(path.suffix.lower(), (b"\xff\xd8\xff", _jpeg))
    with path.open("rb") as file:
        head = file.read(len(signature))
        if head != signature:
            raise ValueError("its first bytes are those of another kind of file")
        refuse_if(path.stat().st_size > _LARGEST, "is too large; export it as TIFF")
        return [describe(path, head + file.read())]


def _source(
    path: Path,
    shape: tuple[int, int],
    dtype: Any,
    metadata: Metadata,
    decode: Decode,
    warnings: tuple[str, ...] = (),
) -> Source:
    check_form(shape, np.dtype(dtype))
    metadata = first_of(metadata, companion_metadata(path))
    read, frames = partial(_read, path, decode), partial(_frames, path, decode)
    return Source("picture", shape, np.dtype(dtype), metadata, read, frames, warnings)


def _read(path: Path, decode: Decode) -> NDArray:
    image = decode(path.read_bytes())
    return checked(grey(image) if image.ndim == 3 else image)


def _frames(path: Path, decode: Decode) -> Iterator[NDArray]:
    yield _read(path, decode)


def _printed(across: float, down: float, unit: str) -> Metadata:
    """Return the size of a pixel of which so many fill a unit, unless a printer's."""
    return calibrated(across and 1 / across, down and 1 / down, unit)


def _png(path: Path, contents: bytes) -> Source:
    chunks = list(_png_chunks(contents))
    kinds = [kind for kind, _ in chunks]
    refuse_if(b"acTL" in kinds, "holds several pictures, an animation; save them as TIFF")
    width, height, depth, colours = struct.unpack_from(">IIBB", dict(chunks)[b"IHDR"])
    samples = {0: 1, 2: 3, 3: 4, 4: 2, 6: 4}[colours]
    check_unpacked_size(width * height * samples * max(depth, 8) // 8, len(contents))
    dtype = np.uint16 if depth == 16 else np.uint8
    grey_of_few_bits = colours == 0 and depth < 8
    if grey_of_few_bits and depth == 1:
        dtype = np.bool_
    # The library stretches levels of two and of four bits to eight.
    step = 255 // (2**depth - 1) if grey_of_few_bits else 1
    metadata = _png_metadata(chunks)
    return _source(path, (height, width), dtype, metadata, partial(_decode_png, step))


def _decode_png(step: int, contents: bytes) -> NDArray:
    image = imagecodecs.png_decode(contents)
    return image if step == 1 else image // step


def _png_chunks(contents: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and contents of each part of a PNG, whose sums must be right."""
    place, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        refuse_if(place + 12 > len(contents), CUT_SHORT)
        length, kind = struct.unpack_from(">I4s", contents, place)
        end = place + 8 + length
        refuse_if(end + 4 > len(contents), CUT_SHORT)
        (checksum,) = struct.unpack_from(">I", contents, end)
        if zlib.crc32(contents[place + 4 : end]) != checksum:
            raise ValueError(f"its part {kind!r} is damaged")
        yield kind, contents[place + 8 : end]
        place = end + 4


def _png_metadata(chunks: list[tuple[bytes, bytes]]) -> Metadata:
    ours, printed = Metadata(), Metadata()
    for kind, data in chunks:
        if kind == b"pHYs" and len(data) == 9 and data[8] == 1:
            across, down, _ = struct.unpack(">IIB", data)  # pixels in a metre
            printed = _printed(across / 100, down / 100, "cm")
        if kind == b"tEXt" and data.startswith(OURS):
            try:
                facts = json.loads(data.removeprefix(OURS))
            except ValueError:
                continue
            size, unit = facts.get("pixel_size"), facts.get("unit", "")
            names = ("detector", "voltage", "dwell_time", "other")
            rest = {name: facts.get(name) for name in names}
            ours = calibrated(size, size, unit, **rest)
    return first_of(ours, printed)


def _bmp(path: Path, contents: bytes) -> Source:
    start, header, width, height, _, bits, _, _, across, down = struct.unpack_from(
        "<IIiiHHIIii", contents, 10
    )
    if header < 40:
        raise ValueError("an OS/2 bitmap")
    height = abs(height)
    row = (width * bits + 31) // 32 * 4  # bytes, a multiple of four
    compression = contents[30]
    refuse_if(compression in (0, 3) and start + row * height > len(contents), CUT_SHORT)
    check_unpacked_size(width * height * max(bits, 8) // 8, len(contents))
    dtype = np.bool_ if bits == 1 else np.uint8
    metadata = _printed(across / 100, down / 100, "cm")
    return _source(path, (height, width), dtype, metadata, imagecodecs.bmp_decode)


def _jpeg(path: Path, contents: bytes) -> Source:
    metadata, size, place = Metadata(), None, 2
    while size is None or contents[place + 1] != 0xDA:  # until the pixels start
        marker, length = struct.unpack_from(">HH", contents, place)
        data = contents[place + 4 : place + 2 + length]
        if marker == 0xFFE0 and data.startswith(b"JFIF\0"):
            unit, across, down = struct.unpack_from(">BHH", data, 7)
            metadata = _printed(across, down, {1: "inch", 2: "cm"}.get(unit, ""))
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            size = struct.unpack_from(">BHHB", data)
        if marker < 0xFF00 or length < 2:
            raise ValueError("a marker is missing")
        place += 2 + length
    # The library makes up what follows a cut.
    refuse_if(contents.rfind(b"\xff\xd9") < place, CUT_SHORT)
    bits, height, width, samples = size
    check_unpacked_size(width * height * samples, len(contents))
    dtype = np.uint8 if bits == 8 else np.uint16
    return _source(path, (height, width), dtype, metadata, _decode_jpeg, (_LOSSY,))


def _decode_jpeg(contents: bytes) -> NDArray:
    image = imagecodecs.jpeg_decode(contents)
    if image.ndim == 3 and image.shape[-1] == 3:
        spread = int((image.max(axis=-1) - image.min(axis=-1)).max())
        if spread <= _JPEG_ROUNDING:
            return image[..., 1]
    return image


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a part of a PNG: length, kind, contents and sum."""
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )
