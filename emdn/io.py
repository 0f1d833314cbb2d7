"""Micrographs in and out of files.

A micrograph is an array of shape (H, W), or (N, H, W) for a stack, holding the numbers
that its file stores: nothing is rescaled, clipped or converted. With it comes a
`Metadata`, which knows how large a pixel is. Whatever is wrong with a file is told in one
line: which file, what is wrong, and what would work.
"""

import logging
import math
import os
import secrets
import struct
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mrcfile
import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from emdn.files import written_whole

_NM = {"pm": 1e-3, "A": 0.1, "nm": 1.0, "um": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9}


_UNCALIBRATED = {"", "none", "pixel", "pixels", "px", "<undefined>"}


_SPELLINGS = {"micron": "um", "microns": "um", "angstrom": "A", "meters": "m"}


_CUT_SHORT = "is cut short; copy or save it again"


class MicrographError(ValueError):
    """A file that cannot be read or written, told in one line: file, fault, remedy."""


def _refuse_if(wrong: bool, fault_and_remedy: str) -> None:
    if wrong:
        raise MicrographError(fault_and_remedy)


@dataclass(frozen=True)
class Metadata:
    """What a file tells about its micrograph besides the pixels.

    Parameters
    ----------
    pixel_size : float, optional
        Side of a pixel in `unit`. None when the file does not say, or when the two sides
        differ by more than 1 %, since one number would then be wrong.
    unit : str, optional
        Unit of `pixel_size`, given exactly when that is: "nm", "um", "A" for ångströms,
        "1/nm" in a diffraction pattern. Other spellings ("µm", "micron") become these,
        in ASCII, so that every format can hold them.
    detector : str, optional
        Name of the detector, where a Velox, Thermo Fisher or Zeiss file tells it. No
        format that is written holds it.
    """

    pixel_size: float | None = None
    unit: str | None = None
    detector: str | None = None

    def __post_init__(self):
        if (self.pixel_size is None) != (self.unit is None):
            given = f"{self.pixel_size} and {self.unit!r}"
            raise ValueError(f"pixel_size and unit must be given together, got {given}")
        if self.pixel_size is not None and not 0 < self.pixel_size < math.inf:
            raise ValueError(f"pixel_size must be positive, got {self.pixel_size}")
        if self.unit is not None:
            object.__setattr__(self, "unit", _ascii_unit(self.unit))


def _ascii_unit(unit: str) -> str:
    """Return the one spelling of a unit that this package uses."""
    # ImageJ spells the micro sign as an escape of six characters.
    unit = unicodedata.normalize("NFKC", unit.replace("\\u00B5", "u")).replace(" ", "")
    unit = unit.replace("\N{GREEK SMALL LETTER MU}", "u").replace("Å", "A")
    return _SPELLINGS.get(unit.lower(), unit)


def _calibrated(
    width: Any, height: Any, unit: Any = "", detector: str | None = None
) -> Metadata:
    """Return the metadata of square pixels; of others, or a senseless size, no size."""
    try:
        width, height, unit = float(width), float(height), _ascii_unit(str(unit))
    except (TypeError, ValueError):
        return Metadata(detector=detector)
    if unit in ("cm", "m"):
        width, height, unit = width * _NM[unit], height * _NM[unit], "nm"
    square = 0 < width < math.inf and math.isclose(width, height, rel_tol=0.01)
    known = square and unit.lower() not in _UNCALIBRATED
    return Metadata(width, unit, detector) if known else Metadata(detector=detector)


def _checked(image: NDArray) -> NDArray:
    """Return (H, W) or (N, H, W) real numbers, free to be changed, or refuse the array."""
    while image.ndim > 2 and image.shape[0] == 1:
        image = image[0]
    kind, shape = image.dtype.kind, image.shape
    _refuse_if(kind == "c", "holds complex numbers; save their size, np.abs(image)")
    _refuse_if(kind == "b", "holds only true and false; save the grey levels instead")
    _refuse_if(kind not in "iuf", f"holds {image.dtype} values; save integers or floats")
    _refuse_if(image.size == 0, f"holds no pixels, shape {shape}; save a whole image")
    remedy = "save one image (H, W) or a stack of images (N, H, W)"
    _refuse_if(image.ndim not in (2, 3), f"holds an array of shape {shape}; {remedy}")
    return np.require(image, image.dtype.newbyteorder("="), ["C", "W", "E"])


def _checked_unnamed(image: NDArray) -> NDArray:
    """Check an array of unnamed axes, where 3 or 4 columns may as well be colours."""
    image = _checked(image)
    ambiguous = image.ndim == 3 and image.shape[-1] in (3, 4)
    fault = f"holds an array of shape {image.shape}, which may be an RGB image"
    _refuse_if(ambiguous, f"{fault}; save greyscale, or a stack of narrow images as TIFF")
    return image


def _grey(image: NDArray) -> NDArray:
    """Drop the colour axis, the last, of an image that is grey and opaque all the same."""
    alpha = image.shape[-1] in (2, 4)
    colours = image[..., :-1] if alpha else image
    coloured = (colours != colours[..., :1]).any() or (alpha and np.ptp(image[..., -1]) > 0)
    kind = "a transparent" if image.shape[-1] == 2 else "an RGB"
    _refuse_if(coloured, f"holds {kind} image of shape {image.shape}; save it as greyscale")
    return colours[..., 0]


@contextmanager
def _strict_log(library: str) -> Iterator[None]:
    """Raise the damage that a library only logs, such as lost pages; drop other lines."""

    def judge(record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            raise ValueError(record.getMessage())

    log, handler = logging.getLogger(library), logging.Handler()
    handler.emit = judge
    before = log.handlers, log.propagate
    log.handlers, log.propagate = [handler], False
    try:
        yield
    finally:
        log.handlers, log.propagate = before


def _read_tiff(path: Path) -> tuple[NDArray, Metadata]:
    """Read the largest image or stack; smaller ones beside it are mostly thumbnails."""
    with _strict_log("tifffile"), tifffile.TiffFile(path) as tif:
        series = max(tif.series, key=lambda series: series.size)
        for page in series.pages:
            if page is None:
                raise MicrographError("lacks some of its pages; save it in one file")
            # Given half a tile, tifffile may hand out what happens to be in memory.
            end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
            _refuse_if(end > tif.filehandle.size, _CUT_SHORT)
        image = series.asarray()
        if "S" in series.axes:
            image = _grey(np.moveaxis(image, series.axes.index("S"), -1))
        return image, _tiff_metadata(tif)


def _tiff_metadata(tif: tifffile.TiffFile) -> Metadata:
    """Ask ImageJ's, OME's, Thermo Fisher's, Zeiss's, then the common tags for a size."""
    page = tif.pages.first
    width, height = (1 / each if each else 0 for each in page.resolution)
    if unit := (tif.imagej_metadata or {}).get("unit"):
        return _calibrated(width, height, unit)
    if tif.ome_metadata:
        pixels = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
        size = {} if pixels is None else pixels.attrib
        width, unit = size.get("PhysicalSizeX"), size.get("PhysicalSizeXUnit", "um")
        return _calibrated(width, size.get("PhysicalSizeY", width), unit)
    fei, zeiss = tif.fei_metadata or {}, tif.sem_metadata or {}
    if scan := fei.get("Scan"):
        detector = fei.get("Detectors", {}).get("Name")
        return _calibrated(scan.get("PixelWidth"), scan.get("PixelHeight"), "m", detector)
    if size := zeiss.get("ap_image_pixel_size"):
        _, detector = zeiss.get("dp_detector_type", (None, None))
        return _calibrated(size[1], size[1], "".join(size[2:3]), detector)
    cm = {2: 2.54, 3: 1.0}.get(page.resolutionunit, 0)
    # Dots per inch mostly speak of paper, 72 dpi of pixels of 353 um; a scanning microscope
    # reaches 10 um at a magnification near 10.
    printed = width * cm >= 1e-3
    return Metadata() if printed else _calibrated(width * cm, height * cm, "cm")


def _read_png(path: Path) -> tuple[NDArray, Metadata]:
    from imageio.v3 import imread

    contents = path.read_bytes()
    if not contents.startswith(b"\x89PNG\r\n"):
        raise ValueError("not a PNG file")
    depth, colours = contents[24:26]
    # Pillow would hand out the upper eight bits without a word.
    _refuse_if(depth == 16 and colours != 0, "holds 16-bit colours; save it as greyscale")
    image = imread(contents, plugin="pillow", extension=".png")
    return (_grey(image) if image.ndim == 3 else image), Metadata()


def _read_npy(path: Path) -> tuple[NDArray, Metadata]:
    try:
        image = _npy_array(path)
    except SystemError:
        # NumPy parses the header as Python, which in Python 3.11 fails by chance while
        # another thread, TensorFlow's for one, parses too.
        image = _npy_array(path)
    return _checked_unnamed(image), Metadata()


def _npy_array(path: Path) -> NDArray:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_mrc(path: Path) -> tuple[NDArray, Metadata]:
    with path.open("rb") as file:
        extension = file.read(96)[92:]
    # mrcfile would make room for it first, up to 2 GB in a file of another kind.
    size = min(int.from_bytes(extension, order) for order in ("little", "big"))
    if 1024 + size > path.stat().st_size:
        raise ValueError("the header is cut short")
    # Permissive, since old microscopes leave out the letters MAP or the byte order.
    with mrcfile.mmap(path, permissive=True) as file:
        header: Any = file.header
        image = file.data
        if image is None:
            raise ValueError(f"pixels of mode {header.mode} are unknown or cut short")
        width, height = file.voxel_size.x / 10, file.voxel_size.y / 10
    if header.nversion < 20140 and image.dtype == np.int8:
        image = image.view(np.uint8)  # it was the standard of 2014 that made them signed
    if header.nversion < 20140 and header.nsymbt == 131072:
        # FEI put the pixel size there, in metres, and nonsense into the cell.
        width = height = np.fromfile(path, "<f4", 1, offset=1024 + 44)[0] * 1e9
    return image, _calibrated(width, height, "nm")


def _rosetta_signal(plugin: str, path: Path) -> dict[str, Any]:
    """Return data and axes of the first real image or stack, else of the first at all."""
    reader = import_module(f"rsciio.{plugin}").file_reader
    # Else the spectra in a Velox file would be unpacked as well, which takes gigabytes.
    options = {"select_type": "images"} if plugin == "emd" else {}
    with _strict_log("rsciio"):
        signals = [each for each in reader(str(path), **options) if "data" in each]
    # RosettaSciIO marks the axes of a spectrum image's positions as ones to navigate.
    flat = [each for each in signals if each["data"].ndim in (2, 3)]
    images = [
        each for each in flat if not any(a.get("navigate") for a in each["axes"][-2:])
    ]
    found = ", ".join(str(each["data"].shape) for each in signals) or "nothing"
    _refuse_if(not images, f"holds no image, but data of shape {found}; export an image")
    return next((each for each in images if each["data"].dtype.kind in "iuf"), images[0])


def _read_rosetta(plugin: str, path: Path) -> tuple[NDArray, Metadata]:
    """Read one of the formats whose axes have names, mostly, and a scale each."""
    signal = _rosetta_signal(plugin, path)
    image, axes = signal["data"], list(signal["axes"])
    names = [axis.get("name") for axis in axes]
    if "y" in names and "x" in names:
        # EMD files hold their axes in either order.
        y, x = names.index("y"), names.index("x")
        image, axes = np.moveaxis(image, (y, x), (-2, -1)), [axes[y], axes[x]]
    else:
        image = _checked_unnamed(image)
    height, width = (axis.get("scale") for axis in axes[-2:])
    velox = signal.get("original_metadata", {}).get("DetectorMetadata", {})
    detector = velox.get("DetectorName")
    return image, _calibrated(width, height, axes[-1].get("units"), detector)


def _read_ser(path: Path) -> tuple[NDArray, Metadata]:
    result = _read_rosetta("tia", path)
    # RosettaSciIO reads one offset more than there are images; for each that is missing it
    # returns an image of what happens to be in memory.
    with path.open("rb") as file:
        version, images, table = struct.unpack("<4xH12xIQ", file.read(30))
    width, table = (8, table) if version > 528 else (4, table % 2**32)
    end = table + width * (images + 1)
    _refuse_if(end > path.stat().st_size, _CUT_SHORT)
    return result


_READERS = {
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".png": _read_png,
    ".npy": _read_npy,
    ".mrc": _read_mrc,
    ".dm3": partial(_read_rosetta, "digitalmicrograph"),
    ".dm4": partial(_read_rosetta, "digitalmicrograph"),
    ".ser": _read_ser,
    ".emd": partial(_read_rosetta, "emd"),
    ".hspy": partial(_read_rosetta, "hspy"),
    ".hdf5": partial(_read_rosetta, "hspy"),
}


READABLE = tuple(_READERS)
"""Suffixes, in lower case, of the files that `read_micrograph` reads."""


@contextmanager
def _one_line_faults(path: Path, verb: str, remedy: str) -> Iterator[None]:
    """Tell whatever goes wrong with a file in one line that names it."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except MicrographError as fault:
        raise MicrographError(f"{path}: {fault}") from None
    # A damaged file makes its reader fail in any way: KeyError, struct.error, MemoryError.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        fault = f"cannot be {verb} as {path.suffix[1:].upper()} ({reason}); {remedy}"
        raise MicrographError(f"{path}: {fault}") from error


def _by_suffix(table: dict[str, Any], path: Path) -> Any:
    suffix, known = path.suffix.lower(), " ".join(table)
    _refuse_if(suffix not in table, f"has an unknown suffix; use one of {known}")
    return table[suffix]


def read_micrograph(path: str | os.PathLike[str]) -> tuple[NDArray, Metadata]:
    """Read an image or a stack of images as it is stored.

    Parameters
    ----------
    path : path
        A file whose suffix, in any case, is one of `READABLE`. Of several images in it the
        largest (TIFF) or the first real one (EMD, DM, HDF5) is taken. An NPY stack of three
        or four columns is refused, as is one in HDF5 without named axes: it may be RGB.

    Returns
    -------
    image : (H, W) or (N, H, W) array
        The file's own integers or floats. A stack of one is an image, and so is an RGB
        picture in grey. Uniform transparency and TIFF palettes are ignored.
    metadata : Metadata
        Pixel size and detector, as far as the file tells them. Metres and centimetres
        become "nm"; a TIFF's plain dots per inch count only if pixels are below 10 um.
    """
    path = Path(path)
    with _one_line_faults(path, "read", "copy it again, or export it as TIFF"):
        reader = _by_suffix(_READERS, path)
        _refuse_if(not path.exists(), "does not exist; check the path")
        _refuse_if(not path.is_file(), "is not a file; name a file inside it")
        _refuse_if(path.stat().st_size == 0, "is empty, 0 bytes; copy or save it again")
        image, metadata = reader(path)
        return _checked(image), metadata


def _write_tiff(path: Path, image: NDArray, metadata: Metadata) -> None:
    """Write as ImageJ does, which names the unit of the resolution in the description."""
    size, unit = metadata.pixel_size or 1.0, metadata.unit or "pixel"
    held = 1e-6 <= size <= 1e6  # a resolution is a quotient of two 32-bit integers
    _refuse_if(not held, f"TIFF cannot hold pixels of {size} {unit}; use another unit")
    text = tifffile.imagej_description(image.shape, axes="TYX"[-image.ndim :], unit=unit)
    tags: dict[str, Any] = {"resolution": (1 / size, 1 / size), "resolutionunit": "NONE"}
    # imwrite(imagej=True) would do the same, but for three types of pixel only.
    tifffile.imwrite(
        path, image, photometric="minisblack", description=text, metadata=None, **tags
    )


def _write_mrc(path: Path, image: NDArray, metadata: Metadata) -> None:
    if str(image.dtype) not in ("int8", "int16", "uint16", "float16", "float32"):
        remedy = "write image.astype(np.float32), or a TIFF"
        raise MicrographError(f"MRC cannot hold {image.dtype}; {remedy}")
    size, unit = metadata.pixel_size or 0.0, metadata.unit or "nm"
    _refuse_if(unit not in _NM, f"MRC cannot hold pixels in {unit}; write a TIFF")
    with mrcfile.new(path, image) as file:
        if image.ndim == 3:
            file.set_image_stack()
        file.voxel_size = size * _NM[unit] * 10  # in ångströms


def _write_npy(path: Path, image: NDArray, _: Metadata) -> None:
    np.save(path, _checked_unnamed(image), allow_pickle=False)


_WRITERS = {
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".mrc": _write_mrc,
    ".npy": _write_npy,
}


WRITABLE = tuple(_WRITERS)
"""Suffixes, in lower case, of the files that `write_micrograph` writes."""


def write_micrograph(
    path: str | os.PathLike[str],
    image: ArrayLike,
    metadata: Metadata = Metadata(),
    *,
    overwrite: bool = False,
) -> None:
    """Write an image or a stack of images, whole or not at all.

    Parameters
    ----------
    path : path
        The file to make; its suffix, one of `WRITABLE`, decides the format.
    image : (H, W) or (N, H, W) array
        Integers or floats, written bit for bit in their own type. MRC knows int8, int16,
        uint16, float16 and float32 only.
    metadata : Metadata
        The pixel size goes to TIFF, where ImageJ and Fiji read it, and to MRC, in its own
        ångströms and float32. NPY holds the numbers alone.
    overwrite : bool
        Whether a file of this name may be replaced. It is kept until the new one is whole.
    """
    path = Path(path)
    with _one_line_faults(path, "written", "check the folder, or write float32"):
        writer = _by_suffix(_WRITERS, path)
        _refuse_if(not path.parent.is_dir(), "its folder does not exist; make it first")
        _refuse_if(path.is_dir(), "is a folder; name a file inside it")
        taken = path.exists() and not overwrite
        _refuse_if(taken, "exists already; pass overwrite=True to replace it")
        # numpy.save wants the suffix, and in lower case.
        beside = f".emdn-{secrets.token_hex(8)}{path.suffix.lower()}"
        with written_whole(path, beside=beside) as temporary:
            writer(temporary, _checked(np.asarray(image)), metadata)
