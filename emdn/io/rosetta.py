"""DigitalMicrograph's DM3 and DM4 and TIA's SER, read by RosettaSciIO."""

import struct
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from emdn.io.metadata import calibrated
from emdn.io.source import CUT_SHORT, Source, check_unnamed, checked, refuse_if

_PLUGINS = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".ser": "tia"}
SUFFIXES = tuple(_PLUGINS)


def sources(path: Path) -> list[Source]:
    """Describe the first real image or stack of a file."""
    source = source_of(_PLUGINS[path.suffix.lower()], path)
    if path.suffix.lower() == ".ser":
        _check_offsets(path)
    return [source]


def source_of(plugin: str, path: Path) -> Source:
    """Read one of the formats whose axes have names, mostly, and a scale each."""
    signal = _signal(plugin, path)
    image, axes = signal["data"], list(signal["axes"])
    names = [axis.get("name") for axis in axes]
    if "y" in names and "x" in names:
        # EMD files hold their axes in either order.
        y, x = names.index("y"), names.index("x")
        image, axes = np.moveaxis(image, (y, x), (-2, -1)), [axes[y], axes[x]]
    else:
        check_unnamed(image.shape)
    image = checked(image)
    height, width = (axis.get("scale") for axis in axes[-2:])
    velox = signal.get("original_metadata", {}).get("DetectorMetadata", {})
    detector = velox.get("DetectorName")
    unit = axes[-1].get("units")
    metadata = calibrated(width, height, unit, detector=detector)
    frames = image if image.ndim == 3 else image[np.newaxis]
    return Source(
        detector or "image",
        image.shape,
        image.dtype,
        metadata,
        lambda: image,
        lambda: iter(frames),
    )


def _signal(plugin: str, path: Path) -> dict[str, Any]:
    """Return data and axes of the first real image or stack, else of the first at all."""
    reader = import_module(f"rsciio.{plugin}").file_reader
    # Else the spectra in a Velox file would be unpacked as well, which takes gigabytes.
    options = {"select_type": "images"} if plugin == "emd" else {}
    signals = [each for each in reader(str(path), **options) if "data" in each]
    # RosettaSciIO marks the axes of a spectrum image's positions as ones to navigate.
    flat = [each for each in signals if each["data"].ndim in (2, 3)]
    images = [
        each for each in flat if not any(a.get("navigate") for a in each["axes"][-2:])
    ]
    found = ", ".join(str(each["data"].shape) for each in signals) or "nothing"
    refuse_if(not images, f"holds no image, but data of shape {found}; export an image")
    return next((each for each in images if each["data"].dtype.kind in "iuf"), images[0])


def _check_offsets(path: Path) -> None:
    # RosettaSciIO reads one offset more than there are images; for each that is missing it
    # returns an image of what happens to be in memory.
    with path.open("rb") as file:
        version, images, table = struct.unpack("<4xH12xIQ", file.read(30))
    width, table = (8, table) if version > 528 else (4, table % 2**32)
    end = table + width * (images + 1)
    refuse_if(end > path.stat().st_size, CUT_SHORT)
