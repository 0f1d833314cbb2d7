"""Which axes of a stored array are an image's rows and columns, and what it is called."""

from collections.abc import Sequence
from dataclasses import dataclass

from emdn.io.source import check_unnamed, refuse_if

# Units of a spectrum's axis, and what its name begins with, in lower case.
_SPECTRAL_UNITS = {"ev", "kev"}
_SPECTRAL_NAMES = ("energy", "x-ray energy", "eels", "wavelength")


@dataclass(frozen=True)
class Axis:
    """One axis of a stored array.

    Parameters
    ----------
    size : int
        Number of elements along it.
    name, unit : str
        As the file spells them; "" where it does not.
    scale : float, optional
        Distance of neighbours in `unit`.
    navigate : bool, optional
        Whether it leads from image to image; None where the format does not tell.
    """

    size: int
    name: str = ""
    unit: str = ""
    scale: float | None = None
    navigate: bool | None = None

    @property
    def key(self) -> str:
        """Its name for comparison."""
        return self.name.strip().lower()

    @property
    def spectral(self) -> bool:
        """Whether neighbours along it differ in energy or wavelength."""
        # HyperSpy writes "[e_V]".
        unit = self.unit.strip(" []").replace("_", "").lower()
        named = self.key == "e" or self.key.startswith(_SPECTRAL_NAMES)
        return unit in _SPECTRAL_UNITS or named


def image_order(axes: Sequence[Axis]) -> tuple[int, ...]:
    """Return which axes are to become (H, W) or (N, H, W), in that order.

    Axes to navigate come first, then the rest as stored, but y before x where the file
    names them so, in capitals or not. Axes of one element are dropped.

    Raises
    ------
    MicrographError
        If the array is no image or stack: a spectrum image, or one of more axes.
    """
    sizes = tuple(axis.size for axis in axes)
    kept = list(range(len(axes)))
    for index, axis in enumerate(axes):
        optional = axis.navigate is not False and axis.key not in ("y", "x")
        if len(kept) > 2 and axis.size == 1 and optional:
            kept.remove(index)
    signal = [index for index in kept if not axes[index].navigate]
    spectra = len(signal) < 2 or any(axes[index].spectral for index in signal)
    fault = f"holds no image, but data of shape {sizes}"
    refuse_if(spectra, f"{fault}; export an image, such as the sum of a spectrum image")
    refuse_if(len(kept) > 3, f"{fault}; export an image (H, W) or a stack (N, H, W)")
    names = [axes[index].key for index in signal]
    if names.count("y") == names.count("x") == 1:
        image = [signal[names.index("y")], signal[names.index("x")]]
    else:
        image = signal[-2:]
        if len(signal) == 3:
            check_unnamed(tuple(sizes[index] for index in signal))
    frames = [index for index in kept if index not in image and sizes[index] != 1]
    return (*frames, *image)


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names that differ: "HAADF", "HAADF 2"; "image" for what has none.

    >>> unique_names(["BF", "", "BF", "BF 2"])
    ['BF', 'image', 'BF 3', 'BF 2']
    """
    result: list[str] = []
    for name in names:
        first = unique = name or "image"
        number = 1
        while unique in result or (number > 1 and unique in names):
            number += 1
            unique = f"{first} {number}"
        result.append(unique)
    return result
