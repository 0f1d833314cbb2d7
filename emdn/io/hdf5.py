"""EMD of Velox and Berkeley, HSPY and its HDF5, read by RosettaSciIO."""

from pathlib import Path

from emdn.io.rosetta import source_of
from emdn.io.source import Source

_PLUGINS = {".emd": "emd", ".hspy": "hspy", ".hdf5": "hspy"}
SUFFIXES = tuple(_PLUGINS)


def sources(path: Path) -> list[Source]:
    """Describe the first real image or stack of a file."""
    return [source_of(_PLUGINS[path.suffix.lower()], path)]
