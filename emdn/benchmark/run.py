"""Scores of many methods on many instances of shot noise (section 4).

    micrographs --number--> noisy and clean crop --each method--> scores --> rows of a CSV

An instance is a function of the seed and of its number alone, and rows are written in the
order of numbers whoever computed them. So a run that was interrupted goes on behind its
last whole instance, and any number of workers writes the same file, but for the times.
What the rows say is in `emdn.benchmark.tables`.
"""

import csv
import io
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from emdn.benchmark.instances import BenchmarkConfig, make_instance, micrographs
from emdn.benchmark.method import Image, Method, PaperDose
from emdn.benchmark.methods import NETWORK, STANDARD
from emdn.benchmark.rows import LARGEST_MSE, Row, about_path, parse_rows
from emdn.cluster import computing
from emdn.console import load_tensorflow
from emdn.console import progress as progress_bar
from emdn.files import write_or_compare
from emdn.metrics import mse, ssim
from emdn.weights import shipped_hashes
from emdn.weights.backends import choose_backend

LIBRARIES = ("emdn", "onnxruntime", "tensorflow", "numpy", "scipy", "scikit-image")
LIBRARIES += ("opencv-python-headless",)
FRUITLESS_STARTS = 3  # of workers that are killed before they have computed anything
THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")

Job = tuple[BenchmarkConfig, PaperDose, int, Sequence[Method]]


def score_instance(
    config: BenchmarkConfig, dose_range: PaperDose, number: int, methods: Sequence[Method]
) -> list[Row]:
    """Return a row for each method.

    Raises
    ------
    ValueError
        If a method returns no image of real numbers, or one of another shape.
    """
    noisy, clean, gain, scale, entry = instance = make_instance(config, dose_range, number)
    where = (entry.file, entry.source, entry.modality, scale, instance.dose)
    rows = []
    for method in methods:
        tuned, own_noisy = method.at(dose_range), noisy.copy()  # which it may spoil
        begun = time.perf_counter()
        denoised = np.asarray(tuned(own_noisy, gain))
        seconds = time.perf_counter() - begun
        if denoised.shape != clean.shape or denoised.dtype.kind not in "biuf":
            raise ValueError(
                f"{method.name}: made an image of shape {denoised.shape} and type "
                f"{denoised.dtype} of one of {clean.shape}; return as many real numbers"
            )
        scores = score(clean, denoised, clips=method.family == NETWORK)
        rows.append(Row(dose_range, number, method.name, *where, *scores, seconds))
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
        Scores as in `emdn.benchmark.rows.Row`; NaN for a result that is not finite.
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


def run_benchmark(
    config: BenchmarkConfig,
    path: str | os.PathLike[str],
    methods: Sequence[Method] = STANDARD,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = False,
) -> Path:
    """Score methods on all instances, or go on with a benchmark that was interrupted.

    Parameters
    ----------
    config : BenchmarkConfig
        Instances to score.
    path : path
        CSV file of `emdn.benchmark.rows.Row` to write. Beside it, a JSON file tells how it
        was made.
    methods : sequence of Method
        Methods to score. Several workers need functions at the top of a module.
    workers : int
        Number of processes on this machine.
    scheduler : str, optional
        Address of a Dask scheduler whose workers compute instead. All of them see the
        folder of micrographs and can import the methods.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Path
        The CSV file.

    Raises
    ------
    ValueError
        If the file is of another benchmark, of none, or damaged; if another process writes
        to it; or if the folder is of no use.
    """
    path = Path(path)
    if path.suffix != ".csv":
        later = "; pack it later" if path.suffix == ".xz" else ""
        raise ValueError(f"{path}: rows are appended to plain text; name it .csv{later}")
    micrographs(config.folder, config.split)  # complains if there are none
    tasks: list[tuple[PaperDose, int]] = [
        (dose, number) for dose in config.dose_ranges for number in range(config.instances)
    ]
    with _opened_alone(path) as file:
        contents = file.read()
        _require_benchmark(config, methods, path, contents)
        done = _whole_instances(config, tasks, methods, path, contents, file)
        jobs: list[Job] = [(config, *task, methods) for task in tasks[done:]]
        with progress_bar(
            len(tasks), done, description="Scoring instances", show=progress
        ) as advance:
            for rows in _computed(jobs, workers, scheduler):
                _append(file, _as_csv(rows))
                advance(1)
    return path


@contextmanager
def _opened_alone(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read and append, which no other process has opened so."""
    with path.open("a+b") as file:
        try:
            import fcntl
        except ImportError:  # Windows, where two runs are not kept apart
            pass
        else:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the file is closed
            except BlockingIOError as error:
                raise ValueError(
                    f"{path}: another process writes to it; wait for it, or name another"
                ) from error
            except OSError:  # a file system without locks
                pass
        file.seek(0)
        try:
            yield file
        finally:
            if not path.stat().st_size:
                path.unlink()


def _require_benchmark(
    config: BenchmarkConfig, methods: Sequence[Method], path: Path, contents: bytes
) -> None:
    """Write down what a benchmark is, or require that the files are of the same one."""
    names = [method.name for method in methods]
    packages = {
        name
        for method in methods
        if method.package is not None
        for name in method.package.distributions
    }
    about = {
        "config": {**asdict(config), "folder": config.folder.name},
        "methods": names,
        "versions": {name: _version(name) for name in (*LIBRARIES, *sorted(packages))},
        "python": sys.version.split()[0],
        "weights": shipped_hashes() if _any_network(methods) else {},
    }
    beside = about_path(path)
    if contents and not beside.is_file():
        raise ValueError(
            f"{path}: exists, and no {beside.name} beside it tells of what benchmark; "
            "choose another file, or remove it"
        )
    write_or_compare(beside, about)


def _any_network(methods: Sequence[Method]) -> bool:
    return any(method.family == NETWORK for method in methods)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _whole_instances(
    config: BenchmarkConfig,
    tasks: Sequence[tuple[PaperDose, int]],
    methods: Sequence[Method],
    path: Path,
    contents: bytes,
    file: IO[bytes],
) -> int:
    """Count the instances whose rows are all in a file, and cut off what comes behind."""
    header = _as_csv([Row._fields])
    if not header.startswith(contents[: len(header)]):
        raise ValueError(f"{path}: is no file of scores; choose another file, or remove it")
    lines = contents[len(header) :].splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    done = len(whole) // len(methods)
    kept = header + b"".join(whole[: done * len(methods)])
    if done:
        rows = parse_rows(io.BytesIO(kept), str(path))
        entries = [entry for entry, _ in micrographs(config.folder, config.split)]
        expected = [
            (dose_range, number, method.name, entries[number % len(entries)].file)
            for dose_range, number in tasks[:done]
            for method in methods
        ]
        keys = rows[["dose_range", "instance", "method", "file"]]
        if expected != list(keys.itertuples(index=False, name=None)):
            raise ValueError(
                f"{path}: holds other instances than these; restore the file or the "
                "manifest, or score into another"
            )
    file.truncate(len(kept) if len(contents) >= len(header) else 0)
    if len(contents) < len(header):
        _append(file, header)
    return done


def _as_csv(lines: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _append(file: IO[bytes], text: bytes) -> None:
    """Write at once, so that the text is there whatever happens next."""
    file.write(text)
    file.flush()


def _computed(
    jobs: Sequence[Job], workers: int, scheduler: str | None
) -> Iterator[list[Row]]:
    """Yield the rows of jobs in their order, whoever computes them."""
    if scheduler is None and workers > 1:
        yield from _in_processes(jobs, workers)
        return
    with computing(scheduler) as compute:
        yield from compute(_work, jobs)


def _work(job: Job) -> list[Row]:
    return score_instance(*job)


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[list[Row]]:
    """Compute in processes of this machine; replace those that are killed."""
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    done = fruitless = 0
    while done < len(jobs):
        begun = done
        networks = _any_network(jobs[0][-1])
        with ProcessPoolExecutor(workers, context, _begin_worker, (networks,)) as pool:
            try:
                for rows in pool.map(_work, jobs[done:]):
                    yield rows
                    done += 1
            except BrokenProcessPool:
                fruitless = 0 if done > begun else fruitless + 1
                if fruitless == FRUITLESS_STARTS:  # then it was no accident
                    raise


def _begin_worker(networks: bool) -> None:
    """Let a process use one processor, say nothing, and end when its parent ends."""
    os.environ |= dict.fromkeys(THREAD_VARIABLES, "1")
    cv2.setNumThreads(1)
    if networks and choose_backend() == "tensorflow":
        load_tensorflow()
    # A parent that is killed cannot tell its workers, which would wait for it for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # the process was started by another one
    parent.join()
    os._exit(1)
