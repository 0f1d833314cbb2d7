"""Files of microscopes as layers that know how large a pixel is."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emdn.io import Metadata, Source, is_readable, list_images

LayerData = tuple[Any, dict[str, Any], str]  # as napari's readers return it

UNITS = {"A": "angstrom"}
"""Units that pint, which napari uses, spells in another way; its "A" is the ampere."""


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return the reader of a file, or None if it is no single micrograph's file.

    Parameters
    ----------
    path : str or list of str
        File, or several that the user wants to see as one stack.
    """
    one = isinstance(path, str) and is_readable(path) and Path(path).is_file()
    return read_layers if one else None


def read_layers(path: str) -> list[LayerData]:
    """Read each image and each stack of a file as a layer.

    Parameters
    ----------
    path : str
        File whose suffix is one of `emdn.io.READABLE`.

    Returns
    -------
    list of tuple
        Array of shape (H, W) or (N, H, W), what napari shall know of it, and "image".

    Raises
    ------
    emdn.io.MicrographError
        If the file is damaged, or holds no image.
    """
    sources = list_images(path)
    names = [Path(path).stem] * len(sources)
    if len(sources) > 1:
        names = [
            f"{name} {source.name}" for name, source in zip(names, sources, strict=True)
        ]
    return [_layer(name, each) for name, each in zip(names, sources, strict=True)]


def _layer(name: str, source: Source) -> LayerData:
    metadata = {"emdn": asdict(source.metadata)}
    settings = {
        "name": name,
        "metadata": metadata,
        **_calibration(source.metadata, source.shape),
    }
    return source.read(), settings, "image"


def _calibration(metadata: Metadata, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return scale and units of a layer; frames of a stack are counted."""
    if metadata.pixel_size is None or metadata.unit is None:
        return {}
    frames, unit = len(shape) - 2, UNITS.get(metadata.unit, metadata.unit)
    return {
        "scale": (1.0,) * frames + (metadata.pixel_size,) * 2,
        "units": ("pixel",) * frames + (unit,) * 2,
    }
