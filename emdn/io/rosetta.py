"""DigitalMicrograph's DM3 and DM4: RosettaSciIO reads the tags in a process of its own."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from emdn.io.arrays import unique_names
from emdn.io.child import NO_MORE_THAN, Limits, ask
from emdn.io.metadata import calibrated
from emdn.io.raw_frames import raw_source
from emdn.io.source import CUT_SHORT, Source, refuse_if


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
    size = height * width * dtype.itemsize
    count = math.prod(stack)
    # A damaged side would else shear the image, or show what lies behind it.
    refuse_if(count * size > image["bytes"], CUT_SHORT)
    refuse_if(count * size == 0, f"holds no pixels, shape {tuple(image['shape'])}")
    offsets = [image["offset"] + n * size for n in range(count)]
    metadata = calibrated(**image["facts"])
    return raw_source(name, path, offsets, (height, width), dtype, metadata)
