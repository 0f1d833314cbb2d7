"""Rows of scores in and out of files, and what can be picked from them.

Rows are a pandas data frame with the columns of `Row`, sorted by dose range and instance.
"""

import json
import lzma
import os
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd

from emdn.benchmark.methods import family_of

RESULTS = Path(__file__).parent / "results"
"""Folder of the published results, which the package brings along.

:meta hide-value:
"""

LARGEST_MSE = 0.012  # of a score in the paper's convention; its script counts more as this
KEY = ["dose_range", "instance"]
TEXTS = ("dose_range", "method", "file", "source", "modality")
SCORES = ("mse", "ssim", "mse_paper", "ssim_paper")
SAME = ["file", "source", "modality", "scale", "dose"]  # in all rows of an instance
SLACK = 0.05  # relative; of a clean image a few pixels may lie a little above 1


class Row(NamedTuple):
    """Scores of one method on one instance.

    Parameters
    ----------
    dose_range : {"low", "ordinary"}
        Distribution that the scale was drawn from.
    instance : int
        Number of the instance, from 0 in each dose range.
    method : str
        Identifier, see `emdn.benchmark.method.Method`.
    file, source, modality : str
        Micrograph, as its manifest describes it.
    scale : float
        Counts expected at the brightest pixel.
    dose : float
        Mean counts per pixel.
    mse, ssim : float
        Scores of the result clipped to [0, 1], SSIM with a data range of 1.
    mse_paper, ssim_paper : float
        Scores as in the paper: only the network's result is clipped, the data range of SSIM
        is that of the result, and errors above `LARGEST_MSE` count as that.
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


def read_rows(*paths: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the rows of a benchmark, whose methods may be in several files.

    Parameters
    ----------
    *paths : path
        CSV files of the same instances, as they are or packed by xz (``.csv.xz``).

    Returns
    -------
    DataFrame
        Columns of `Row`, by dose range and instance; within them, in the order of files.

    Raises
    ------
    ValueError
        If a file is damaged, the files are of different instances, or a method is in two
        of them.
    """
    parts = [parse_rows(Path(path), os.fspath(path)) for path in paths]
    instances = [part.drop_duplicates(KEY)[[*KEY, *SAME]] for part in parts]
    for path, own in zip(paths, instances, strict=True):
        if not np.array_equal(own.to_numpy(), instances[0].to_numpy()):
            raise ValueError(f"{path}: is of other instances than {paths[0]}")
    methods = pd.Series([name for part in parts for name in part["method"].unique()])
    if methods.duplicated().any():
        repeated = ", ".join(methods[methods.duplicated()].unique())
        raise ValueError(f"{repeated}: in more than one of the files")
    rows = pd.concat(parts, ignore_index=True)
    place = {name: number for number, name in enumerate(rows["dose_range"].unique())}
    order = rows.assign(dose_range=rows["dose_range"].map(place)).sort_values(
        KEY, kind="stable"
    )
    return rows.loc[order.index].reset_index(drop=True)


def parse_rows(source: Path | IO[bytes], name: str) -> pd.DataFrame:
    """Parse the rows of one file, and refuse those that a benchmark cannot have written.

    Parameters
    ----------
    source : path or binary file
        CSV file, as it is or packed by xz.
    name : str
        Name of the file in messages.
    """
    types = {
        column: str if column in TEXTS else int if column == "instance" else float
        for column in Row._fields
    }
    try:
        rows = pd.read_csv(
            source,
            dtype=types,
            keep_default_na=False,
            na_values={score: ["nan"] for score in SCORES},
        )
    except (ValueError, lzma.LZMAError, EOFError) as error:
        fault = " ".join(str(error).split())
        raise ValueError(f"{name}: is no file of scores, or damaged ({fault})") from error
    if list(rows.columns) != list(Row._fields):
        raise ValueError(f"{name}: is no file of scores, whose first line names others")
    if fault := _fault(rows):
        raise ValueError(f"{name}, {fault}; restore the file, or score into another")
    return rows


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read how a benchmark was made, from the JSON file beside its rows.

    Parameters
    ----------
    path : path
        CSV file of a benchmark, packed or not.

    Returns
    -------
    dict
        Entries config, methods, versions, python, and weights, which are SHA-256 sums.
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


def of_stem(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of STEM images; serial-section TEM is spelled ssTEM and is none."""
    return rows[rows["modality"].str.contains(r"\bSTEM\b")]


def telling_instances(
    rows: pd.DataFrame,
    dose_range: str,
    method: str,
    *,
    rivals: Collection[str] | None = None,
) -> dict[str, int]:
    """Return the numbers of the instances on which a method does best, medium and worst.

    It is compared with whichever rival does best on the same instance, since an MSE by
    itself says more about the instance's contrast and dose than about the method.

    Parameters
    ----------
    rows : DataFrame
        Rows of a benchmark.
    dose_range : str
        Dose range to choose instances from.
    method : str
        Method that was scored.
    rivals : collection of str, optional
        Methods to compare it with, by default all of other families; ``["unfiltered"]``
        compares with the noisy image.

    Returns
    -------
    dict of str to int
        Numbers of "best", "median" and "worst". Instances without a finite score are left
        out.
    """
    if rivals is None:
        others = rows["method"].unique()
        rivals = [name for name in others if family_of(name) != family_of(method)]
    own_range = rows[(rows["dose_range"] == dose_range) & np.isfinite(rows["mse"])]
    errors = own_range.pivot(index="instance", columns="method", values="mse")
    errors = errors.reindex(columns=[method, *rivals])
    best_rival = errors[[*rivals]].min(axis=1).clip(lower=np.finfo(float).tiny)
    ratios = (errors[method] / best_rival).dropna().sort_values(kind="stable")
    if ratios.empty:
        raise ValueError(
            f"no instance of the dose range {dose_range!r} has scores of both "
            f"{method!r} and {', '.join(rivals) or 'another family'}"
        )
    places = {"best": 0, "median": (len(ratios) - 1) // 2, "worst": -1}
    return {rank: int(ratios.index[place]) for rank, place in places.items()}


def _fault(rows: pd.DataFrame) -> str:
    """Return which line of a file cannot be as it was written, and why, or nothing."""
    if rows.empty:
        return ""
    first = (rows[KEY] == rows[KEY].iloc[0]).all(axis=1)
    methods = rows["method"][first].to_numpy()
    position = np.arange(len(rows))
    number = rows.groupby("dose_range", sort=False).cumcount() // len(methods)
    instance = rows[SAME].groupby(position // len(methods))
    sizes = rows["dose_range"].value_counts(sort=False)
    changes = (rows["dose_range"] != rows["dose_range"].shift()).cumsum()
    capped = rows["mse"].clip(upper=LARGEST_MSE)
    scored = rows[[*SCORES]].notna()
    faults = {
        "is out of its turn": (
            (rows["method"] != methods[position % len(methods)])
            | (rows["instance"] != number)
            | rows.duplicated([*KEY, "method"])
            | (changes > len(sizes))
        ),
        "is of another micrograph, scale or dose than its instance": (
            (rows[SAME] != instance.transform("first")).any(axis=1)
        ),
        "has a score that no image has": (
            (scored.any(axis=1) != scored.all(axis=1))
            | ~rows["mse"].fillna(0).between(0, 1)
            | (rows["mse_paper"] > LARGEST_MSE)
            # Clipping to the range of the truth hardly ever adds to an error.
            | (rows["mse_paper"] < capped * (1 - SLACK))
            | (rows["ssim"].abs() > 1)
            | ~rows["ssim_paper"].fillna(0).between(0, 1)
        ),
        "has no positive scale, dose and time": (
            ~(rows[["scale", "dose", "seconds"]] >= 0).all(axis=1)
        ),
    }
    for fault, wrong in faults.items():
        if wrong.any():
            return f"line {2 + int(wrong.to_numpy().argmax())}: {fault}"
    if len(rows) % len(methods) or (sizes.iloc[:-1] != sizes.iloc[0]).any():
        return "last line: ends before its instance or dose range does"
    if sizes.iloc[-1] > sizes.iloc[0]:
        return "last line: has more instances than the dose range before"
    return ""
