"""Micrographs in and out of files.

A micrograph is an array of shape (H, W), or (N, H, W) for a stack, holding the numbers
that its file means: nothing is rescaled, clipped or converted for convenience. With it
comes a `Metadata`, which knows how large a pixel is. Whatever is wrong with a file is told
in one line: which file, what is wrong, and what would work.

Each format has a module here, which lists the images of a file as `Source`.
"""

import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from emdn.files import written_whole
from emdn.io.metadata import UNITS, Metadata
from emdn.io.ome_zarr import is_store
from emdn.io.source import MicrographError, Source, check_form, checked, refuse_if
from emdn.io.write import WRITERS, bands_of_images, check_content, images_of

__all__ = [
    "FOLDERS",
    "READABLE",
    "UNITS",
    "WRITABLE",
    "Metadata",
    "MicrographError",
    "Source",
    "check_output",
    "is_readable",
    "list_images",
    "open_micrograph",
    "read_micrograph",
    "write_bands",
    "write_frames",
    "write_micrograph",
]

_PACKED = (".gz", ".bz2")
_TIFF = (".tif", ".tiff")
_MRC = (".mrc", ".mrcs", ".st", ".rec", ".map", ".ali", ".preali")
# Modules of this package, which are imported when a file needs them, and their suffixes.
_MODULES = {
    "tiff": (*_TIFF, *(plain + packed for plain in _TIFF for packed in _PACKED)),
    "raster": (".png", ".jpg", ".jpeg", ".bmp"),
    "npy": (".npy",),
    "mrc": (*_MRC, *(plain + packed for plain in _MRC for packed in _PACKED)),
    "rosetta": (".dm3", ".dm4"),
    "ser": (".ser",),
    "hdf5": (".emd", ".hspy", ".hdf5", ".h5", ".zspy"),
    "ome_zarr": (".zarr",),
}
_MODULE_OF = {suffix: name for name, suffixes in _MODULES.items() for suffix in suffixes}
FOLDERS = (".zspy", ".zarr")
"""Suffixes, in lower case, of micrographs that are, or may be, folders."""
READABLE = tuple(_MODULE_OF)
"""Suffixes, in lower case, of the files that `read_micrograph` reads; see `is_readable`."""
WRITABLE = tuple(WRITERS)
"""Suffixes, in lower case, of the files that `write_micrograph` writes."""


def is_readable(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file's name is one of a micrograph's, such as "a.MRC" or "a.tif.gz".

    Names that begin with a dot are none: they are temporary files, or a Mac's shadows.
    """
    name = Path(path)
    return _suffix(name) in READABLE and not name.name.startswith(".")


def _suffix(path: Path) -> str:
    """Return the end of a name that tells the format, in lower case."""
    ends = [each.lower() for each in path.suffixes[-2:]]
    packed = len(ends) == 2 and ends[1] in _PACKED
    return "".join(ends) if packed else path.suffix.lower()


def _printable(text: str) -> str:
    """Replace line breaks and other controls, which names of files may hold."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


@contextmanager
def _one_line_faults(path: Path, verb: str, remedy: str) -> Iterator[None]:
    """Tell whatever goes wrong with a file in one line that names it."""
    try:
        yield
    except MicrographError as fault:
        raise MicrographError(_printable(f"{path}: {fault}")) from None
    # A damaged file makes its reader fail in any way: KeyError, struct.error, MemoryError.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        fault = f"cannot be {verb} as {_suffix(path)[1:].upper()} ({reason}); {remedy}"
        raise MicrographError(_printable(f"{path}: {fault}")) from error


def _reading(path: Path) -> AbstractContextManager[None]:
    return _one_line_faults(path, "read", "copy it again, or export it as TIFF")


def list_images(path: str | os.PathLike[str]) -> list[Source]:
    """List the images and stacks of a file, without reading their pixels.

    Parameters
    ----------
    path : path
        A file whose suffix, in any case, is one of `READABLE`.

    Returns
    -------
    list of Source
        The one that `read_micrograph` takes first, by this rule: of a TIFF's the largest,
        by pixels, in grey before in colours, then in the order of the file; of a Velox
        file's the first recorded one, in the order of time, then of the detectors' names;
        of another format's in the order of the file, complex numbers and colours last.

    Raises
    ------
    MicrographError
        If the file is missing, damaged, or holds no image.
    """
    path = Path(path)
    with _reading(path):
        _check_input(path)
        sources = import_module(f"emdn.io.{_MODULE_OF[_suffix(path)]}").sources(path)
    return [_in_one_line(path, source) for source in sources]


def _check_input(path: Path) -> None:
    suffix, known = _suffix(path), " ".join(READABLE)
    missing = "does not exist, and " if not path.exists() else ""
    unknown = f"{missing}has an unknown suffix; use one of {known}"
    refuse_if(suffix not in READABLE, unknown)
    refuse_if(bool(missing), "does not exist; check the path")
    if path.is_dir() and suffix in FOLDERS:
        return
    refuse_if(not path.is_file(), "is not a file; name a file inside it")
    refuse_if(path.stat().st_size == 0, "is empty, 0 bytes; copy or save it again")


def _in_one_line(path: Path, source: Source) -> Source:
    """Return a source that tells faults as `list_images` does."""

    def read() -> NDArray:
        with _reading(path):
            return source.read()

    def frames() -> Iterator[NDArray]:
        with _reading(path):
            yield from source.frames()

    def block(number: int, rows: slice, columns: slice) -> NDArray:
        assert source.block is not None
        with _reading(path):
            return source.block(number, rows, columns)

    return replace(
        source,
        name=_printable(source.name),
        read=read,
        frames=frames,
        block=source.block and block,
    )


def open_micrograph(path: str | os.PathLike[str], image: str | int | None = None) -> Source:
    """Describe the image that `read_micrograph` would read, to read it frame by frame.

    Parameters
    ----------
    path : path
        A file whose suffix, in any case, is one of `READABLE`.
    image : str or int, optional
        Name of the image, or its number, from 0, in `list_images`; the first by default.

    Warns
    -----
    UserWarning
        If no image is named in a file of several, and of a compression that loses.
    """
    source, told = _chosen(Path(path), image)
    for text in told:
        warnings.warn(text, stacklevel=2)
    return source


def read_micrograph(
    path: str | os.PathLike[str], image: str | int | None = None
) -> tuple[NDArray, Metadata]:
    """Read an image or a stack of images as it is meant.

    Parameters
    ----------
    path : path
        A file whose suffix, in any case, is one of `READABLE`. An NPY stack of three or
        four columns is refused, as is one in HDF5 without named axes: it may be RGB.
    image : str or int, optional
        Which image of a file with several: its name, or its number, from 0, in
        `list_images`. The default is the first there, and a warning names those left out.

    Returns
    -------
    image : (H, W) or (N, H, W) array
        The file's own integers or floats, in the order of its rows. A stack of one is an
        image, and so is an RGB picture in grey. Where zero is white, numbers are inverted;
        ImageJ's straight line of calibration and grey palettes are applied; bytes of an MRC
        are signed as IMOD's flags and the header's extremes say.
    metadata : Metadata
        Pixel size and more, as far as the file tells them of this image. Metres and
        centimetres become "nm"; a TIFF's dots per inch count only below 10 um a pixel.

    Warns
    -----
    UserWarning
        If no image is named in a file of several, and of a compression that loses.
    """
    source, told = _chosen(Path(path), image)
    for text in told:
        warnings.warn(text, stacklevel=2)
    return source.read(), source.metadata


def _chosen(path: Path, image: str | int | None) -> tuple[Source, list[str]]:
    """Return the image of that name or number, or the first, and what to warn of."""
    sources = list_images(path)
    names = [source.name for source in sources]
    told = []
    if image is None:
        chosen = 0
        if len(names) > 1:
            left_out = _named(names[1:])
            told = [
                f"holds {len(names)} images; {names[0]!r} is read, left out: {left_out}"
            ]
    elif str(image) in names:
        chosen = names.index(str(image))
    elif str(image).isdecimal() and int(image) < len(names):
        chosen = int(image)
    else:
        remedy = f"name one of {_named(names)}, or a number from 0 to {len(names) - 1}"
        raise MicrographError(_printable(f"{path}: holds no image {image!r}; {remedy}"))
    told += sources[chosen].warnings
    return sources[chosen], [_printable(f"{path}: {text}") for text in told]


def _named(names: list[str]) -> str:
    shown = [repr(name[:40]) for name in names[:6]]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def check_output(
    path: str | os.PathLike[str],
    shape: tuple[int, ...] | None = None,
    dtype: DTypeLike | None = None,
    metadata: Metadata | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Refuse a file that could not be written, before the work for it is done.

    Parameters
    ----------
    path : path
        The file to make.
    shape, dtype : tuple of int and dtype, optional
        What is to be written, as far as it is known; both or none.
    metadata : Metadata, optional
        What is to go with it.
    overwrite : bool
        Whether a file of this name may be replaced.

    Raises
    ------
    MicrographError
        If the suffix is none of `WRITABLE`, the folder is missing or not to be written to,
        the name is taken, the disk is too full, or the format cannot hold the numbers'
        type, their shape or the pixels' unit.
    """
    path = Path(path)
    with _one_line_faults(path, "written", "check the folder"):
        suffix, known = path.suffix.lower(), " ".join(WRITABLE)
        refuse_if(suffix not in WRITABLE, f"has an unknown suffix; use one of {known}")
        refuse_if(not path.parent.is_dir(), "its folder does not exist; make it first")
        folder = path.is_dir() and not (suffix in FOLDERS and is_store(path))
        refuse_if(folder, "is a folder; name a file inside it")
        taken = path.exists() and not overwrite
        refuse_if(taken, "exists already; pass overwrite=True to replace it")
        closed = not os.access(path.parent, os.W_OK)
        refuse_if(closed, "its folder may not be written to; choose another")
        if shape is not None:
            kind = np.dtype(dtype)
            check_content(suffix, shape, kind, metadata or Metadata())
            needed = int(np.prod(shape, dtype=object)) * kind.itemsize / 1e6
            free = shutil.disk_usage(path.parent).free / 1e6
            fault = f"needs {needed:.0f} MB, of which the disk has {free:.0f}"
            refuse_if(needed > free and suffix != ".png", f"{fault}; free some space")


def write_micrograph(
    path: str | os.PathLike[str],
    image: ArrayLike,
    metadata: Metadata | None = None,
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
        uint16, float16 and float32 only. PNG is to look at: it holds one image, of uint8
        or uint16 as it is and of other types with grey levels of 8 bits.
    metadata : Metadata, optional
        The pixel size goes to TIFF, where ImageJ and Fiji read it, and to MRC, in its own
        ångströms and float32; the rest goes as JSON into the TIFF's description, the MRC's
        labels, of 800 letters in all, or the PNG's text. NPY holds the numbers alone.
    overwrite : bool
        Whether a file of this name may be replaced. It is kept until the new one is whole.

    Raises
    ------
    MicrographError
        For all that `check_output` refuses, and if writing fails.
    """
    path = Path(path)
    with _one_line_faults(path, "written", "check the folder, or write float32"):
        array = np.asarray(image)
        check_form(array.shape, array.dtype)
        array = checked(array)
    frames = array if array.ndim == 3 else array[np.newaxis]
    write_frames(path, frames, array.shape, array.dtype, metadata, overwrite=overwrite)


def write_frames(
    path: str | os.PathLike[str],
    frames: Iterable[NDArray],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    metadata: Metadata | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a stack image by image, in the memory of one, whole or not at all.

    Parameters
    ----------
    path : path
        The file to make; its suffix, one of `WRITABLE`, decides the format.
    frames : iterable of (H, W) arrays
        The images. They are taken one after the other, so that they may be made on the way.
    shape : (N, H, W), or (H, W) for a single image
        How many images come, and their sides.
    dtype : dtype
        Type of all of them.
    metadata : Metadata, optional
        As in `write_micrograph`.
    overwrite : bool
        Whether a file of this name may be replaced. It is kept until the new one is whole.

    Raises
    ------
    MicrographError
        For all that `check_output` refuses, and if writing fails. What the iterable raises
        comes out as it is, and nothing is left behind.
    """
    _write(Path(path), frames, images_of, shape, dtype, metadata, overwrite=overwrite)


def write_bands(
    path: str | os.PathLike[str],
    bands: Iterable[NDArray],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    metadata: Metadata | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write images a few rows at a time, in the memory of those, whole or not at all.

    Parameters
    ----------
    path : path
        The file to make; its suffix, one of `WRITABLE`, decides the format. PNG takes the
        memory of an image.
    bands : iterable of (h, W) arrays
        Rows from top to bottom, those of the first image first.
    shape, dtype, metadata, overwrite
        As in `write_frames`.

    Raises
    ------
    MicrographError
        As `write_frames` does.
    """
    _write(Path(path), bands, bands_of_images, shape, dtype, metadata, overwrite=overwrite)


def _write(
    path: Path,
    parts: Iterable[NDArray],
    check: Callable[..., Iterator[NDArray]],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    metadata: Metadata | None,
    *,
    overwrite: bool,
) -> None:
    metadata = metadata or Metadata()
    shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else tuple(shape)
    dtype = np.dtype(dtype).newbyteorder("=")
    check_output(path, shape, dtype, metadata, overwrite=overwrite)
    failed: list[BaseException] = []
    images = check(_noting(parts, failed), shape, dtype)
    try:
        with _one_line_faults(path, "written", "check the folder, or write float32"):
            beside = f".emdn-{secrets.token_hex(8)}{path.suffix.lower()}"
            with written_whole(path, beside=beside) as temporary, _told_why_cut_short():
                WRITERS[path.suffix.lower()].write(
                    temporary, images, shape, dtype, metadata
                )
                next(images, None)  # which refuses images beyond the last
    except MicrographError:
        if failed:
            raise failed[0] from None
        raise


@contextmanager
def _told_why_cut_short() -> Iterator[None]:
    """Name the cause where NumPy only counts what it could not write."""
    try:
        yield
    except OSError as error:
        full = error.errno is None and "requested and" in str(error)
        refuse_if(full, "cannot be written whole, the disk or a quota is full; free space")
        raise


def _noting(frames: Iterable[NDArray], failed: list[BaseException]) -> Iterator[NDArray]:
    """Keep what an iterable raises, to tell it from a fault of the file."""
    try:
        yield from frames
    except Exception as error:
        failed.append(error)
        raise
