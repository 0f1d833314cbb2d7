"""Rows of scores in and out of files."""

import csv
import json
import lzma
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from emdn.metrics import psnr_of_mse

RESULTS = Path(__file__).parent / "results"
"""Folder of the published results, which the package brings along."""


class Row(NamedTuple):
    """Scores of one method on one instance.

    Parameters
    ----------
    dose_range, instance, method
        What was scored.
    file, source, modality
        Of the micrograph.
    scale : float
        Counts expected at the brightest pixel.
    dose : float
        Mean counts per pixel.
    mse, ssim : float
        Of the result clipped to [0, 1], and with a data range of 1.
    mse_paper, ssim_paper : float
        As in the paper: only the network's result is clipped, the data range of SSIM is
        that of the result, and errors above 0.012 count as 0.012.
    seconds : float
        Time that the method took.
    """

    dose_range: str
    instance: int
    method: str
    file: str
    source: str
    modality: str
    scale: float
    dose: float
    mse: float
    ssim: float
    mse_paper: float
    ssim_paper: float
    seconds: float

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB; no column of the file, for `mse` tells it."""
        return psnr_of_mse(self.mse, data_range=1)


def read_rows(*paths: str | os.PathLike[str]) -> list[Row]:
    """Read the rows of a benchmark, whose methods may be in several files.

    Parameters
    ----------
    *paths : path
        CSV files of the same instances, as they are or packed by xz (``.csv.xz``).

    Returns
    -------
    list of Row
        By dose range and instance; within them, in the order of files.

    Raises
    ------
    ValueError
        If the files are of different instances, or a method is in two of them.
    """
    parts = [list(_read(Path(path))) for path in paths]
    facts = [{row[:2]: (row.file, row.scale) for row in rows} for rows in parts]
    for path, own in zip(paths, facts, strict=True):
        if own != facts[0]:
            raise ValueError(f"{path}: is of other instances than {paths[0]}")
    files = Counter(name for rows in parts for name in {row.method for row in rows})
    if repeated := [name for name, times in files.items() if times > 1]:
        raise ValueError(f"{', '.join(repeated)}: in more than one of the files")
    order = {key: place for place, key in enumerate(facts[0])}
    return sorted((row for rows in parts for row in rows), key=lambda row: order[row[:2]])


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read how a benchmark was made, from the JSON file beside its rows.

    Parameters
    ----------
    path : path
        The CSV file of a benchmark, packed or not.

    Returns
    -------
    dict
        Of config, methods, versions, python, and weights, which are SHA-256 sums.
    """
    beside = about_path(path)
    if not beside.is_file():
        raise ValueError(f"{beside}: does not exist; emdn benchmark writes it")
    return json.loads(beside.read_text())


def about_path(path: str | os.PathLike[str]) -> Path:
    """Return where the JSON file of a benchmark is.

    Examples
    --------
    >>> about_path("results/test.csv.xz").name
    'test.json'
    """
    return Path(os.fspath(path).removesuffix(".xz")).with_suffix(".json")


def _read(path: Path) -> Iterator[Row]:
    texts = ("dose_range", "method", "file", "source", "modality")
    kinds: dict[str, Any] = {**dict.fromkeys(texts, str), "instance": int}
    open_it = lzma.open if path.suffix == ".xz" else open
    with open_it(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            yield Row(**{name: kinds.get(name, float)(text) for name, text in row.items()})
