"""What every format's module gives: the images of a file, described but not yet read.

A module of a format has one public function, ``sources(path) -> list[Source]``. The first
in the list is the image that is read when none is asked for. The function raises
`MicrographError` with a fault and a remedy ("is cut short; copy it again"), or anything at
all: the caller puts the file's name before it and makes it one line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emdn.axes import colours_last
from emdn.io.metadata import Metadata

Block = Callable[[int, slice, slice], NDArray]
"""Reads rows and columns of the image of a number; slices have a start and a stop."""

CUT_SHORT = "is cut short; copy or save it again"


class MicrographError(ValueError):
    """A file that cannot be read or written, told in one line: file, fault, remedy."""


@dataclass(frozen=True)
class Source:
    """One image or stack in a file, described but not yet read.

    Parameters
    ----------
    name : str
        The file's own name for it ("HAADF", "Series 1"), unique within the file.
    shape : tuple of int
        (H, W) of an image, (N, H, W) of a stack. A stack of one is an image.
    dtype : numpy.dtype
        Type of the numbers that `read` returns, in native order.
    metadata : Metadata
        The pixel size and what else belongs to this image, not to another in the file.
    read : callable
        Returns the whole array, checked by `checked`.
    frames : callable
        Yields the (H, W) images one after the other, in memory that does not grow with N.
    warnings : tuple of str
        What a reader should know of the numbers, such as a lossy compression.
    block : callable, optional
        Returns the pixels of an image, by its number, in a slice of rows and one of
        columns, in memory that does not grow with the image. None where the format or the
        packing of the file lets no part be read without the rest.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    metadata: Metadata
    read: Callable[[], NDArray]
    frames: Callable[[], Iterator[NDArray]]
    warnings: tuple[str, ...] = ()
    block: Block | None = None


def refuse_if(wrong: bool, fault_and_remedy: str) -> None:
    """Raise a `MicrographError` of that text if something is wrong."""
    if wrong:
        raise MicrographError(fault_and_remedy)


def checked(image: NDArray) -> NDArray:
    """Return (H, W) or (N, H, W) real numbers, free to be changed, or refuse the array."""
    while image.ndim > 2 and image.shape[0] == 1:
        image = image[0]
    check_form(image.shape, image.dtype)
    return np.require(image, image.dtype.newbyteorder("="), ["C", "W", "E"])


def check_form(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse what is no image, or no stack, of real numbers."""
    kind = dtype.kind
    refuse_if(kind == "c", "holds complex numbers; save their size, np.abs(image)")
    refuse_if(kind == "b", "holds only true and false; save the grey levels instead")
    refuse_if(kind not in "iuf", f"holds {dtype} values; save integers or floats")
    refuse_if(0 in shape, f"holds no pixels, shape {shape}; save a whole image")
    remedy = "save one image (H, W) or a stack of images (N, H, W)"
    refuse_if(len(shape) not in (2, 3), f"holds an array of shape {shape}; {remedy}")


def check_unnamed(shape: tuple[int, ...]) -> None:
    """Refuse unnamed axes of which the last, 1 to 4 columns, may as well be colours."""
    fault = f"holds an array of shape {shape}, whose axes would be (images, H, W)"
    refuse_if(
        colours_last(shape),
        f"{fault}, but the last may be colours; save image.mean(-1) or image[..., 0], or a "
        "stack of narrow images as TIFF",
    )


def grey(image: NDArray) -> NDArray:
    """Drop the colour axis, the last, of an image that is grey and opaque all the same."""
    alpha = image.shape[-1] in (2, 4)
    colours = image[..., :-1] if alpha else image
    coloured = (colours != colours[..., :1]).any() or (alpha and np.ptp(image[..., -1]) > 0)
    kind = "a transparent" if image.shape[-1] == 2 else "an RGB"
    refuse_if(coloured, f"holds {kind} image of shape {image.shape}; save it as greyscale")
    return colours[..., 0]
