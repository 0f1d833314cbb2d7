"""What a file tells about its micrograph besides the pixels, and the units it may use."""

import math
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

# Units of a pixel's side, each as a multiple of its kind's first, which is the one kept
# where a file uses a unit that is too large (m) or that microscopists do not use (inch).
LENGTHS = {
    "nm": 1.0,
    "pm": 1e-3,
    "A": 0.1,
    "um": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "inch": 2.54e7,
    "m": 1e9,
}
FREQUENCIES = {"1/nm": 1.0, "1/A": 10.0, "1/pm": 1e3, "1/um": 1e-3, "1/m": 1e-9}
ANGLES = {"mrad": 1.0, "urad": 1e-3, "rad": 1e3, "deg": math.radians(1) * 1e3}
_KINDS = (LENGTHS, FREQUENCIES, ANGLES)
UNITS = ("nm", "pm", "A", "um", "mm", "1/nm", "1/A", "1/um", "mrad", "urad", "deg")
"""Units of `Metadata.pixel_size`, of lengths and of diffraction patterns."""

# Least and largest side of a pixel that a microscope can mean, in the first unit of each
# kind: a tenth of a picometre to a millimetre, and ranges as wide for diffraction.
_SENSIBLE = ((1e-4, 1e6), (1e-7, 1e3), (1e-6, 1e3))
# Centimetres and inches speak of paper, 72 dpi of pixels of 353 um, unless the pixels are
# smaller than a printer's: a scanning microscope reaches 10 um at a magnification near 10.
_PRINTED = 1e4  # nm
# From ultra-low voltage scanning (10 V) to the high-voltage microscope of Osaka (3 MV).
_VOLTAGES = (0.01, 3000.0)  # kV
_DWELL_TIMES = (1e-10, 1e4)  # s

_WORDS = {
    "angstrom": "A",
    "ang": "A",
    "nanomet": "nm",
    "picomet": "pm",
    "micromet": "um",
    "micron": "um",
    "millimet": "mm",
    "centimet": "cm",
    "met": "m",
    "inch": "inch",
    "inche": "inch",
    "in": "inch",
    "u": "um",
    "degree": "deg",
    "milliradian": "mrad",
    "radian": "rad",
    **{unit: unit for unit in ("nm", "um", "pm", "mrad", "rad", "deg")},
}
_ENDING = re.compile(r"(?<=met)(er|re)$|s$")
_INVERSE = re.compile(r"^1/\(?(.+?)\)?$|^(.+?)\^?\(?-1\)?$")

Fact = str | float | int | bool


@dataclass(frozen=True)
class Metadata:
    """What a file tells about its micrograph besides the pixels.

    Parameters
    ----------
    pixel_size : float, optional
        Side of a pixel in `unit`. None when the file does not say, or when the two sides
        differ by more than 1 %, since one number would then be wrong.
    unit : str, optional
        Unit of `pixel_size`, given exactly when that is; one of `UNITS`: "nm", "um", "A"
        for ångströms, "1/nm" in a diffraction pattern. Other spellings ("µm", "micron",
        "n_m") become these, in ASCII, so that every format can hold them. Metres and
        centimetres are no units of pixels: give them in "nm".
    detector : str, optional
        Name of the detector or camera.
    voltage : float, optional
        Accelerating voltage in kV.
    dwell_time : float, optional
        Time that a scanning beam stays on a pixel, in s.
    other : dict, optional
        More that the file tells, by names such as "magnification": texts and numbers.
    """

    pixel_size: float | None = None
    unit: str | None = None
    detector: str | None = None
    voltage: float | None = None
    dwell_time: float | None = None
    other: Mapping[str, Fact] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        if (self.pixel_size is None) != (self.unit is None):
            given = f"{self.pixel_size} and {self.unit!r}"
            raise ValueError(f"pixel_size and unit must be given together, got {given}")
        for name in ("pixel_size", "voltage", "dwell_time"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.unit is not None:
            unit = known_unit(self.unit)
            if unit not in UNITS:
                known = ", ".join(UNITS)
                raise ValueError(f"unit must be one of {known}; got {self.unit!r}")
            object.__setattr__(self, "unit", unit)


def known_unit(text: str) -> str | None:
    """Return this package's one spelling of a unit, or None for what is no unit.

    >>> [known_unit(text) for text in ("µm", "[n_m]", "nm^-1", "Ångström", "pixel", "[]")]
    ['um', 'nm', '1/nm', 'A', None, None]
    """
    with suppress(UnicodeError):  # UTF-8 that was taken for Latin-1, "Âµm"
        text = text.encode("latin-1").decode()
    # ImageJ spells the micro sign as an escape of six characters.
    text = re.sub(r"\\u00B5", "u", text, flags=re.IGNORECASE)
    text = unicodedata.normalize("NFKD", text).replace("\N{MINUS SIGN}", "-")
    text = "".join(each for each in text if not unicodedata.combining(each))
    text = re.sub(r"[\s_\[\]\0]", "", text.replace("\N{GREEK SMALL LETTER MU}", "u"))
    if inverse := _INVERSE.match(text):
        unit = _length(inverse[1] or inverse[2])
        return f"1/{unit}" if f"1/{unit}" in FREQUENCIES else None
    return _length(text)


def _length(text: str) -> str | None:
    if text in LENGTHS or text in ANGLES:
        return text
    return _WORDS.get(_ENDING.sub("", _ENDING.sub("", text.lower())))


def calibrated(
    width: Any,
    height: Any,
    unit: Any = "",
    height_unit: Any = None,
    *,
    detector: Any = None,
    voltage: Any = None,
    dwell_time: Any = None,
    other: Mapping[str, Any] | None = None,
) -> Metadata:
    """Return what is sensible of what a file says; nothing in it can make this fail.

    Parameters
    ----------
    width, height : number or text
        Sides of a pixel. There is no pixel size where they differ by more than 1 %, are
        no positive numbers, or are smaller or larger than microscopes can mean.
    unit, height_unit : str
        Unit of `width`, and that of `height` where it differs. There is no pixel size where
        one is unknown ("", "pixel", "reference frame"), and none where centimetres or
        inches speak of a print, 10 um or more.
    detector : str, optional
        Name of the detector.
    voltage : number or text, optional
        Accelerating voltage in kV.
    dwell_time : number or text, optional
        Time for a pixel in s.
    other : dict, optional
        Texts, numbers and None, which is left out, by their names.
    """
    size, unit = _square(width, height, unit, unit if height_unit is None else height_unit)
    facts = {name: _fact(value) for name, value in (other or {}).items()}
    return Metadata(
        size,
        unit,
        _line(str(detector)) if detector else None,
        _number_between(voltage, *_VOLTAGES),
        _number_between(dwell_time, *_DWELL_TIMES),
        {name: value for name, value in facts.items() if value is not None},
    )


def _square(
    width: Any, height: Any, unit: Any, height_unit: Any
) -> tuple[float, str] | tuple[None, None]:
    """Return the one side of a pixel and its unit, or None twice."""
    across, down = known_unit(str(unit)), known_unit(str(height_unit))
    for kind, (least, largest) in zip(_KINDS, _SENSIBLE, strict=True):
        if across not in kind or down not in kind:
            continue
        width = _number_between(width, least / kind[across], largest / kind[across])
        height = _number_between(height, least / kind[down], largest / kind[down])
        if width is None or height is None:
            break
        size = width * kind[across]
        paper = across in ("cm", "inch") and size >= _PRINTED
        if paper or not math.isclose(size, height * kind[down], rel_tol=0.01):
            break
        return (width, across) if across in UNITS else (size, next(iter(kind)))
    return None, None


def _number_between(value: Any, least: float, largest: float) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if least <= number <= largest else None


def _fact(value: Any) -> Fact | None:
    """Return a number, or a text of one line, or None for what is neither."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _line(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _line(text: str) -> str | None:
    """Return a text in one line, of a length that an MRC's labels can hold."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())[:200] or None


def first_of(*found: Metadata) -> Metadata:
    """Return each fact from the first that has it; a size keeps its own unit."""
    sized = next((each for each in found if each.pixel_size is not None), Metadata())
    other = {name: value for each in reversed(found) for name, value in each.other.items()}

    def first(name: str) -> Any:
        values = (getattr(each, name) for each in found)
        return next((value for value in values if value is not None), None)

    rest = first("detector"), first("voltage"), first("dwell_time")
    return Metadata(sized.pixel_size, sized.unit, *rest, other)
