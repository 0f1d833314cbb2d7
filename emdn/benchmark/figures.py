"""All figures of section 4 from the file of a benchmark, and those of section 5.

    rows --> distributions of scores, error against dose
    rows, micrographs --> instances --methods--> examples, spectra, maps of errors
    published logs --> learning curves of section 5

What a figure shows of an image is computed anew, from the micrographs that were scored.
"""

import fnmatch
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from emdn.benchmark.error_maps import mean_error
from emdn.benchmark.instances import BenchmarkConfig, Instance, make_instance
from emdn.benchmark.method import Denoise, PaperDose
from emdn.benchmark.methods import AWARE, METHODS, PAPER, STABILISED, label_of, own_method
from emdn.benchmark.plots import (
    UNFILTERED,
    methods_to_draw,
    plot_error_against_dose,
    plot_experiments,
    plot_mean_spectra,
    plot_score_distributions,
    show_error_maps,
    show_examples,
)
from emdn.benchmark.rows import RESULTS, of_stem, read_about, read_rows, telling_instances
from emdn.console import progress as progress_bar
from emdn.files import written_whole
from emdn.metrics import mse

DPI = 300  # dots per inch, at which a pixel of a 512 px crop has a dot of a PNG or more
EXAMPLES = 3  # methods shown beside noisy and clean images
SPECTRA = 16  # instances whose spectra are averaged
SCALE_TOLERANCE = 1e-4  # relative; published rows have five digits
SCORE_TOLERANCE = 0.01  # relative; another kind of processor may compute
METADATA = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # undated
FONTS: dict[Any, Any] = {"pdf.fonttype": 42, "svg.hashsalt": "emdn"}  # text stays text
FIGURE_NUMBERS = {"low": 6, "ordinary": 7}  # of examples in the paper, by dose range
BATCHES = {9: 2, 10: 10}  # crops in a batch, by the paper's figure of learning curves


@dataclass(frozen=True)
class FigureConfig:
    """Which figures to draw, and how.

    Parameters
    ----------
    methods : tuple of str
        Methods to draw, the first of which is what the figures are about: its error is
        mapped, its best and worst instances are shown. By default `leading_methods`.
    instances : int
        Number of instances of each map of errors; the paper's is 20,000.
    crop : int
        Side of the maps of errors, in pixels; the paper's is 512. Smaller micrographs are
        left out of them.
    formats : tuple of str
        File formats, of "png", "pdf" and "svg".
    only : str
        Pattern of the names of figures to draw, for example "fig4*", which takes no time.
    """

    methods: tuple[str, ...] = ()
    instances: int = 200
    crop: int = 256
    formats: tuple[str, ...] = ("png", "pdf")
    only: str = "*"

    def __post_init__(self) -> None:
        if not self.formats or set(self.formats) - set(METADATA):
            raise ValueError(
                f"formats must be of {', '.join(METADATA)}, got {self.formats}"
            )


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
        CSV file of a benchmark. The JSON file beside it tells how it was made.
    folder : path
        Folder of the micrographs that were scored.
    output : path
        Folder to write to, made if missing.
    config : FigureConfig
        Figures to draw.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    list of Path
        Files that were written.

    Raises
    ------
    ValueError
        If the results are of other micrographs or other weights, or without a JSON file,
        or of methods that cannot be found again.
    """
    figures, output = plan_figures(results, folder, config), Path(output)
    output.mkdir(parents=True, exist_ok=True)
    written = []
    with progress_bar(len(figures), description="Drawing", show=progress) as advance:
        for name, draw in figures.items():
            written += save_figure(draw(), output / name, config.formats)
            advance(1)
    return written


def plan_figures(
    results: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    config: FigureConfig = FigureConfig(),
) -> dict[str, Callable[[], Figure]]:
    """Return functions that draw the figures of a benchmark, by the names of files.

    Parameters and errors are those of `write_figures`.
    """
    rows, scored = read_rows(results), _scored_config(Path(results), Path(folder))
    names = methods_to_draw(rows, config.methods or None)
    figures = {
        **_figures_of_rows(rows, names, config),
        **_figures_of_images(rows, names, scored),
        "fig5_error_maps": partial(_error_maps, names[0], scored, config),
        **_figures_of_trainings(),
    }
    chosen = fnmatch.filter(sorted(figures), config.only)
    if not chosen:
        raise ValueError(
            f"only must match one of {', '.join(figures)}; got {config.only!r}"
        )
    return {name: figures[name] for name in chosen}


def save_figure(figure: Figure, path: Path, formats: Sequence[str]) -> list[Path]:
    """Write a figure whole or not at all in each format, the same bytes each time.

    Parameters
    ----------
    figure : Figure
        Figure to write.
    path : Path
        File to write, without its suffix.
    formats : sequence of str
        File formats, of "png", "pdf" and "svg".
    """
    written = [path.with_suffix(f".{suffix}") for suffix in formats]
    for target, suffix in zip(written, formats, strict=True):
        with plt.rc_context(FONTS), written_whole(target) as temporary:
            figure.savefig(temporary, format=suffix, dpi=DPI, metadata=METADATA[suffix])
    return written


def _scored_config(results: Path, folder: Path) -> BenchmarkConfig:
    """Return the settings of a benchmark, for micrographs in a folder."""
    written = read_about(results)["config"]
    known = {field.name: written[field.name] for field in fields(BenchmarkConfig)}
    ranges = tuple(known["dose_ranges"])
    return BenchmarkConfig(**{**known, "folder": folder, "dose_ranges": ranges})


def _figures_of_rows(
    rows: pd.DataFrame, names: Sequence[str], config: FigureConfig
) -> dict[str, Callable[[], Figure]]:
    """Return how to draw what needs no images."""
    draw = partial(plot_score_distributions, rows)
    # A choice of methods holds for the paper's scores too; else they are the paper's.
    of_paper = config.methods or None
    return {
        "fig4_mse_distributions": partial(draw, "mse", methods=names),
        "fig4_ssim_distributions": partial(draw, "ssim", methods=names),
        "fig4_mse_distributions_paper": partial(draw, "mse_paper", methods=of_paper),
        "fig4_ssim_distributions_paper": partial(draw, "ssim_paper", methods=of_paper),
        "error_against_dose": partial(plot_error_against_dose, rows, methods=names),
    }


def _figures_of_images(
    rows: pd.DataFrame, names: Sequence[str], scored: BenchmarkConfig
) -> dict[str, Callable[[], Figure]]:
    """Return how to draw examples and spectra."""
    filtering = [name for name in names if name != UNFILTERED]
    stem_rows = of_stem(rows)
    figures: dict[str, Callable[[], Figure]] = {}
    for dose_range in scored.dose_ranges:
        draw = partial(_examples, filtering[:EXAMPLES], dose_range, scored)
        number = FIGURE_NUMBERS[dose_range]
        figures[f"fig{number}_examples_{dose_range}_dose"] = partial(draw, rows)
        if dose_range in set(stem_rows["dose_range"]):
            figures[f"fig8_stem_{dose_range}_dose"] = partial(draw, stem_rows)
        figures[f"spectra_{dose_range}_dose"] = partial(
            _spectra, filtering, dose_range, scored
        )
    return figures


def _figures_of_trainings() -> dict[str, Callable[[], Figure]]:
    """Return how to draw the experiments with trainings, whose logs are published."""
    rows = pd.read_csv(RESULTS / "learning_curves.csv")
    return {
        f"fig{number}_curves_batch_{batch}": partial(
            plot_experiments, rows[rows["figure"] == number]
        )
        for number, batch in BATCHES.items()
    }


def _examples(
    names: Sequence[str],
    dose_range: PaperDose,
    scored: BenchmarkConfig,
    rows: pd.DataFrame,
) -> Figure:
    """Draw the best, the median and the worst instance of the first of some methods."""
    first = names[0]
    others = {*rows["method"]} - {first}
    filters = others & {method.name for method in (*PAPER, *AWARE, *STABILISED)}
    numbers = telling_instances(rows, dose_range, first, rivals=filters or others)
    methods = _denoisers(names, dose_range)
    of_first = rows[(rows["dose_range"] == dose_range) & (rows["method"] == first)]
    by_number = {row.instance: row for row in of_first.itertuples()}
    instances = {}
    for rank, number in numbers.items():
        instance = make_instance(scored, dose_range, number)
        _require_as_scored(instance, by_number[number], number, scored, methods[first])
        instances[f"{rank}, no. {number}"] = instance
    return show_examples(instances, methods)


def _require_as_scored(
    instance: Instance,
    row: Any,  # of the fields of a Row
    number: int,
    scored: BenchmarkConfig,
    denoise: Denoise,
) -> None:
    """Require that an instance and the method's result are as they were scored."""
    same = math.isclose(instance.scale, row.scale, rel_tol=SCALE_TOLERANCE)
    place = f"instance {number} of the {row.dose_range} dose range"
    if instance.entry.file != row.file or not same:
        raise ValueError(
            f"{scored.folder}: {place} is of {instance.entry.file}, but what was scored is "
            f"of {row.file}; choose the folder that the benchmark had"
        )
    denoised = np.asarray(denoise(instance.noisy.copy(), instance.gain))
    error = mse(instance.clean, np.clip(denoised, 0, 1))
    if not math.isclose(error, row.mse, rel_tol=SCORE_TOLERANCE):
        raise ValueError(
            f"{row.method} has an MSE of {error:.3g} on {place}, but {row.mse:.3g} "
            "was scored: weights or code are others now; score again"
        )


def _spectra(
    names: Sequence[str], dose_range: PaperDose, scored: BenchmarkConfig
) -> Figure:
    numbers = range(min(SPECTRA, scored.instances))
    instances = [make_instance(scored, dose_range, number) for number in numbers]
    return plot_mean_spectra(instances, _denoisers(names, dose_range))


def _error_maps(name: str, scored: BenchmarkConfig, config: FigureConfig) -> Figure:
    cropped = replace(scored, instances=config.instances, crop=config.crop)
    maps = {}
    for dose_range in scored.dose_ranges:
        numbers = range(config.instances)
        instances = (make_instance(cropped, dose_range, number) for number in numbers)
        maps[f"{label_of(name)}, {dose_range} dose"] = mean_error(
            instances,
            _denoisers([name], dose_range)[name],
            (config.crop, config.crop),
        )
    return show_error_maps(maps)


def _denoisers(names: Sequence[str], dose_range: PaperDose) -> dict[str, Denoise]:
    """Return methods by name, with their settings for a dose range."""
    methods = [METHODS[name] if name in METHODS else own_method(name) for name in names]
    return {method.name: method.at(dose_range) for method in methods}
