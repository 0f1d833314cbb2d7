"""The state of a training in files of which one is always whole.

A checkpoint is a NumPy archive of named arrays, written beside its name and then renamed.
Archives hold checksums, so damage is noticed; then the checkpoint before is used.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emdn.files import written_whole

PATTERN = "checkpoint-*.npz"
KEPT = 2  # checkpoints: the newest, and one in case that it is damaged
COUNT = "count"  # name of the number of arrays; the archive's directory has no checksum

# What reading a damaged archive may raise; RuntimeError where it seems to be encrypted.
DAMAGE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile)


def save_state(folder: Path, step: int, state: dict[str, NDArray]) -> Path:
    """Write a checkpoint, whole or not at all, and drop all but the newest two.

    Parameters
    ----------
    folder : Path
        Folder of the training.
    step : int
        Number of steps that are done.
    state : dict of str to array
        Numeric arrays by name.

    Raises
    ------
    OSError
        If it can't be written; those before it stay.
    """
    path = folder / f"checkpoint-{step:09}.npz"
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{COUNT: np.array(len(state))}, **state)
    for old in sorted(folder.glob(PATTERN))[:-KEPT]:
        old.unlink()
    return path


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint, damaged or not."""
    return any(folder.glob(PATTERN))


def newest_state(folder: Path) -> tuple[int, dict[str, NDArray]] | None:
    """Read the newest checkpoint that is whole: the steps done and the state.

    Parameters
    ----------
    folder : Path
        Folder of the training.

    Returns
    -------
    (int, dict of str to array) or None
        None where there has been no checkpoint yet.

    Raises
    ------
    ValueError
        If there are checkpoints, but all of them are damaged.
    """
    paths = sorted(folder.glob(PATTERN), reverse=True)
    for path in paths:
        try:
            return int(path.stem.split("-")[1]), _read(path)
        except DAMAGE:
            continue
    if paths:
        raise ValueError(
            f"{folder}: no checkpoint can be read, not even {paths[0].name}; "
            "train into another folder"
        )
    return None


def _read(path: Path) -> dict[str, NDArray]:
    # NumPy leaves a file open that it opened itself and that is no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        state = dict(archive)
    if state.pop(COUNT) != len(state):
        raise ValueError(f"{path}: lacks arrays")
    return state
