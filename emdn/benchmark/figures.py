"""All figures of section 4 from the file of a benchmark.

    rows --> distributions of scores, error against dose
    rows, micrographs --> instances --methods--> examples, spectra, maps of errors

What a figure shows of an image is computed anew, from the micrographs that were scored.
"""

import fnmatch
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from emdn.benchmark.error_maps import ErrorMap, mean_error, telling_instances
from emdn.benchmark.filters import BASELINES, STABILISED, TOLD
from emdn.benchmark.instances import BenchmarkConfig, Instance, make_instance
from emdn.benchmark.method import Method, PaperDose
from emdn.benchmark.methods import KNOWN, Methods
from emdn.benchmark.plots import (
    UNFILTERED,
    leading_methods,
    plot_error_against_dose,
    plot_mean_spectra,
    plot_score_distributions,
    show_error_maps,
    show_examples,
)
from emdn.benchmark.rows import Row, read_about, read_rows
from emdn.files import written_whole
from emdn.metrics import mse

DPI = 300  # at which a pixel of a crop of 512 has at least one of a PNG's
EXAMPLES = 3  # methods beside noisy and clean images
SPECTRA = 16  # instances whose spectra are averaged
ROUNDED = 1e-4  # published results have five digits
TOLERANCE = 0.01  # of scores computed again, maybe by another kind of processor
UNDATED = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
FONTS: dict[Any, Any] = {
    "pdf.fonttype": 42,
    "svg.hashsalt": "emdn",
}  # text that journals' tools can edit


STEM = re.compile(r"\bSTEM\b")  # as a word: serial-section TEM is spelt ssTEM


@dataclass(frozen=True)
class FigureConfig:
    """What to draw.

    Parameters
    ----------
    methods : tuple of str
        Methods to draw, the first of which is what the figures are about: its error is
        mapped, its best and worst instances are shown. By default `leading_methods`.
    instances : int
        Of each map of errors; the paper's are 20,000.
    crop : int
        Side of the maps of errors, in pixels; the paper's is 512. Smaller micrographs are
        left out of them.
    formats : tuple of str
        Of "png", "pdf" and "svg".
    only : str
        Pattern of the names of figures to draw, for example "fig4*", which takes no time.
    """

    methods: tuple[str, ...] = ()
    instances: int = 200
    crop: int = 256
    formats: tuple[str, ...] = ("png", "pdf")
    only: str = "*"

    def __post_init__(self) -> None:
        if not self.formats or set(self.formats) - set(UNDATED):
            raise ValueError(f"formats must be of {', '.join(UNDATED)}, got {self.formats}")


def write_figures(
    results: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: FigureConfig = FigureConfig(),
    *,
    progress: bool = False,
) -> list[Path]:
    """Write the figures of a benchmark, in the place of older ones.

    Parameters
    ----------
    results : path
        The CSV file of a benchmark; the JSON file beside it tells how it was made.
    folder : path
        The micrographs that were scored.
    output : path
        A folder, made if missing.
    config : FigureConfig
        What to draw.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    ValueError
        If the results are of other micrographs or other weights, or without a JSON file,
        or of methods that cannot be found again.
    """
    rows, output = read_rows(results), Path(output)
    scored = _scored(Path(results), Path(folder))
    shown = list(config.methods) or leading_methods(rows)
    jobs = {
        **_figures_of_rows(rows, shown, config),
        **_figures_of_images(rows, shown, scored),
        "fig5_error_maps": partial(_error_maps, shown[0], scored, config),
    }
    names = fnmatch.filter(sorted(jobs), config.only)
    if not names:
        raise ValueError(f"only must match one of {', '.join(jobs)}; got {config.only!r}")
    output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    written = []
    for name in track(names, "Drawing", console=console, disable=not progress):
        written += _write(jobs[name](), output / name, config.formats)
    return written


def _scored(results: Path, folder: Path) -> BenchmarkConfig:
    """Return the settings of a benchmark, for micrographs in a folder."""
    said = read_about(results)["config"]
    known = {field.name: said[field.name] for field in fields(BenchmarkConfig)}
    ranges = tuple(known["dose_ranges"])
    return BenchmarkConfig(**{**known, "folder": folder, "dose_ranges": ranges})


def _figures_of_rows(
    rows: Sequence[Row], shown: Sequence[str], config: FigureConfig
) -> dict[str, Callable[[], Figure]]:
    """Return how to draw what needs no images, by the names of files."""
    draw = partial(plot_score_distributions, rows)
    return {
        "fig4_mse_distributions": partial(draw, "mse", methods=shown),
        "fig4_ssim_distributions": partial(draw, "ssim", methods=shown),
        # A choice of methods holds for these too; else they are the paper's.
        "fig4_mse_distributions_paper": partial(
            draw, "mse_paper", methods=config.methods or None
        ),
        "fig4_ssim_distributions_paper": partial(
            draw, "ssim_paper", methods=config.methods or None
        ),
        "error_against_dose": partial(plot_error_against_dose, rows, methods=shown),
    }


def _figures_of_images(
    rows: Sequence[Row], shown: Sequence[str], scored: BenchmarkConfig
) -> dict[str, Callable[[], Figure]]:
    """Return how to draw examples and spectra, by the names of files."""
    filtering = [name for name in shown if name != UNFILTERED]
    stem = [row for row in rows if STEM.search(row.modality)]
    jobs: dict[str, Callable[[], Figure]] = {}
    for dose_range in scored.dose_ranges:
        number = {"low": 6, "ordinary": 7}[dose_range]
        draw = partial(_examples, filtering[:EXAMPLES], dose_range, scored)
        jobs[f"fig{number}_examples_{dose_range}_dose"] = partial(draw, rows)
        if any(row.dose_range == dose_range for row in stem):
            jobs[f"fig8_stem_{dose_range}_dose"] = partial(draw, stem)
        jobs[f"spectra_{dose_range}_dose"] = partial(
            _spectra, filtering, dose_range, scored
        )
    return jobs


def _examples(
    names: Sequence[str],
    dose_range: PaperDose,
    scored: BenchmarkConfig,
    rows: Sequence[Row],
) -> Figure:
    """Draw the best, the median and the worst instance of the first of some methods."""
    present = {row.method for row in rows} - {names[0]}
    classical = present & {*BASELINES, *TOLD, *STABILISED}
    chosen = telling_instances(rows, dose_range, names[0], rivals=classical or present)
    methods = _methods(names, dose_range)
    own = {
        row.instance: row
        for row in rows
        if (row.dose_range, row.method) == (dose_range, names[0])
    }
    instances = {
        f"{rank}, no. {number}": _again(own[number], dose_range, scored, methods[names[0]])
        for rank, number in chosen.items()
    }
    return show_examples(instances, methods)


def _again(
    row: Row, dose_range: PaperDose, scored: BenchmarkConfig, method: Method
) -> Instance:
    """Make the instance of a row again, and make sure that all is as it was scored."""
    instance = make_instance(scored, dose_range, row.instance)
    same = math.isclose(instance.scale, row.scale, rel_tol=ROUNDED)
    if instance.facts["file"] != row.file or not same:
        raise ValueError(
            f"{scored.folder}: instance {row.instance} of the {dose_range} dose range is "
            f"of {instance.facts['file']}, but what was scored is of {row.file}; choose "
            "the folder that the benchmark had"
        )
    denoised = np.asarray(method(instance.noisy.copy(), instance.gain))
    error = mse(instance.clean, np.clip(denoised, 0, 1))
    if not math.isclose(error, row.mse, rel_tol=TOLERANCE):
        raise ValueError(
            f"{row.method} has an MSE of {error:.3g} on instance {row.instance} of the "
            f"{dose_range} dose range, but {row.mse:.3g} was scored: weights or code are "
            "others now; score again"
        )
    return instance


def _spectra(
    names: Sequence[str], dose_range: PaperDose, scored: BenchmarkConfig
) -> Figure:
    numbers = range(min(SPECTRA, scored.instances))
    instances = [make_instance(scored, dose_range, number) for number in numbers]
    return plot_mean_spectra(instances, _methods(names, dose_range))


def _error_maps(name: str, scored: BenchmarkConfig, config: FigureConfig) -> Figure:
    cropped = replace(scored, instances=config.instances, crop=config.crop)
    maps: dict[str, ErrorMap] = {}
    for dose_range in scored.dose_ranges:
        method = _methods([name], dose_range)[name]
        instances = _instances(cropped, dose_range)
        errors = mean_error(instances, method, (config.crop, config.crop))
        maps[f"{name}, {dose_range} dose"] = errors
    return show_error_maps(maps)


def _instances(config: BenchmarkConfig, dose_range: PaperDose) -> Iterator[Instance]:
    for number in range(config.instances):
        yield make_instance(config, dose_range, number)


def _methods(names: Sequence[str], dose_range: PaperDose) -> Mapping[str, Method]:
    """Return methods by their names in a benchmark, in this order."""
    own = tuple(name for name in names if name not in KNOWN)
    known = tuple(name for name in names if name in KNOWN)
    methods = Methods(known, own=own)(dose_range)
    return {name: methods[name] for name in names}


def _write(figure: Figure, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Write a figure whole, in each format, the same bytes each time."""
    paths = [stem.with_suffix(f".{suffix}") for suffix in formats]
    for path, suffix in zip(paths, formats, strict=True):
        with plt.rc_context(FONTS), written_whole(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=DPI, metadata=UNDATED[suffix])
    return paths
