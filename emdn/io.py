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
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

_NM = {"pm": 1e-3, "A": 0.1, "nm": 1.0, "um": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9}
_UNCALIBRATED = {"", "none", "pixel", "pixels", "px", "<undefined>"}
_SPELLINGS = {"micron": "um", "microns": "um", "angstrom": "A", "meters": "m"}

# A TIFF's dots per inch may speak of paper: 72 dpi would be pixels of 353 um. Those above
# 10 um are not believed; a scanning microscope reaches that at a magnification near 10.
_PAPER = 1e4  # nm


class MicrographError(ValueError):
    """A file that cannot be read or written, told in one line: file, fault, remedy."""


@dataclass(frozen=True)
class Metadata:
    """What a file tells about its micrograph besides the pixels.

    Parameters
    ----------
    pixel_size : float, optional
        Side of a pixel in `unit`. None when the file does not say, or when the two sides
        differ by more than 1 %, since one number would then be wrong.
    unit : str, optional
        Unit of `pixel_size`, given exactly when that is. Kept in ASCII, so that every
        format can hold it: "nm", "um" for micrometres, "A" for ångströms, "1/nm" in a
        diffraction pattern. Other spellings ("µm", "micron", "Å") become these.
    detector : str, optional
        Name of the detector. Read where the file has one; no writable format keeps it.

    Examples
    --------
    >>> Metadata(0.5, "micron")
    Metadata(pixel_size=0.5, unit='um', detector=None)
    """

    pixel_size: float | None = None
    unit: str | None = None
    detector: str | None = None

    def __post_init__(self):
        if self.pixel_size is None and self.unit is None:
            return
        if self.pixel_size is None or self.unit is None:
            raise ValueError(
                "pixel_size and unit must be given together, "
                f"got {self.pixel_size} and {self.unit!r}"
            )
        if not 0 < self.pixel_size < math.inf:
            raise ValueError(f"pixel_size must be positive, got {self.pixel_size}")
        object.__setattr__(self, "unit", _ascii_unit(self.unit))


def _ascii_unit(unit: str) -> str:
    """Return the one spelling of a unit that this package uses."""
    # ImageJ spells the micro sign as an escape of six characters.
    unit = unicodedata.normalize("NFKC", unit.replace("\\u00B5", "u")).replace(" ", "")
    unit = unit.replace("\N{GREEK SMALL LETTER MU}", "u").replace("Å", "A")
    return _SPELLINGS.get(unit.lower(), unit)


def _calibrated(width: Any, height: Any, unit: Any, detector: Any = None) -> Metadata:
    """Return the metadata of square pixels; of others, or a senseless size, no size."""
    unit, detector = _ascii_unit(str(unit)), str(detector) if detector else None
    try:
        width, height = float(width), float(height)
    except (TypeError, ValueError):
        return Metadata(detector=detector)
    if unit in ("cm", "m"):
        width, height, unit = width * _NM[unit], height * _NM[unit], "nm"
    square = 0 < width < math.inf and math.isclose(width, height, rel_tol=0.01)
    if unit.lower() in _UNCALIBRATED or not square:
        return Metadata(detector=detector)
    return Metadata(width, unit, detector)


def _dig(tree: Any, *keys: str) -> Any:
    """Return the leaf of nested dictionaries at a path of keys, or None."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _checked(image: NDArray) -> NDArray:
    """Return a real (H, W) or (N, H, W) array in the machine's byte order, or refuse it."""
    while image.ndim > 2 and image.shape[0] == 1:
        image = image[0]
    if image.dtype.kind == "c":
        raise MicrographError("holds complex numbers; save their size, np.abs(image)")
    if image.dtype.kind == "b":
        raise MicrographError("holds only true and false; save the grey levels instead")
    if image.dtype.kind not in "iuf":
        raise MicrographError(f"holds {image.dtype} values; save integers or floats")
    if image.size == 0:
        raise MicrographError(f"holds no pixels, shape {image.shape}; save a whole image")
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        raise MicrographError(
            f"holds an RGB image of shape {image.shape}; save it as greyscale"
        )
    if image.ndim not in (2, 3):
        raise MicrographError(
            f"holds an array of shape {image.shape}; save one image (H, W) "
            "or a stack of images (N, H, W)"
        )
    return np.ascontiguousarray(image, image.dtype.newbyteorder("="))


def _grey(image: NDArray) -> NDArray:
    """Drop the colour axis, the last, of an image that is grey and opaque all the same."""
    alpha = image.shape[-1] in (2, 4)
    colours = image[..., :-1] if alpha else image
    if (colours != colours[..., :1]).any() or (alpha and np.ptp(image[..., -1]) > 0):
        kind = "a transparent" if image.shape[-1] == 2 else "an RGB"
        raise MicrographError(
            f"holds {kind} image of shape {image.shape}; save it as greyscale"
        )
    return colours[..., 0]


@contextmanager
def _strict_tifffile() -> Iterator[None]:
    """Raise the damage that tifffile only logs, such as lost pages; drop other lines."""

    def judge(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            raise ValueError(record.getMessage())
        return False

    log = logging.getLogger("tifffile")
    log.addFilter(judge)
    try:
        yield
    finally:
        log.removeFilter(judge)


def _read_tiff(path: Path) -> tuple[NDArray, Metadata]:
    """Read the largest image or stack; smaller ones beside it are mostly thumbnails."""
    with _strict_tifffile(), tifffile.TiffFile(path) as tif:
        series = max(tif.series, key=lambda series: series.size)
        for page in series.pages:
            if page is None:
                raise MicrographError("lacks some of its pages; save it in one file")
            # Given half a tile, tifffile may hand out what happens to be in memory.
            ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
            if max(ends) > tif.filehandle.size:
                raise MicrographError("is cut short; copy or save it again")
        image = series.asarray()
        if "S" in series.axes:
            image = _grey(np.moveaxis(image, series.axes.index("S"), -1))
        return image, _tiff_metadata(tif)


def _tiff_metadata(tif: tifffile.TiffFile) -> Metadata:
    """Ask ImageJ's, OME's, Thermo Fisher's, Zeiss's, then the common tags for a size."""
    page = tif.pages.first
    width, height = (1 / each if each else 0 for each in page.resolution)
    if unit := _dig(tif.imagej_metadata, "unit"):
        return _calibrated(width, height, unit)
    if tif.ome_metadata:
        pixels = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
        size = {} if pixels is None else pixels.attrib
        width, unit = size.get("PhysicalSizeX"), size.get("PhysicalSizeXUnit", "um")
        return _calibrated(width, size.get("PhysicalSizeY", width), unit)
    if scan := _dig(tif.fei_metadata, "Scan"):
        detector = _dig(tif.fei_metadata, "Detectors", "Name")
        return _calibrated(scan.get("PixelWidth"), scan.get("PixelHeight"), "m", detector)
    if size := _dig(tif.sem_metadata, "ap_image_pixel_size"):
        detector = _dig(tif.sem_metadata, "dp_detector_type") or ("", None)
        unit = size[2] if len(size) > 2 else ""
        return _calibrated(size[1], size[1], unit, detector[1])
    cm = {2: 2.54, 3: 1.0}.get(page.resolutionunit, 0)
    printed = width * cm * _NM["cm"] >= _PAPER
    return Metadata() if printed else _calibrated(width * cm, height * cm, "cm")


def _read_png(path: Path) -> tuple[NDArray, Metadata]:
    from imageio.v3 import imread

    with path.open("rb") as file:
        header = file.read(26)
    if not header.startswith(b"\x89PNG\r\n"):
        raise ValueError("not a PNG file")
    depth, colour_type = header[24:]
    if depth == 16 and colour_type != 0:
        # Pillow would hand out the upper eight bits without a word.
        raise MicrographError("holds 16-bit colours; save it as 16-bit greyscale")
    image = imread(path, plugin="pillow", extension=".png")
    return (_grey(image) if image.ndim == 3 else image), Metadata()


def _read_npy(path: Path) -> tuple[NDArray, Metadata]:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False), Metadata()


# MRC2014's header. Sizes run x, y, z; the cell, all the pixels together, is in ångströms.
_MRC_HEADER = np.dtype(
    [
        ("shape", "3<i4"),
        ("mode", "<i4"),
        ("start", "3<i4"),
        ("sampling", "3<i4"),
        ("cell", "3<f4"),
        ("angles", "3<f4"),
        ("axes", "3<i4"),
        ("minimum_maximum_mean", "3<f4"),
        ("space_group", "<i4"),
        ("extension", "<i4"),
        ("extra", "V12"),
        ("version", "<i4"),
        ("more", "V96"),
        ("map", "S4"),
        ("machine", "4u1"),
        ("deviation", "<f4"),
        ("labels", "V804"),
    ]
)
_MRC_FEI = np.dtype([("tilts_to_axis", "V44"), ("pixel_size", "<f4"), ("rest", "V131024")])
_MRC_MODES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}
_MRC_2014 = 20140


def _read_mrc(path: Path) -> tuple[NDArray, Metadata]:
    # RosettaSciIO reads MRC too, but takes signed bytes for unsigned ones, loses sides of
    # one pixel, and leaves the file open when it fails.
    header = np.fromfile(path, _MRC_HEADER, count=1)
    order = ">" if header["machine"][0, 0] == 0x11 else "<"
    header = header.view(_MRC_HEADER.newbyteorder(order))[0]
    shape = tuple(int(side) for side in header["shape"][::-1])
    mode, start = int(header["mode"]), 1024 + int(header["extension"])
    if mode not in _MRC_MODES or min(shape) < 1 or start < 1024:
        raise ValueError(f"mode {mode} with shape {shape} is unknown")
    dtype = np.dtype(_MRC_MODES[mode]).newbyteorder(order)
    if mode == 0 and header["version"] < _MRC_2014:
        dtype = np.dtype("u1")  # it was the standard of 2014 that made bytes signed
    count = math.prod(shape)
    if path.stat().st_size < start + count * dtype.itemsize:
        raise MicrographError("is cut short; copy or save it again")
    image = np.fromfile(path, dtype, count, offset=start).reshape(shape)
    width, height, _ = header["cell"] / header["sampling"] / 10
    if header["extension"] == _MRC_FEI.itemsize:
        # FEI put the pixel size there, in metres, and nonsense into the cell.
        width = height = np.fromfile(path, _MRC_FEI, 1, offset=1024)[0]["pixel_size"] * 1e9
    return image, _calibrated(width, height, "nm")


_ROSETTA = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".ser": "tia",
    ".emd": "emd",
    ".hspy": "hspy",
    ".hdf5": "hspy",
}


def _rosetta_signals(path: Path) -> list[dict[str, Any]]:
    """Return what RosettaSciIO finds: dictionaries of data, axes and the file's tags."""
    plugin = _ROSETTA[path.suffix.lower()]
    reader = import_module(f"rsciio.{plugin}").file_reader
    # Else the spectra in a Velox file would be unpacked as well, which takes gigabytes.
    options = {"select_type": "images"} if plugin == "emd" else {}
    log = logging.getLogger("rsciio")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return [signal for signal in reader(str(path), **options) if "data" in signal]
    finally:
        log.setLevel(level)


def _read_rosetta(path: Path) -> tuple[NDArray, Metadata]:
    """Read the first image or stack that is real, or else the first of any kind."""
    signals = _rosetta_signals(path)
    # RosettaSciIO marks the axes of a spectrum image's positions as ones to navigate.
    images = [
        signal
        for signal in signals
        if signal["data"].ndim in (2, 3)
        and not any(axis.get("navigate") for axis in signal["axes"][-2:])
    ]
    if not images:
        found = ", ".join(str(signal["data"].shape) for signal in signals) or "nothing"
        raise MicrographError(
            f"holds no image, but data of shape {found}; export an image from it"
        )
    signal = next((each for each in images if each["data"].dtype.kind in "iuf"), images[0])
    image, axes = signal["data"], list(signal["axes"])
    names = [axis.get("name") for axis in axes]
    if "y" in names and "x" in names:
        # EMD files hold their axes in either order.
        y, x = names.index("y"), names.index("x")
        image, axes = np.moveaxis(image, (y, x), (-2, -1)), [axes[y], axes[x]]
    height, width = (axis.get("scale") for axis in axes[-2:])
    detector = _dig(signal, "original_metadata", "DetectorMetadata", "DetectorName")
    return image, _calibrated(width, height, axes[-1].get("units"), detector)


_READERS = {
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".png": _read_png,
    ".npy": _read_npy,
    ".mrc": _read_mrc,
    **dict.fromkeys(_ROSETTA, _read_rosetta),
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
        kind = path.suffix[1:].upper()
        raise MicrographError(
            f"{path}: cannot be {verb} as {kind} ({reason}); {remedy}"
        ) from error


def read_micrograph(path: str | os.PathLike[str]) -> tuple[NDArray, Metadata]:
    """Read an image or a stack of images as it is stored.

    Parameters
    ----------
    path : path
        A file whose suffix, in any case, is one of `READABLE`. Of several images in it the
        largest (TIFF) or the first real one (EMD, DM, HDF5) is taken.

    Returns
    -------
    image : (H, W) or (N, H, W) array
        Integers or floats with the file's values and type. A stack of one is an image,
        and so is an RGB picture whose channels are all equal. TIFF palettes and PNG's
        transparency, when it is the same everywhere, are ignored.
    metadata : Metadata
        Pixel size and detector, as far as the file tells them. Metres and centimetres
        become "nm"; a TIFF's plain dots per inch count only if pixels are below 10 um.

    Raises
    ------
    MicrographError
        If the file is missing, damaged or of unknown kind, or holds anything but real
        numbers in two or three axes: colours, complex numbers, spectra.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_micrograph(f"{folder}/a.tif", np.ones((5, 7)), Metadata(0.2, "nm"))
    ...     image, metadata = read_micrograph(f"{folder}/a.tif")
    >>> image.shape, metadata.pixel_size, metadata.unit
    ((5, 7), 0.2, 'nm')
    """
    path = Path(path)
    with _one_line_faults(path, "read", "copy it again, or export it as TIFF"):
        reader = _by_suffix(_READERS, path)
        if not path.exists():
            raise MicrographError("does not exist; check the path")
        if not path.is_file():
            raise MicrographError("is not a file; name a file inside it")
        if path.stat().st_size == 0:
            raise MicrographError("is empty, 0 bytes; copy or save it again")
        image, metadata = reader(path)
        return _checked(image), metadata


def _by_suffix(table: dict[str, Any], path: Path) -> Any:
    if path.suffix.lower() not in table:
        raise MicrographError(f"has an unknown suffix; use one of {' '.join(table)}")
    return table[path.suffix.lower()]


def _write_tiff(file: BinaryIO, image: NDArray, metadata: Metadata) -> None:
    """Write as ImageJ does, which names the unit of the resolution in the description."""
    calibration: dict[str, Any] = {}
    resolution = None
    if metadata.pixel_size is not None:
        # A resolution is a quotient of two 32-bit integers.
        if not 1e-6 <= metadata.pixel_size <= 1e6:
            raise MicrographError(
                f"TIFF cannot hold pixels of {metadata.pixel_size} {metadata.unit}; "
                "use another unit"
            )
        calibration = {"unit": metadata.unit}
        resolution = (1 / metadata.pixel_size, 1 / metadata.pixel_size)
    # imwrite(imagej=True) would do the same, but for three types of pixel only.
    tifffile.imwrite(
        file,
        image,
        photometric="minisblack",
        resolution=resolution,
        resolutionunit="NONE",
        description=tifffile.imagej_description(image.shape, rgb=False, **calibration),
        metadata=None,
    )


def _write_npy(file: BinaryIO, image: NDArray, _: Metadata) -> None:
    np.lib.format.write_array(file, image, allow_pickle=False)


def _write_mrc(file: BinaryIO, image: NDArray, metadata: Metadata) -> None:
    modes = {np.dtype(kind): mode for mode, kind in _MRC_MODES.items()}
    if image.dtype not in modes:
        raise MicrographError(
            f"MRC cannot hold {image.dtype}; write image.astype(np.float32), or a TIFF"
        )
    if metadata.unit not in {None, *_NM}:
        raise MicrographError(f"MRC cannot hold pixels in {metadata.unit}; write a TIFF")
    header = np.zeros((), _MRC_HEADER)
    header["shape"] = header["sampling"] = image.shape[::-1] + (1,) * (3 - image.ndim)
    header["mode"] = modes[image.dtype]
    nanometres = (metadata.pixel_size or 0) * _NM[metadata.unit or "nm"]
    header["cell"] = header["shape"] * nanometres * 10
    header["angles"] = 90
    header["axes"] = 1, 2, 3
    header["minimum_maximum_mean"] = image.min(), image.max(), image.mean(dtype=np.float64)
    header["version"] = _MRC_2014
    header["map"] = b"MAP "
    header["machine"] = 0x44, 0x44, 0, 0
    header["deviation"] = -1  # by the standard: not determined
    file.write(header.tobytes())
    file.write(image.astype(image.dtype.newbyteorder("<")).tobytes())


_WRITERS = {
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".mrc": _write_mrc,
    ".npy": _write_npy,
}
WRITABLE = tuple(_WRITERS)
"""Suffixes, in lower case, of the files that `write_micrograph` writes."""


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place only once it is whole."""
    temporary = path.with_name(f".emdn-{secrets.token_hex(8)}")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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

    Raises
    ------
    MicrographError
        If the file exists, the folder does not, or the format cannot hold the image.
    """
    path = Path(path)
    with _one_line_faults(path, "written", "check the folder, or write float32"):
        writer = _by_suffix(_WRITERS, path)
        if not path.parent.is_dir():
            raise MicrographError(f"its folder {path.parent} does not exist; make it first")
        if path.is_dir():
            raise MicrographError("is a folder; name a file inside it")
        if path.exists() and not overwrite:
            raise MicrographError("exists already; pass overwrite=True to replace it")
        checked = _checked(np.asarray(image))
        with _replacing(path) as file:
            writer(file, checked, metadata)
