"""Scores of many methods on many instances of shot noise (section 4).

    micrographs --number--> noisy and clean crop --each method--> scores --> rows of a CSV

An instance is a function of the seed and of its number alone, and rows are written in the
order of numbers whoever computed them. So a run that was interrupted goes on behind its
last whole instance, and any number of workers writes the same file, but for the times.
"""

import csv
import hashlib
import json
import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from emdn.baselines import BASELINES, STRENGTHS, Image, Method, tuned_methods
from emdn.denoiser import WEIGHTS, Denoiser, load_tensorflow
from emdn.io import read_micrograph, written_whole
from emdn.metrics import mse, ssim
from emdn.noise import DoseRange, noisy_pair, sample_scale

NETWORK = "emdn"
SCORES = ("mse", "ssim", "mse_paper", "ssim_paper")
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


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which instances to score.

    Parameters
    ----------
    folder : Path
        Holds a ``manifest.csv`` with columns file, split and source, and maybe modality.
    split : {"train", "val", "test"}
        Which of its micrographs to use.
    instances : int
        Per dose range; the paper's are 20,000. Micrographs take turns.
    crop : int
        Largest side of a crop, in pixels; smaller micrographs are taken whole.
    dose_ranges : tuple of str
        Of "low" and "ordinary".
    seed : int
        Of crops, scales and noise.
    """

    folder: Path
    split: Literal["train", "val", "test"] = "test"
    instances: int = 20_000
    crop: int = 512
    dose_ranges: tuple[DoseRange, ...] = ("low", "ordinary")
    seed: int = 2018

    def __post_init__(self) -> None:
        if self.instances < 1:
            raise ValueError(f"instances must be at least 1, got {self.instances}")
        if self.crop < 16:
            raise ValueError(f"crop must be at least 16 pixels, got {self.crop}")


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


class Instance(NamedTuple):
    """A noisy and a clean crop of a micrograph, and where they come from."""

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    counts: float
    scale: float
    facts: Mapping[str, str]


def standard_methods(dose_range: DoseRange) -> dict[str, Method]:
    """Return the network, the paper's filters, and those that are told the noise."""
    return {
        NETWORK: _network(dose_range),
        **BASELINES,
        **tuned_methods(STRENGTHS[dose_range]),
    }


def make_instance(config: BenchmarkConfig, dose_range: DoseRange, number: int) -> Instance:
    """Return the instance of a number, always the same."""
    micrographs = _micrographs(config.folder, config.split)
    facts, image = micrographs[number % len(micrographs)]
    rng = np.random.default_rng(
        [config.seed, ("low", "ordinary").index(dose_range), number]
    )
    sides = [min(config.crop, length) for length in image.shape]
    y, x = (
        int(rng.integers(length - side + 1))
        for length, side in zip(image.shape, sides, strict=True)
    )
    scale = sample_scale(dose_range, rng)
    crop = image[y : y + sides[0], x : x + sides[1]]
    noisy, clean, scaling = noisy_pair(crop, scale, rng)
    return Instance(noisy, clean, scaling.scale, scale, facts)


def score_instance(
    config: BenchmarkConfig,
    dose_range: DoseRange,
    number: int,
    methods: Mapping[str, Method],
) -> list[Row]:
    """Return a row for each method."""
    noisy, clean, counts, scale, facts = make_instance(config, dose_range, number)
    dose = counts * float(noisy.mean(dtype=np.float64))
    where = (facts["file"], facts["source"], facts.get("modality", ""), scale, dose)
    rows = []
    for name, method in methods.items():
        begun = time.perf_counter()
        denoised = np.asarray(method(noisy, counts))
        seconds = time.perf_counter() - begun
        scores = score(clean, denoised, clips=name == NETWORK)
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
    methods: Callable[[DoseRange], Mapping[str, Method]] = standard_methods,
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
        Returns the methods for a dose range, by name. Where there are several workers it is
        called in each of them, so it must be a function at the top of a module.
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
    _micrographs(config.folder, config.split)  # complains if there are none
    names = list(methods(config.dose_ranges[0]))
    _settle(config, names, path)
    tasks: list[tuple[DoseRange, int]] = [
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


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Read the rows of a benchmark."""
    texts = ("dose_range", "method", "file", "source", "modality")
    kinds: dict[str, Any] = {**dict.fromkeys(texts, str), "instance": int}
    with Path(path).open(newline="") as file:
        return [
            Row(**{name: kinds.get(name, float)(text) for name, text in row.items()})
            for row in csv.DictReader(file)
        ]


def _network(dose_range: DoseRange) -> Method:
    """Return the shipped network as a method, which ignores the counts."""
    load_tensorflow()  # else it would write into the progress bar
    denoise = Denoiser(dose_range, progress=False).denoise
    return lambda noisy, _: denoise(noisy)


@cache
def _micrographs(folder: Path, split: str) -> list[tuple[dict[str, str], NDArray]]:
    """Return rows of the manifest and images of a split, read once in a process."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise ValueError(f"{manifest}: does not exist; emdn.data.write_manifest makes one")
    with manifest.open(newline="") as file:
        facts = [row for row in csv.DictReader(file) if row["split"] == split]
    if not facts:
        raise ValueError(f"{manifest}: names no micrograph of the split {split!r}")
    return [(row, read_micrograph(folder / row["file"])[0]) for row in facts]


def _settle(config: BenchmarkConfig, names: Sequence[str], path: Path) -> None:
    """Write down what a benchmark is, or compare with what was written."""
    about = {
        "config": {**asdict(config), "folder": config.folder.name},
        "methods": list(names),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "weights": {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(WEIGHTS.glob("*.keras"))
        },
    }
    about = json.loads(json.dumps(about))
    beside = path.with_suffix(".json")
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
    methods: Callable[[DoseRange], Mapping[str, Method]],
    tasks: Sequence[tuple[DoseRange, int]],
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


def _work(job: tuple[BenchmarkConfig, Any, DoseRange, int]) -> list[Row]:
    """Compute one instance, with methods that each process makes once."""
    config, methods, dose_range, number = job
    return score_instance(config, dose_range, number, _made(methods, dose_range))


@cache
def _made(
    methods: Callable[[DoseRange], Mapping[str, Method]], dose_range: DoseRange
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


class Summary(NamedTuple):
    """Mean scores of a method in a dose range, over instances.

    Parameters
    ----------
    method : str
        Its name.
    instances : int
        How many were scored.
    mse, ssim, mse_paper, ssim_paper : float
        Means; see `Row`.
    mse_deviation, ssim_deviation : float
        Standard deviations of `mse_paper` and `ssim_paper`, as in the paper's Table 1.
    mse_interval, ssim_interval : tuple of 2 float
        95 % intervals of `mse` and `ssim`, by a bootstrap that draws sources.
    seconds : float
        Median time of an instance.
    """

    method: str
    instances: int
    mse: float
    ssim: float
    mse_paper: float
    ssim_paper: float
    mse_deviation: float
    ssim_deviation: float
    mse_interval: tuple[float, float]
    ssim_interval: tuple[float, float]
    seconds: float


def summarise(rows: Iterable[Row], *, seed: int = 0) -> dict[str, list[Summary]]:
    """Return a summary of each method, by dose range."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dose_range, row.method), []).append(row)
    table: dict[str, list[Summary]] = {}
    for (dose_range, method), chosen in groups.items():
        values = {name: np.array([getattr(r, name) for r in chosen]) for name in SCORES}
        sources = [row.source for row in chosen]
        means = {name: float(values[name].mean()) for name in SCORES}
        summary = Summary(
            method,
            instances=len(chosen),
            **means,
            mse_deviation=float(values["mse_paper"].std()),
            ssim_deviation=float(values["ssim_paper"].std()),
            mse_interval=bootstrap_interval(values["mse"], sources, seed=seed),
            ssim_interval=bootstrap_interval(values["ssim"], sources, seed=seed),
            seconds=float(np.median([row.seconds for row in chosen])),
        )
        table.setdefault(dose_range, []).append(summary)
    return table


def bootstrap_interval(
    values: NDArray, sources: Sequence[str], *, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """Return a 95 % interval of the mean of values that are alike within a source.

    Parameters
    ----------
    values : (N,) array
        One score for each instance.
    sources : sequence of N str
        Which of them belong together; whole sources are drawn, with replacement.
    seed, draws : int
        Of the bootstrap.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(5, 1, size=400)
    >>> low, high = bootstrap_interval(values, [str(n) for n in range(400)])
    >>> print(f"{low:.1f} to {high:.1f}")
    4.9 to 5.1
    """
    names = sorted(Counter(sources))
    index = np.searchsorted(names, np.asarray(sources))
    sums = np.bincount(index, values, minlength=len(names))
    counts = np.bincount(index, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def markdown_table(table: Mapping[str, Sequence[Summary]]) -> str:
    """Return summaries as Markdown, a row a method, MSE in thousandths."""
    doses = list(table)
    titles = [f"{dose} dose, MSE x 1e-3 | {dose} dose, SSIM" for dose in doses]
    lines = [f"| method | {' | '.join(titles)} |", "|---" * (1 + 2 * len(doses)) + "|"]
    for rank, first in enumerate(table[doses[0]]):
        cells = []
        for dose in doses:
            each = table[dose][rank]
            low, high = (1e3 * limit for limit in each.mse_interval)
            cells.append(f"{1e3 * each.mse:.3f} ({low:.3f} to {high:.3f})")
            low, high = each.ssim_interval
            cells.append(f"{each.ssim:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {first.method} | {' | '.join(cells)} |")
    return "\n".join(lines)
