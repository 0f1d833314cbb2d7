"""DigitalMicrograph's DM3 and DM4: RosettaSciIO reads the tags in a process of its own."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from emdn.io.arrays import unique_names
from emdn.io.child import NO_MORE_THAN, Limits, ask
from emdn.io.metadata import calibrated
from emdn.io.raw_frames import raw_source
from emdn.io.source import Source


def sources(path: Path, limits: Limits = NO_MORE_THAN) -> list[Source]:
    """Describe the images and stacks of a file in its order, without thumbnails.

    Images of complex numbers and colours come last; spectra and spectrum images are left
    out.

    Parameters
    ----------
    path : Path
        The file.
    limits : Limits
        Time and memory for its tags.
    """
    found = ask("emdn.io.dm_tags:describe", str(path.absolute()), limits=limits)
    names = unique_names([image["name"] for image in found])
    return [_source(name, path, image) for name, image in zip(names, found, strict=True)]


def _source(name: str, path: Path, image: dict[str, Any]) -> Source:
    *stack, height, width = image["shape"]
    dtype = np.dtype(image["dtype"])
    step = max(1, height * width * dtype.itemsize)
    # A damaged side would else shear the image, or show what lies behind it.
    start, end = image["offset"], image["offset"] + image["bytes"]
    offsets = range(start, start + math.prod(stack) * step, step)
    metadata = calibrated(**image["facts"])
    return raw_source(name, path, offsets, (height, width), dtype, metadata, end=end)
