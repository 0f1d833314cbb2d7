"""What the makers of microscopes and cameras write into a TIFF, or beside an image.

RosettaSciIO's TIFF reader knows most of these tags, and tifffile parses some; what is known
of TESCAN, JEOL and Hitachi comes from their files. Each function takes a page, or a path,
and returns what it finds, which is nothing in files of other makers.
"""

import math
import re
import stat
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from emdn.io.metadata import Metadata, calibrated, first_of

_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_VOLTAGES = {"kv": 1.0, "v": 1e-3, "volt": 1e-3}  # kV
# What damage makes tifffile, which reads a tag when it is asked for, and a parser raise.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError)
_DAMAGE += (struct.error,)
_COMPANION_LIMIT = 2**20  # bytes; those of microscopes have a few thousand


def vendor_metadata(page: tifffile.TiffPage) -> Metadata:
    """Return what the maker's own tags in a page say of it; damaged ones say nothing."""
    found = []
    for reader in (_fei, _zeiss, _tescan, _gatan, _olympus, _tvips, _jeol_tem):
        with suppress(*_DAMAGE):
            found.append(reader(page))
    return first_of(*found)


def _dictionary(page: tifffile.TiffPage, *codes: int) -> dict[str, Any]:
    values = (page.tags.valueof(code) for code in codes)
    return next((value for value in values if isinstance(value, dict)), {})


def _number(value: Any, factor: float = 1.0) -> float | None:
    try:
        return float(str(value).replace(",", ".")) * factor
    except ValueError:
        return None


def _ratio(length: Any, pixels: Any) -> float | None:
    length, pixels = _number(length), _number(pixels)
    return length / pixels if length and pixels else None


def _fei(page: tifffile.TiffPage) -> Metadata:
    """Thermo Fisher, once FEI: text in sections, in SI units."""
    sections = {
        name: section
        for name, section in _dictionary(page, 34682, 34680).items()
        if isinstance(section, dict)
    }

    def find(section: str, name: str) -> Any:
        return sections.get(section, {}).get(name)

    width, height = find("Scan", "PixelWidth"), find("Scan", "PixelHeight")
    if "IRBeam" in sections and width is None:  # the navigation camera
        width = _ratio(find("IRBeam", "HFW"), find("Image", "ResolutionX"))
        height = _ratio(find("IRBeam", "VFW"), find("Image", "ResolutionY"))
    high_tension = find("Beam", "HV") or find("EBeam", "HV") or find("IBeam", "HV")
    return calibrated(
        width,
        height,
        "m",
        detector=find("Detectors", "Name"),
        voltage=_number(high_tension, 1e-3),
        dwell_time=find("Scan", "Dwelltime"),
        other={
            "microscope": find("System", "SystemType"),
            "beam_current_A": _number(find("EBeam", "BeamCurrent")),
            "working_distance_m": _number(find("Stage", "WorkingDistance")),
        },
    )


def _zeiss(page: tifffile.TiffPage) -> Metadata:
    """SmartSEM: (name, value, unit) by key, and numbers without a name in SI units."""
    tag = _dictionary(page, 34118)

    def find(key: str) -> tuple[Any, str]:
        _, value, unit, *_ = (*tag.get(key, ()), None, None, "", "")[:4]
        value, _, more = str(value or "").partition(" ")
        return value, str(unit or more).strip()

    size, unit = find("ap_image_pixel_size")
    size, unnamed = _number(size), tag.get("", ())
    on_display, display_unit = find("ap_pixel_size")
    if len(unnamed) > 3:
        on_display, display_unit = unnamed[3], "m"
    # The fourth number without a name, like the size of this name, is that of a pixel on a
    # display of 1024. Older versions tell no other, and none tells as many digits.
    on_display = _number(on_display, 1024 / page.imagewidth)
    exact = calibrated(on_display, on_display, display_unit)
    rounded = calibrated(size, size, unit)
    sizes = (exact, rounded) if _agree(exact, rounded) else (rounded, exact)
    kilovolts, dwell = find("ap_actualkv"), find("dp_dwell_time")
    detector, part = find("dp_detector_type")
    facts = calibrated(
        None,
        None,
        detector=f"{detector} {part}".strip(),
        voltage=_number(kilovolts[0], _VOLTAGES.get(kilovolts[1].lower(), 1.0)),
        dwell_time=_number(dwell[0], _TIMES.get(dwell[1].lower(), math.nan)),
        other={"microscope": find("sv_serial_number")[0] or None},
    )
    return first_of(*sizes, facts)


def _agree(one: Metadata, other: Metadata) -> bool:
    """Tell whether two sizes of a pixel differ by no more than rounding."""
    across, down = (each.pixel_size or math.nan for each in (one, other))
    same = calibrated(across, down, one.unit or "", other.unit or "")
    return same.pixel_size is not None


def _tescan(page: tifffile.TiffPage) -> Metadata:
    """TESCAN: the lines of an INI file, in SI units."""
    tag = page.tags.valueof(50431)
    text = bytes(tag).decode("latin-1") if isinstance(tag, bytes | tuple) else str(tag)
    return _tescan_lines(text)


def _tescan_lines(text: str) -> Metadata:
    lines = dict(re.findall(r"^\s*([\w]+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    if "PixelSizeX" not in lines:
        return Metadata()
    return calibrated(
        lines["PixelSizeX"],
        lines.get("PixelSizeY", lines["PixelSizeX"]),
        "m",
        detector=lines.get("Detector") or lines.get("Detector0"),
        voltage=_number(lines.get("HV"), 1e-3),
        dwell_time=lines.get("DwellTime"),
        other={"microscope": lines.get("Device") or lines.get("DeviceModel")},
    )


def _gatan(page: tifffile.TiffPage) -> Metadata:
    """DigitalMicrograph (GMS): units in 65003 and 65004, scales in 65009 and 65010."""
    across, down = page.tags.valueof(65003), page.tags.valueof(65004)
    width, height = page.tags.valueof(65009), page.tags.valueof(65010)
    return calibrated(width, height, across, down)


def _olympus(page: tifffile.TiffPage) -> Metadata:
    """Soft Imaging System, analySIS and iTEM of Olympus."""
    tag = _dictionary(page, 33560, 33471)
    return calibrated(
        tag.get("pixelsizex"),
        tag.get("pixelsizey"),
        "m",
        detector=tag.get("cameraname"),
        other={"magnification": tag.get("magnification")},
    )


def _tvips(page: tifffile.TiffPage) -> Metadata:
    """EM-MENU of TVIPS; sides in nm, and none that is known in diffraction, mode 3."""
    tag = _dictionary(page, 37706)
    unit = "" if tag.get("TemMode") == 3 else "nm"
    return calibrated(
        tag.get("PixelSizeX"),
        tag.get("PixelSizeY"),
        unit,
        detector=tag.get("CameraType"),
        voltage=_number(tag.get("TemHighTension"), 1e-3),
        other={
            "magnification": tag.get("TemMagnification"),
            "exposure_time_s": _number(tag.get("ExposureTime"), 1e-3),
        },
    )


def _jeol_tem(page: tifffile.TiffPage) -> Metadata:
    """JEOL's SightX: XML, and a resolution on the camera, to be divided by the optics."""
    if page.tags.valueof(271) != "JEOL Ltd.":
        return Metadata()
    text = "".join(line.strip(" \r\t\x01\0") for line in page.description.split("\n"))
    root = ElementTree.fromstring(text)

    def find(path: str) -> str:
        return root.findtext(f".//{path}") or ""

    volts, mode = _number(find("ElectronGun/AccelerationVoltage")), find("Eos/EosMode")
    selected = _number(find("ImageFormingSystem/SelectorValue"))
    metre = {2: 0.0254}.get(page.resolutionunit, 0.01)
    pixels = [metre / each if each else math.nan for each in page.resolution]
    other = {"mode": find("ImageFormingSystem/ModeString"), "selected": selected}
    facts = {"voltage": _number(volts, 1e-3), "other": other}
    if mode != "eosTEM" or not selected or other["mode"] not in ("MAG", "DIFF"):
        return calibrated(None, None, **facts)
    if other["mode"] == "MAG":
        return calibrated(pixels[0] / selected, pixels[1] / selected, "m", **facts)
    unit = find("ImageFormingSystem/SelectorUnitString")
    camera_length = selected * {"mm": 1e-3, "cm": 1e-2}.get(unit, 1.0)
    spread = camera_length * _wavelength(volts or math.nan)
    return calibrated(pixels[0] / spread, pixels[1] / spread, "1/m", **facts)


def _wavelength(volts: float) -> float:
    """Return the wavelength of electrons in m, by de Broglie and Einstein."""
    mass, charge, light = 9.1093837015e-31, 1.602176634e-19, 299792458.0  # kg, C, m/s
    planck = 6.62607015e-34  # J s
    energy = charge * volts
    return planck / math.sqrt(2 * mass * energy * (1 + energy / (2 * mass * light**2)))


def companion_metadata(path: Path) -> Metadata:
    """Return what a scanning microscope wrote into a text file beside the image.

    Hitachi's and JEOL's have the image's name and the suffix .txt, TESCAN's .hdr, or
    -tif.hdr where the image is a TIFF. Only a regular file in the same folder is read.
    """
    for name, reader in (
        (f"{path.stem}.txt", _hitachi_lines),
        (f"{path.stem}.txt", _jeol_lines),
        (f"{path.stem}.hdr", _tescan_lines),
        (f"{path.stem}-{path.suffix[1:]}.hdr", _tescan_lines),
    ):
        text = _text_beside(path, name) or _text_beside(path, name.upper())
        if text and (metadata := reader(text)) != Metadata():
            return metadata
    return Metadata()


def _text_beside(path: Path, name: str) -> str:
    beside = path.with_name(name)
    try:
        about = beside.lstat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _COMPANION_LIMIT:
            return ""
        contents = beside.read_bytes()
    except OSError:
        return ""
    wide = contents.startswith((b"\xff\xfe", b"\xfe\xff"))
    return contents.decode("utf-16" if wide else "latin-1", errors="replace")


def _hitachi_lines(text: str) -> Metadata:
    if not re.search(r"^\W*\[(Sem|Tem)ImageFile\]", text):
        return Metadata()
    lines: Mapping[str, str] = dict(re.findall(r"^(\w+)=(.*?)\s*$", text, re.MULTILINE))
    voltage, _, unit = lines.get("AcceleratingVoltage", "").partition(" ")
    return calibrated(
        lines.get("PixelSize"),
        lines.get("PixelSize"),
        "nm",
        detector=lines.get("SignalName"),
        voltage=_number(voltage, _VOLTAGES.get(unit.lower(), 1e-3)),
        other={
            "microscope": lines.get("InstructName"),
            "magnification": _number(lines.get("Magnification")),
        },
    )


def _jeol_lines(text: str) -> Metadata:
    lines: Mapping[str, str] = dict(
        re.findall(r"^\$+(\w+)[ \t]+(.*?)\s*$", text, re.MULTILINE)
    )
    marker = re.match(r"([\d.]+)\s*(\S+)", lines.get("SM_MICRON_MARKER", ""))
    if not any(name.startswith(("CM_", "SM_")) for name in lines):
        return Metadata()
    size = _ratio(marker and marker[1], lines.get("SM_MICRON_BAR"))
    return calibrated(
        size,
        size,
        marker[2] if marker else "",
        detector=lines.get("CM_DETECTOR_NAME") or lines.get("CM_SIGNAL_NAME"),
        voltage=_number(lines.get("CM_ACCEL_VOLT")),
        other={
            "microscope": lines.get("CM_INSTRUMENT"),
            "magnification": _number(lines.get("CM_MAG")),
        },
    )
