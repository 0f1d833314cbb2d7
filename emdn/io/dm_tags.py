"""What the tags of a DigitalMicrograph file say of its images: runs in the child only.

RosettaSciIO's parser loops for hours over some hostile tags, and takes 2 s to import.
"""

from pathlib import Path
from typing import Any

import numpy as np
from rsciio.digitalmicrograph._api import DigitalMicrographReader, ImageObject

from emdn.io.arrays import Axis, image_order
from emdn.io.source import MicrographError, refuse_if


def describe(path: str) -> list[dict[str, Any]]:
    """Return the images of a file without its thumbnails, those of real numbers first.

    Returns
    -------
    images : list of dict
        name, shape, dtype, offset of the first pixel in bytes; facts: arguments of
        `calibrated`.
    """
    with Path(path).open("rb") as file:
        reader = DigitalMicrographReader(file)
        reader.parse_file()
        tags = reader.get_image_dictionaries() or []
        found, faults = [], []
        for image in tags:
            try:
                found.append(_description(image, ImageObject(image, file)))
            except MicrographError as fault:
                faults.append(fault)
    if not found:
        fault = "holds no image, or only a thumbnail; export one as TIFF"
        raise faults[0] if faults else MicrographError(fault)
    return sorted(found, key=lambda image: np.dtype(image["dtype"]).kind not in "iuf")


def _description(tags: dict[str, Any], image: Any) -> dict[str, Any]:
    sizes = [int(size) for size in image.shape]
    units = [_text(unit) for unit in image.units]
    told = zip(sizes, units, image.scales, image.navigate, strict=True)
    axes = [Axis(n, "", unit, float(step), bool(nav)) for n, unit, step, nav in told]
    spectra = image.to_spectrum or any(axis.spectral for axis in axes)
    fault = f"holds no image, but data of shape {tuple(sizes)}"
    refuse_if(spectra, f"{fault}; export an image, such as the sum of a spectrum image")
    order = image_order(axes)
    pixels = tags["ImageData"]["Data"]
    dtype = np.dtype(image.dtype)
    if pixels["endian"] == "big":
        dtype = dtype.newbyteorder(">")
    shape = [sizes[index] for index in order]
    y, x = axes[order[-2]], axes[order[-1]]
    size = {"width": x.scale, "height": y.scale, "unit": x.unit, "height_unit": y.unit}
    return {
        "name": _text(tags.get("Name")),
        "shape": shape,
        "dtype": (np.dtype((np.void, dtype.itemsize)) if dtype.names else dtype).str,
        "bytes": int(pixels["size_bytes"]),
        "offset": int(pixels["offset"]),
        "facts": {**size, **_facts(tags.get("ImageTags", {}))},
    }


def _facts(tags: dict[str, Any]) -> dict[str, Any]:
    detector = (
        _in(tags, "DataBar", "Signal Name")
        or _in(tags, "Acquisition", "Device", "Name")
        or _in(tags, "DataBar", "Device Name")
    )
    voltage = _number(_in(tags, "Microscope Info", "Voltage"))
    dwell = _number(_in(tags, "DigiScan", "Sample Time"))
    return {
        "detector": _text(detector),
        "voltage": voltage and voltage / 1e3,  # V
        "dwell_time": dwell and dwell / 1e6,  # us
        "other": {
            "instrument": _text(_in(tags, "Session Info", "Microscope")),
            "magnification": _number(
                _in(tags, "Microscope Info", "Indicated Magnification")
            ),
            "exposure_time": _number(_in(tags, "DataBar", "Exposure Time (s)")),
        },
    }


def _in(told: Any, *keys: str) -> Any:
    for key in keys:
        told = told.get(key) if isinstance(told, dict) else None
    return told


def _text(value: Any) -> str:
    # An empty text is an empty list to the parser.
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
