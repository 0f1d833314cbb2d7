"""Scores of many methods on many instances of shot noise (section 4).

    micrographs --number--> noisy and clean crop --each method--> scores --> rows of a CSV

An instance is a function of the seed and of its number alone, and rows are written in the
order of numbers whoever computed them. So a run that was interrupted goes on behind its
last whole instance, and any number of workers writes the same file, but for the times.

A method is any function of a noisy image and its counts, see `emdn.baselines`;
`emdn.baselines.blind` makes one from a function of an image alone. What the rows say is in
`emdn.tables`.
"""

import csv
import json
import lzma
import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, signature
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from emdn import peers
from emdn.baselines import (
    BASELINES,
    STABILISED,
    STRENGTHS,
    TOLD,
    Image,
    Method,
    PaperDose,
    blind,
    tuned_methods,
)
from emdn.denoiser import Denoiser, load_tensorflow, shipped_hashes
from emdn.files import written_whole
from emdn.io import read_micrograph
from emdn.metrics import mse, psnr_of_mse, ssim
from emdn.noise import noisy_pair, sample_scale

NETWORK = "emdn"  # the network that ships for all doses, which measures the noise itself
NETWORKS = (NETWORK, "emdn, told", "emdn, blind")  # told the noise; the paper's graph
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
        Of "low" and "ordinary", the paper's.
    seed : int
        Of crops, scales and noise.
    """

    folder: Path
    split: Literal["train", "val", "test"] = "test"
    instances: int = 20_000
    crop: int = 512
    dose_ranges: tuple[PaperDose, ...] = ("low", "ordinary")
    seed: int = 2018

    def __post_init__(self) -> None:
        if self.instances < 1:
            raise ValueError(f"instances must be at least 1, got {self.instances}")
        if self.crop < 16:
            raise ValueError(f"crop must be at least 16 pixels, got {self.crop}")
        unknown = [name for name in self.dose_ranges if name not in STRENGTHS]
        if unknown or not self.dose_ranges:
            raise ValueError(
                f"dose_ranges must be of {', '.join(STRENGTHS)}, got {self.dose_ranges}"
            )


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


class Instance(NamedTuple):
    """A noisy and a clean crop of a micrograph, and where they come from."""

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    counts: float
    scale: float
    facts: Mapping[str, str]


def standard_methods(dose_range: PaperDose) -> dict[str, Method]:
    """Return the network, the paper's filters, and those that are told the noise."""
    return _networks(dose_range) | _filters(dose_range)


KNOWN = (*NETWORKS, *BASELINES, *TOLD, *STABILISED, *peers.PEERS)
"""Names of all methods of this package and of `emdn.peers`."""


@dataclass(frozen=True)
class Methods:
    """A choice of methods, which returns them for a dose range when called.

    Parameters
    ----------
    names : tuple of str
        Of `KNOWN`, in any order; empty for the standard methods.
    with_peers : bool
        Add all of `emdn.peers`, whose packages must be installed.
    own : tuple of str
        Functions to add, as "package.module:function"; see `imported_method`.

    Examples
    --------
    >>> list(Methods(("Gaussian", "unfiltered"))("low"))
    ['unfiltered', 'Gaussian']
    """

    # A value, not a closure: workers are sent it and know it again by its hash.
    names: tuple[str, ...] = ()
    with_peers: bool = False
    own: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in KNOWN:
                raise ValueError(f"no method is called {name!r}; {_known()}")
        for name in self.chosen:
            if name in peers.PEERS:
                peers.require(name)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of all methods, in the order of `KNOWN`, own ones last."""
        names = self.names or set(KNOWN) - set(peers.PEERS)
        wanted = {*names, *(peers.PEERS if self.with_peers else ())}
        return (*(name for name in KNOWN if name in wanted), *self.own)

    def __call__(self, dose_range: PaperDose) -> dict[str, Method]:
        """Return the methods for a dose range by name."""
        known = _filters(dose_range) | peers.peer_methods(dose_range)
        if not {*NETWORKS}.isdisjoint(self.chosen):
            known |= _networks(dose_range)
        known |= {place: imported_method(place) for place in self.own}
        return {name: known[name] for name in self.chosen}


def split_names(text: str) -> tuple[str, ...]:
    """Split names of methods at commas, of which some names have one themselves.

    Parameters
    ----------
    text : str
        Names of `KNOWN`; upper and lower case are alike.

    Examples
    --------
    >>> split_names("emdn,wavelet, stabilised,median")
    ('emdn', 'wavelet, stabilised', 'median')
    """
    longest_first = sorted(KNOWN, key=len, reverse=True)
    names = []
    rest = text.strip()
    while rest:
        for name in longest_first:
            head, tail = rest[: len(name)], rest[len(name) :].lstrip()
            if head.lower() == name.lower() and tail[:1] in ("", ","):
                names.append(name)
                rest = tail[1:].strip()
                break
        else:
            raise ValueError(f"no method is called {rest.split(',')[0]!r}; {_known()}")
    return tuple(names)


def imported_method(place: str) -> Method:
    """Return a function of somebody's own as a method.

    Parameters
    ----------
    place : str
        "package.module:function". It is called with a noisy image in [0, 1], and with the
        counts that its 1 stands for if it has a second parameter that must be given.
        Modules in the working directory are found too.
    """
    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise ValueError(f"a method is package.module:function, got {place!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # which only `python -m` would do by itself
    try:
        method: Any = attrgetter(name)(import_module(module))
    except ImportError as error:
        raise ValueError(f"{place}: cannot be imported, {error}") from error
    except AttributeError as error:
        raise ValueError(f"{place}: {error}") from error
    if not callable(method):
        raise ValueError(f"{place}: is no function but {type(method).__name__}")
    function = cast("Callable[..., Image]", method)
    return function if _takes_counts(function) else blind(function)


def make_instance(config: BenchmarkConfig, dose_range: PaperDose, number: int) -> Instance:
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
    dose_range: PaperDose,
    number: int,
    methods: Mapping[str, Method],
) -> list[Row]:
    """Return a row for each method."""
    noisy, clean, counts, scale, facts = make_instance(config, dose_range, number)
    dose = counts * float(noisy.mean(dtype=np.float64))
    where = (facts["file"], facts["source"], facts.get("modality", ""), scale, dose)
    rows = []
    for name, method in methods.items():
        own_noisy = noisy.copy()  # which it may spoil
        begun = time.perf_counter()
        denoised = np.asarray(method(own_noisy, counts))
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
    _micrographs(config.folder, config.split)  # complains if there are none
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


def _networks(dose_range: PaperDose) -> dict[str, Method]:
    """Return the shipped networks as methods, by the names in `NETWORKS`."""
    load_tensorflow()  # else it would write into the progress bar
    every_dose, of_paper = Denoiser(progress=False), Denoiser(dose_range, progress=False)
    methods: list[Method] = [
        blind(every_dose.denoise),
        lambda noisy, counts: every_dose.denoise(noisy, gain=1 / counts),
        blind(of_paper.denoise),
    ]
    return dict(zip(NETWORKS, methods, strict=True))


def _filters(dose_range: PaperDose) -> dict[str, Method]:
    """Return all methods of `emdn.baselines`."""
    return BASELINES | tuned_methods(STRENGTHS[dose_range])


def _takes_counts(method: Callable[..., Image]) -> bool:
    """Return whether a function has a second parameter that must be given."""
    try:
        parameters = signature(method).parameters.values()
    except ValueError:  # of a compiled function
        return True
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) > 1


def _known() -> str:
    return f"there are: {'; '.join(KNOWN)}"


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
