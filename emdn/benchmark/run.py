"""Scores of many methods on many instances of shot noise (section 4).

    micrographs --number--> noisy and clean crop --each method--> scores --> rows of a CSV

An instance is a function of the seed and of its number alone, and rows are written in the
order of numbers whoever computed them. So a run that was interrupted goes on behind its
last whole instance, and any number of workers writes the same file, but for the times.

A method is any function of a noisy image and its counts, see `emdn.benchmark.filters`;
`emdn.benchmark.method.blind` makes one from a function of an image alone. What the rows
say is in `emdn.benchmark.tables`.
"""

import csv
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from emdn.benchmark import peers
from emdn.benchmark.instances import BenchmarkConfig, make_instance, micrographs
from emdn.benchmark.method import Image, Method, PaperDose
from emdn.benchmark.methods import NETWORKS, standard_methods
from emdn.benchmark.rows import Row, about_path
from emdn.files import written_whole
from emdn.metrics import mse, ssim
from emdn.weights import shipped_hashes

LARGEST_MSE = 0.012  # the paper's; what is larger counts as this
PACKAGES = (
    "emdn",
    "tensorflow",
    "numpy",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
)


PATIENCE = 3  # times that workers may be killed before anything is done
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
WAITING = 256  # instances handed out to a cluster at a time


def score_instance(
    config: BenchmarkConfig,
    dose_range: PaperDose,
    number: int,
    methods: Mapping[str, Method],
) -> list[Row]:
    """Return a row for each method."""
    noisy, clean, gain, scale, facts = make_instance(config, dose_range, number)
    dose = float(noisy.mean(dtype=np.float64)) / gain
    where = (facts["file"], facts["source"], facts.get("modality", ""), scale, dose)
    rows = []
    for name, method in methods.items():
        own_noisy = noisy.copy()  # which it may spoil
        begun = time.perf_counter()
        denoised = np.asarray(method(own_noisy, gain))
        seconds = time.perf_counter() - begun
        if denoised.shape != clean.shape:
            raise ValueError(
                f"{name}: made an image of shape {denoised.shape} of one of {clean.shape}"
            )
        scores = score(clean, denoised, clips=name in NETWORKS)
        rows.append(Row(dose_range, number, name, *where, *scores, seconds))
    return rows


def score(
    clean: Image, denoised: Image, *, clips: bool
) -> tuple[float, float, float, float]:
    """Return MSE and SSIM in today's conventions, and in the paper's.

    Parameters
    ----------
    clean, denoised : (H, W) array
        Truth in [0, 1], and a result.
    clips : bool
        Whether the paper would clip the result, which it did to the network's only.

    Returns
    -------
    mse, ssim, mse_paper, ssim_paper : float
        See `Row`.
    """
    if not np.isfinite(denoised).all():
        return math.nan, math.nan, math.nan, math.nan
    clipped = np.clip(denoised, 0, 1)
    as_paper = clipped if clips else denoised
    own_range = float(as_paper.max()) - float(as_paper.min())
    similarity = ssim(clean, as_paper, data_range=own_range) if own_range > 0 else 0.0
    return (
        mse(clean, clipped),
        ssim(clean, clipped, data_range=1),
        min(mse(clean, as_paper), LARGEST_MSE),
        min(max(similarity, 0.0), 1.0),
    )


def benchmark(
    config: BenchmarkConfig,
    path: str | os.PathLike[str],
    *,
    methods: Callable[[PaperDose], Mapping[str, Method]] = standard_methods,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> Path:
    """Score methods on all instances, or go on with a benchmark that was interrupted.

    Parameters
    ----------
    config : BenchmarkConfig
        Which instances.
    path : path
        The CSV file of `Row` to write; beside it, a JSON file tells how it was made.
    methods : callable
        Returns the methods for a dose range, by name: `standard_methods`, a choice of
        `Methods`, or your own. Where there are several workers it is called in each of
        them, so it must be a function at the top of a module, or a value like `Methods`
        that is the same after it was pickled.
    workers : int
        Processes on this machine.
    scheduler : str, optional
        Address of a Dask scheduler whose workers compute instead; all of them see `folder`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        Of the CSV file.

    Raises
    ------
    ValueError
        If the file is of another benchmark, or the folder of no use.
    """
    path = Path(path)
    if path.suffix == ".xz":
        raise ValueError(
            f"{path}: rows are appended to plain text; name it .csv, pack it later"
        )
    micrographs(config.folder, config.split)  # complains if there are none
    names = list(methods(config.dose_ranges[0]))
    _settle(config, names, path)
    tasks: list[tuple[PaperDose, int]] = [
        (dose, number) for dose in config.dose_ranges for number in range(config.instances)
    ]
    done = _whole_instances(path, len(names))
    computed = _computed(config, methods, tasks[done:], workers, scheduler)
    shown = track(
        computed,
        "Scoring instances",
        total=len(tasks),
        completed=done,
        console=Console(stderr=True),
        disable=not progress,
    )
    for rows in shown:
        with path.open("a", newline="") as file:
            csv.writer(file).writerows(rows)
    return path


def _settle(config: BenchmarkConfig, names: Sequence[str], path: Path) -> None:
    """Write down what a benchmark is, or compare with what was written."""
    about = {
        "config": {**asdict(config), "folder": config.folder.name},
        "methods": list(names),
        "versions": {name: _version(name) for name in (*PACKAGES, *_packages(names))},
        "python": sys.version.split()[0],
        "weights": {} if {*NETWORKS}.isdisjoint(names) else shipped_hashes(),
    }
    about = json.loads(json.dumps(about))
    beside = about_path(path)
    if path.is_file() and beside.is_file():
        before = json.loads(beside.read_text())
        changed = [name for name in about if about[name] != before.get(name)]
        if changed:
            raise ValueError(
                f"{path}: holds a benchmark of other {', '.join(changed)}, see "
                f"{beside.name}; choose another file, or remove it"
            )
        return
    beside.write_text(json.dumps(about, indent=1) + "\n")
    with path.open("w", newline="") as file:
        csv.writer(file).writerow(Row._fields)


def _packages(names: Sequence[str]) -> list[str]:
    """Return the packages of the peers among methods."""
    of_peers = [peers.PACKAGES[name] for name in names if name in peers.PACKAGES]
    return sorted({each for package in of_peers for each in package.distributions})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _whole_instances(path: Path, methods: int) -> int:
    """Count the instances of which all rows are there, and cut off what comes behind."""
    with path.open("rb") as file:
        lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    done = (len(whole) - 1) // methods
    kept = b"".join(whole[: 1 + done * methods])
    if len(kept) < path.stat().st_size:
        with written_whole(path) as temporary:
            temporary.write_bytes(kept)
    return done


def _computed(
    config: BenchmarkConfig,
    methods: Callable[[PaperDose], Mapping[str, Method]],
    tasks: Sequence[tuple[PaperDose, int]],
    workers: int,
    scheduler: str | None,
) -> Iterator[list[Row]]:
    """Yield the rows of tasks in their order, whoever computes them."""
    jobs = [(config, methods, *task) for task in tasks]
    if scheduler is not None:
        yield from _on_cluster(jobs, scheduler)
    elif workers == 1:
        yield from map(_work, jobs)
    else:
        yield from _in_processes(jobs, workers)


def _work(job: tuple[BenchmarkConfig, Any, PaperDose, int]) -> list[Row]:
    """Compute one instance, with methods that each process makes once."""
    config, methods, dose_range, number = job
    return score_instance(config, dose_range, number, _made(methods, dose_range))


@cache
def _made(
    methods: Callable[[PaperDose], Mapping[str, Method]], dose_range: PaperDose
) -> Mapping[str, Method]:
    return methods(dose_range)


def _in_processes(jobs: Sequence[Any], workers: int) -> Iterator[list[Row]]:
    """Compute in processes of this machine; replace those that are killed."""
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    done = fruitless = 0
    while done < len(jobs):
        begun = done
        with ProcessPoolExecutor(workers, context, _one_thread) as pool:
            try:
                for rows in pool.map(_work, jobs[done:]):
                    yield rows
                    done += 1
            except BrokenProcessPool:
                fruitless = 0 if done > begun else fruitless + 1
                if fruitless == PATIENCE:  # no accident, then
                    raise


def _one_thread() -> None:
    """Keep the workers of one machine from fighting for its processors."""
    os.environ |= dict.fromkeys(THREADS, "1")
    cv2.setNumThreads(1)


def _on_cluster(jobs: Sequence[Any], scheduler: str) -> Iterator[list[Row]]:
    """Compute on the workers of a Dask scheduler, a bounded number ahead."""
    from distributed import Client

    with Client(scheduler) as client:
        waiting = iter(jobs)
        futures = [
            client.submit(_work, job, pure=False) for job in islice(waiting, WAITING)
        ]
        while futures:
            yield futures.pop(0).result()
            futures += [client.submit(_work, job, pure=False) for job in islice(waiting, 1)]
