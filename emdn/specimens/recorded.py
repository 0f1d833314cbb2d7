"""Micrographs of real specimens, which ship with their licences and attributions.

>>> names()
('axons', 'carbon', 'gold', 'myelin', 'nanoparticles', 'superalloy')
>>> image, metadata = load("gold")
>>> image.shape, metadata.pixel_size, metadata.other["licence"]
((512, 512), 0.543, 'MIT')
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from emdn.io import Metadata, MicrographError, read_micrograph

FOLDER = Path(__file__).parent / "real"
"""Images, `specimens.yml` with what is known of each, README.md and SHA256SUMS.

:meta hide-value:
"""

TOLD = (
    "seen",
    "modality",
    "exposure",
    "licence",
    "attribution",
    "source",
    "split",
    "trained",
    "note",
)
"""What `Metadata.other` holds of each micrograph."""


@cache
def table() -> dict[str, dict[str, Any]]:
    """Return what `specimens.yml` says of each micrograph, by its name."""
    return yaml.safe_load((FOLDER / "specimens.yml").read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    """Return the names of the micrographs that ship, in the order of the alphabet."""
    return tuple(sorted(table()))


def load(name: str) -> tuple[NDArray[np.float32], Metadata]:
    """Return a micrograph of a real specimen.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    image : (H, W) float32 array
        Grey levels, 0 to 255, as they were recorded or published; not counts.
    metadata : Metadata
        Pixel size and voltage where they are known. `metadata.other` holds texts: what is
        ``seen``, ``modality``, ``exposure`` ("exposed" for images with so little noise that
        they may stand for the truth, "noisy" for others), ``licence``, ``attribution``,
        ``source``, ``split`` of the source in the project's corpus, whether it was
        ``trained`` on, and a ``note`` on what was done to it.

    Raises
    ------
    MicrographError
        If no micrograph has that name.
    """
    if name not in table():
        known = ", ".join(names())
        raise MicrographError(f"no micrograph is called {name!r}; there are {known}")
    facts = table()[name]
    pixels, _ = read_micrograph(FOLDER / f"{name}.png")
    metadata = Metadata(
        pixel_size=facts.get("pixel_size"),
        unit=facts.get("unit"),
        voltage=facts.get("voltage"),
        other={key: facts[key] for key in TOLD},
    )
    return pixels.astype(np.float32), metadata
