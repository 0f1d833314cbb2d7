"""Figures of sections 4 and 5: what methods score, where a network errs, how it learnt.

    rows of a benchmark --> distributions of scores (Fig. 4), error against dose
    instances, methods --> examples (Figs. 6 to 8), power spectra
    maps of errors --> edge and grid (Fig. 5)
    logs of trainings --> learning curves (Figs. 9 and 10)

As in `emdn.plots`, figures are returned and never shown. A family of methods has the same
colour in all of them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from textwrap import fill, shorten
from typing import Any, Literal
from zlib import crc32

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from scipy.stats import gaussian_kde
from skimage.exposure import equalize_adapthist

from emdn.benchmark.error_maps import (
    MARGIN,
    ErrorMap,
    edge_profile,
    edge_ratio,
    interior,
    measure_grid,
    phase_means,
)
from emdn.benchmark.instances import Instance
from emdn.benchmark.method import Denoise
from emdn.benchmark.methods import NETWORK, PAPER, family_of, label_of
from emdn.metrics import mse, ssim
from emdn.plots import (
    BLUE,
    DIVERGING,
    GREY,
    ORANGE,
    SIDE,
    STYLE,
    draw_inset,
    grey_limits,
)
from emdn.spectrum import as_image, radial_spectrum

Score = Literal["mse", "ssim", "mse_paper", "ssim_paper"]
UNFILTERED = PAPER[0].name
NOISY, TRUTH = "noisy", "truth"  # titles of images that no method made
COLOURS = {  # of families of methods; colour-blind readers tell those of the paper apart
    NETWORK: "#d55e00",
    UNFILTERED: "#7f7f7f",
    NOISY: "#7f7f7f",
    TRUTH: "#000000",
    "gaussian": BLUE,
    "bilateral": "#882255",
    "median": "#999933",
    "wiener": ORANGE,
    "wavelet": "#009e73",
    "chambolle-tv": "#56b4e9",
    "bregman-tv": "#332288",
    "nl-means": "#cc79a7",
    "bm3d": "#aa4499",
    "ffdnet": "#117733",
    "topaz": "#6699cc",
    "r-em": "#661100",
}


SPARE_COLOURS = ("#b8a000", "#44aa99", "#a15a2a", "#8c6bb1")  # of other families
DASHES = ("-", "--", "-.", (0, (1, 1)))
MOST_LINES = 8  # that are told apart in one figure
SCORE_LABELS: dict[Score, str] = {
    "mse": "MSE (10⁻³ intensity²)",
    "ssim": "SSIM",
    "mse_paper": "MSE, at most 12 (10⁻³ intensity²)",
    "ssim_paper": "SSIM, data range of the result",
}


SMALLEST_ERROR = float(np.finfo(float).tiny)  # intensity²; an MSE that has a logarithm
SHOWN_DISTANCE = 3.0  # from a perfect score, in distances of the median method's median
FEWEST_IN_BIN, MOST_BINS = 10, 12  # instances in a bin of doses, bins in a dose range
ERROR_MAP = "cividis"  # Matplotlib's colour map of errors that have no sign
PERIODS = (2, 4)  # of grids, in pixels: one and two layers that double an image's sides
CORNER = 16  # pixels; side of the corner that the paper enlarges in a map of errors


def plot_score_distributions(
    rows: pd.DataFrame, score: Score = "mse", *, methods: Sequence[str] | None = None
) -> Figure:
    """Plot the distribution of methods' scores over instances, as in Fig. 4 of the paper.

    Densities are estimated by Gaussian kernels with Scott's bandwidth. In each dose range
    they are multiplied by the one factor that brings the highest of them to 1; the legend
    has the factors. Only the part next to a perfect score is shown: the tails of the worst
    methods are long.

    Parameters
    ----------
    rows : DataFrame
        Rows of a benchmark. Scores that are NaN are left out, and the figure says so.
    score : {"mse", "ssim", "mse_paper", "ssim_paper"}
        Score to plot, see `emdn.benchmark.rows.Row`. In the paper's convention, errors
        above 0.012 count as that: they make a heap there, which is no property of a method.
    methods : sequence of str, optional
        Methods to draw; by default `leading_methods`, and in the paper's convention those
        of the paper.
    """
    names = methods_to_draw(rows, methods, paper=score.endswith("_paper"))
    finite, notes = _finite(rows, score, names)
    styles = method_styles(names)
    with plt.rc_context(STYLE):
        figure, panels = _panels(finite["dose_range"].nunique())
        legend = ["densities multiplied by"]
        by_dose = finite.groupby("dose_range", sort=False)
        for axes, (dose_range, scored) in zip(panels, by_dose, strict=True):
            samples = {
                str(name): own for name, own in scored.groupby("method", sort=False)[score]
            }
            even = [name for name in samples if np.ptp(samples[name]) == 0]
            for name in even:
                del samples[name]  # a single score has no density
                notes.append(
                    f"{label_of(name)} ({dose_range} dose), whose scores are all alike"
                )
            if not samples:
                raise ValueError(f"no method has two different scores at {dose_range} dose")
            factor = _draw_densities(axes, samples, styles, best=float("ssim" in score))
            axes.set(title=f"{dose_range} dose", xlabel=SCORE_LABELS[score])
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
            if "mse" in score:
                axes.xaxis.set_major_formatter(_in_thousandths())
            legend.append(f"{_scientific(factor)} at {dose_range} dose")
        panels[0].set_ylabel("probability density, scaled")
        _draw_legend(figure, styles, title="\n".join(legend))
        _draw_notes(figure, notes)
    return figure


def plot_error_against_dose(
    rows: pd.DataFrame, *, methods: Sequence[str] | None = None
) -> Figure:
    """Plot the MSE of methods against the dose: medians, and quartiles of the first.

    Each dose range is divided into bins of equally many instances, of at least ten if there
    are so many. A line has a point for each: median dose, median MSE. The band spans the
    quartiles of the first method; those of others are much alike, as it is the micrograph
    more than the method that makes an instance hard, and eight bands would hide each other.

    Parameters
    ----------
    rows : DataFrame
        Rows of a benchmark. Scores that are NaN are left out, and the figure says so.
    methods : sequence of str, optional
        Methods to draw; by default `leading_methods`.
    """
    names = methods_to_draw(rows, methods)
    finite, notes = _finite(rows, "mse", names)
    styles, ends = method_styles(names), {}
    with plt.rc_context(STYLE):
        figure, [[axes]] = _open(1, 1, figsize=(2.6 * SIDE, 1.7 * SIDE))
        axes.set(xscale="log", yscale="log", ylabel=SCORE_LABELS["mse"])
        axes.set_xlabel("dose (counts per pixel)")
        axes.set_title(f"medians; the band spans the quartiles of {label_of(names[0])}")
        for dose_range, name in product(finite["dose_range"].unique(), names):
            own = (finite["dose_range"] == dose_range) & (finite["method"] == name)
            if not own.any():
                continue
            dose, (low, middle, high) = _binned(finite[own])
            axes.plot(dose, middle, marker="o", markersize=2.5, **styles[name])
            if name == names[0]:
                colour = styles[name]["color"]
                axes.fill_between(dose, low, high, color=colour, alpha=0.15, linewidth=0)
            ends[name] = max(ends.get(name, (0.0, 0.0)), (dose[-1], middle[-1]))
        _label_decades(axes.xaxis, _plain())
        _label_decades(axes.yaxis, _in_thousandths())
        axes.grid(alpha=0.25, linewidth=0.6)
        _label_ends(axes, ends, styles)
        _draw_notes(figure, notes)
    return figure


def plot_mean_spectra(
    instances: Sequence[Instance], methods: Mapping[str, Denoise]
) -> Figure:
    """Plot mean power spectra of noisy, denoised and clean images, and of their errors.

    A method that blurs has less power than the truth at high frequencies, one that leaves
    noise has more. That its power is right does not prove that it is in the right places:
    for this there is the power of the error, which that of the truth should exceed.

    Parameters
    ----------
    instances : sequence of Instance
        Instances to average powers of. All are cut to the sides of the smallest.
    methods : mapping of str to callable
        Names, and methods or other functions of a noisy image and its gain.
    """
    frequency, images, errors = _mean_spectra(instances, methods)
    errors[TRUTH] = images[TRUTH]
    ratios = {name: power / images[TRUTH] for name, power in images.items()}
    styles = method_styles(images)
    with plt.rc_context(STYLE):
        figure, panels = _panels(3)
        for axes, title, spectra in (
            (panels[0], "images", images),
            (panels[1], "errors (image \N{MINUS SIGN} truth), and truth", errors),
            (panels[2], "images, relative to truth", ratios),
        ):
            for name, power in spectra.items():
                axes.semilogy(frequency, power, **styles[name])
            axes.set(title=title, xlabel="frequency (cycles/px)", xlim=(0, 0.5))
            axes.grid(alpha=0.25, linewidth=0.6)
        panels[0].set_ylabel("power (intensity²)")
        panels[2].set_ylabel("ratio of powers")
        _label_decades(panels[2].yaxis, _plain())
        _draw_legend(figure, styles, title=f"mean of {len(instances)} instances")
    return figure


def show_examples(
    instances: Mapping[str, Instance],
    methods: Mapping[str, Denoise],
    *,
    enlarge: tuple[slice, slice] | None = np.s_[:64, :64],
) -> Figure:
    """Show instances noisy, denoised and as they are, as in Figs. 6 to 8 of the paper.

    The images of a row share one grey scale, that of the clean and the denoised ones, on
    which much of the noise saturates. Scores are of results clipped to [0, 1].

    Parameters
    ----------
    instances : mapping of str to Instance
        Names of the rows, and their instances.
    methods : mapping of str to callable
        Names of the columns between noisy and clean, and methods or other functions of a
        noisy image and its gain.
    enlarge : pair of slices, optional
        Region to enlarge in the lower right corner, by default the paper's.
    """
    if not instances:
        raise ValueError("instances must hold at least one instance, got none")
    rows = [_results(instance, methods) for instance in instances.values()]
    heights = [SIDE * np.divide(*images[TRUTH].shape) for images in rows]
    with plt.rc_context(STYLE):
        figure, panels = _open(
            len(rows),
            len(rows[0]),
            figsize=(SIDE * len(rows[0]) + 0.4, sum(heights) + 0.5 * len(rows)),
            height_ratios=heights,
        )
        for line, name, images in zip(panels, instances, rows, strict=True):
            _draw_example(line, images, enlarge)
            line[0].set_ylabel(f"{name}\n{_description(instances[name])}")
    return figure


def show_error_maps(maps: Mapping[str, ErrorMap]) -> Figure:
    """Show where in an image a network errs, and in what grid, as in Fig. 5 of the paper.

    Each map has four panels: its mean absolute errors; the same with its contrast increased
    by adaptive histogram equalisation, and its upper left 16 x 16 pixels as they are; the
    error by distance from the edge; and the interior's by row and column modulo 4, under
    the strengths of its grids and the limits that those of maps without a grid seldom
    exceed, see `emdn.benchmark.error_maps.Grid`.

    Parameters
    ----------
    maps : mapping of str to ErrorMap
        Names of the rows, and maps from `emdn.benchmark.error_maps.mean_error`.
    """
    if not maps:
        raise ValueError("maps must hold at least one map, got none")
    phases = [_relative_phases(errors.mean) for errors in maps.values()]
    largest = max(float(np.abs(table).max()) for table in phases) or 1.0
    with plt.rc_context(STYLE):
        figure, panels = _open(
            len(maps),
            4,
            figsize=(5.2 * SIDE, 1.25 * SIDE * len(maps)),
            width_ratios=(1.2, 1, 1.05, 1),
        )
        for line, (name, errors), table in zip(panels, maps.items(), phases, strict=True):
            line[0].set_ylabel(f"{name}\n{_instance_counts(errors)}")
            _draw_map(line[0], errors.mean)
            _draw_equalised(line[1], errors.mean)
            _draw_profile(line[2], errors.mean)
            _draw_phases(line[3], table, largest)
            line[3].set_title("\n".join(_grid_report(errors.mean, p) for p in PERIODS))
    return figure


def plot_experiments(rows: pd.DataFrame, *, boxcar: int = 5) -> Figure:
    """Plot the learning curves of trainings that differ in one thing, as in Figs. 9 and 10.

    Parameters
    ----------
    rows : DataFrame
        Columns ``variant``, the name in the legend, ``seed``, ``step`` and ``mse``, of
        outputs clipped to [0, 1]. Seeds of a variant are lines of one colour.
    boxcar : int
        Number of rows to average over; the ends, where the boxcar sticks out, are left out.

    Raises
    ------
    ValueError
        If a training has fewer rows than the boxcar.
    """
    with plt.rc_context(STYLE):
        figure, (axes,) = _panels(1)
        for number, (name, variant) in enumerate(rows.groupby("variant", sort=False)):
            for repeat, (seed, log) in enumerate(variant.groupby("seed")):
                if len(log) < boxcar:
                    raise ValueError(
                        f"{name}, seed {seed}: has {len(log)} rows, fewer than the "
                        f"boxcar's {boxcar}; choose a shorter boxcar"
                    )
                means = log[["step", "mse"]].rolling(boxcar, center=True).mean().dropna()
                label = "_" if repeat else str(name)  # legends leave out what begins with _
                axes.semilogy(means["step"], means["mse"], color=f"C{number}", label=label)
        axes.set(xlabel="step", ylabel="MSE of clipped outputs")
        axes.grid(alpha=0.25, linewidth=0.6)
        figure.legend(loc="outside right center")
    return figure


def leading_methods(rows: pd.DataFrame, most: int = MOST_LINES) -> list[str]:
    """Return the network, the best of other methods, and last the unfiltered image.

    Methods are ranked by their mean MSE, its logarithm averaged over dose ranges. Of each
    family the best one stands for all; of the network's, the one that users get.

    Parameters
    ----------
    rows : DataFrame
        Rows of a benchmark.
    most : int
        Number of methods; more than 8 lines are hard to tell apart.
    """
    finite = rows["mse"].where(np.isfinite(rows["mse"]))
    means = finite.groupby([rows["method"], rows["dose_range"]]).mean()
    # A method without any finite score comes last.
    logarithms = means.clip(lower=SMALLEST_ERROR).map(np.log).fillna(np.inf)
    ranked = logarithms.groupby("method").mean().sort_values(kind="stable").index
    best = {family_of(name): name for name in reversed(ranked)}
    if NETWORK in ranked:
        best[NETWORK] = NETWORK
    first, last = (
        [best.pop(family)] if family in best else [] for family in (NETWORK, UNFILTERED)
    )
    others = [name for name in ranked if name in best.values()]
    return [*first, *others[: max(most - len(first) - len(last), 0)], *last]


def method_styles(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colour and line of each method, as Matplotlib takes them.

    A family has the same colour in all figures; where several methods of a family are
    drawn, they differ by their dashes.

    Examples
    --------
    >>> styles = method_styles(["emdn", "wavelet", "wavelet-aware"])
    >>> styles["wavelet"]["color"] == styles["wavelet-aware"]["color"]
    True
    >>> styles["wavelet"]["linestyle"], styles["wavelet-aware"]["linestyle"]
    ('-', '--')
    """
    drawn: Counter[str] = Counter()
    styles = {}
    for name in methods:
        family = family_of(name)
        spare = SPARE_COLOURS[crc32(family.encode()) % len(SPARE_COLOURS)]
        colour = COLOURS.get(family, spare)
        reference = name in (UNFILTERED, NOISY, TRUTH)
        styles[name] = {
            "color": colour,
            "linestyle": ":" if reference else DASHES[drawn[colour] % len(DASHES)],
            "linewidth": 2.4 if family == NETWORK else 1.3,
            "zorder": {NETWORK: 3, TRUTH: 4}.get(family, 2),
        }
        drawn[colour] += not reference
    return styles


def methods_to_draw(
    rows: pd.DataFrame, methods: Sequence[str] | None, *, paper: bool = False
) -> list[str]:
    """Return the methods to draw, by default the leading ones or those of the paper.

    Raises
    ------
    ValueError
        If there are no rows, or none of one of the methods.
    """
    scored = list(rows["method"].unique()) if len(rows) else []
    if not scored:
        raise ValueError("rows must hold at least one score, got none")
    if methods is None:
        of_paper = {NETWORK, *(method.name for method in PAPER)}
        own = [name for name in scored if name in of_paper]
        return own if paper and own else leading_methods(rows)
    if unknown := set(methods) - set(scored):
        raise ValueError(
            f"methods must be among {', '.join(scored)}; got {', '.join(sorted(unknown))}"
        )
    return list(methods)


def _finite(
    rows: pd.DataFrame, score: str, methods: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of methods whose score is finite, and notes of the others."""
    chosen = rows[rows["method"].isin(methods)]
    finite = np.isfinite(chosen[score])
    if not finite.any():
        raise ValueError(f"rows must hold finite scores {score!r}, got none")
    lost = chosen[~finite]
    counts = Counter(zip(lost["method"], lost["dose_range"], strict=True))
    notes = [
        f"{number} scores of {label_of(name)} ({dose_range} dose) that are not finite"
        for (name, dose_range), number in counts.items()
    ]
    return chosen[finite], notes


def _open(rows: int, columns: int, **settings: Any) -> tuple[Figure, Any]:
    """Open a figure with a grid of axes, which pyplot forgets at once."""
    figure, panels = plt.subplots(rows, columns, squeeze=False, **settings)
    plt.close(figure)  # else a notebook shows it a second time
    return figure, panels


def _panels(number: int) -> tuple[Figure, list[Axes]]:
    """Open axes side by side, with room for a legend at the right."""
    size = ((1.3 * number + 0.8) * SIDE, 1.35 * SIDE)
    figure, panels = _open(1, number, figsize=size)
    return figure, list(panels.flat)


def _draw_legend(
    figure: Figure, styles: Mapping[str, Mapping[str, Any]], *, title: str
) -> None:
    """Draw the lines of methods and their names beside the panels."""
    lines = [
        Line2D([], [], label=label_of(name), **style) for name, style in styles.items()
    ]
    legend = figure.legend(handles=lines, loc="outside right center", title=title)
    legend.set(alignment="left")


def _draw_notes(figure: Figure, notes: Sequence[str]) -> None:
    """Say below a figure what it leaves out."""
    if notes:
        text = fill(f"Left out: {'; '.join(notes)}.", width=100)
        figure.supxlabel(text, x=0.01, ha="left", fontsize="small")


def _draw_densities(
    axes: Axes,
    samples: Mapping[Any, pd.Series],
    styles: Mapping[str, Mapping[str, Any]],
    *,
    best: float,
) -> float:
    """Draw densities, the highest of which becomes 1, and return their common factor."""
    medians = [float(np.median(values)) for values in samples.values()]
    other = best + SHOWN_DISTANCE * (float(np.median(medians)) - best)
    span = (other, best) if other < best else (best, other)
    scores = np.linspace(*span, 500)
    densities = {name: gaussian_kde(values)(scores) for name, values in samples.items()}
    factor = 1 / max(float(density.max()) for density in densities.values())
    for name, density in densities.items():
        axes.plot(scores, factor * density, **styles[name])
    axes.set(xlim=span, ylim=(0, 1.05))
    return factor


def _plain() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:g}")


def _in_thousandths() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{1e3 * value:g}")


def _scientific(number: float) -> str:
    """Write a number as in 6.07 x 10^-4."""
    digits, power = f"{number:.2e}".split("e")
    return rf"${digits} \times 10^{{{int(power)}}}$"


def _label_decades(axis: Axis, formatter: FuncFormatter) -> None:
    """Label 1, 2 and 5 of each decade: few axes here span more than two of them."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def _binned(scored: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return median doses of bins, and quartiles of errors, (3, bins)."""
    bins = min(max(len(scored) // FEWEST_IN_BIN, 1), MOST_BINS)
    parts = np.array_split(scored.sort_values("dose")[["dose", "mse"]].to_numpy(), bins)
    doses = np.array([np.median(part[:, 0]) for part in parts])
    return doses, np.transpose([np.percentile(part[:, 1], (25, 50, 75)) for part in parts])


def _label_ends(
    axes: Axes,
    ends: Mapping[str, tuple[float, float]],
    styles: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write names to the right of the axes, near where their lines end."""
    place = axes.transData + axes.transAxes.inverted()
    heights = _spread([place.transform(end)[1] for end in ends.values()], gap=0.048)
    for (name, end), height in zip(ends.items(), heights, strict=True):
        colour = styles[name]["color"]
        axes.annotate(
            label_of(name),
            xy=end,
            xytext=(1.04, float(height)),
            textcoords="axes fraction",
            va="center",
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "relpos": (0, 0.5),  # else it runs to the middle of the name
            },
        )


def _spread(heights: Sequence[float], gap: float) -> NDArray[np.float64]:
    """Move heights apart until neighbours are a gap from each other, in the same order."""
    order = np.argsort(heights)
    steps = gap * np.arange(len(heights))
    even = np.asarray(heights)[order] - steps
    # Pushed up only, or down only, gaps are kept, and so they are in the mean of the two.
    up, down = np.maximum.accumulate(even), np.minimum.accumulate(even[::-1])[::-1]
    spread = np.empty(len(heights))
    spread[order] = (up + down) / 2 + steps
    return spread


def _results(
    instance: Instance, methods: Mapping[str, Denoise]
) -> dict[str, NDArray[np.float64]]:
    """Return the noisy, the denoised and the clean image of an instance, by name."""
    noisy, truth = as_image(NOISY, instance.noisy), as_image(TRUTH, instance.clean)
    denoised = {
        name: np.clip(as_image(name, method(instance.noisy.copy(), instance.gain)), 0, 1)
        for name, method in methods.items()
    }
    return {NOISY: noisy, **denoised, TRUTH: truth}


def _mean_spectra(
    instances: Sequence[Instance], methods: Mapping[str, Denoise]
) -> tuple[NDArray[np.float64], dict[str, NDArray], dict[str, NDArray]]:
    """Return frequencies, and mean powers of images and of their errors, by name."""
    if not instances:
        raise ValueError("instances must hold at least one instance, got none")
    height, width = np.min([instance.clean.shape for instance in instances], axis=0)
    images: dict[str, list[NDArray]] = {}
    errors: dict[str, list[NDArray]] = {}
    for instance in instances:
        results = _results(instance, methods)
        for name, image in results.items():
            cut, error = image[:height, :width], (image - results[TRUTH])[:height, :width]
            images.setdefault(name, []).append(radial_spectrum(cut)[1])
            errors.setdefault(name, []).append(radial_spectrum(error)[1])
    del errors[TRUTH]
    frequency, _ = radial_spectrum(np.zeros((height, width)))
    means = [
        {name: np.mean(powers, axis=0) for name, powers in spectra.items()}
        for spectra in (images, errors)
    ]
    return frequency, means[0], means[1]


def _draw_example(
    line: Sequence[Axes],
    images: Mapping[str, NDArray[np.float64]],
    enlarge: tuple[slice, slice] | None,
) -> None:
    """Draw the images of an instance on one grey scale, with scores over them."""
    truth = images[TRUTH]
    low, high = grey_limits(*[image for name, image in images.items() if name != NOISY])
    for axes, (name, image) in zip(line, images.items(), strict=True):
        axes.imshow(image, cmap=GREY, vmin=low, vmax=high, interpolation="none")
        _without_ticks(axes)
        scores = (
            f"MSE {1e3 * mse(truth, image):.2f} \N{MULTIPLICATION SIGN} 10⁻³, "
            f"SSIM {ssim(truth, image, data_range=1):.3f}"
        )
        axes.set_title(name if name == TRUTH else f"{label_of(name)}\n{scores}")
        if enlarge is not None:
            draw_inset(axes, image, enlarge, low, high)


def _description(instance: Instance) -> str:
    """Say what was imaged and with how many electrons."""
    entry = instance.entry
    subject = shorten(entry.modality or entry.file, 32, placeholder=" …")
    return f"{subject}\nscale {instance.scale:.0f}, dose {instance.dose:.0f} counts/px"


def _without_ticks(axes: Axes) -> None:
    """Hide the frame of axes, and keep their labels."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _instance_counts(errors: ErrorMap) -> str:
    """Say how many instances are in a map, and how many could not be averaged."""
    lost = [
        f"{number} {reason}"
        for number, reason in (
            (errors.left_out, "too small"),
            (errors.not_finite, "not finite"),
        )
        if number
    ]
    averaged = f"{errors.instances} instances"
    return averaged + (f"\n(left out: {', '.join(lost)})" if lost else "")


def _draw_map(axes: Axes, errors: NDArray[np.float64]) -> None:
    """Draw a map of errors with its scale."""
    low, high = grey_limits(errors)
    image = axes.imshow(errors, cmap=ERROR_MAP, vmin=low, vmax=high, interpolation="none")
    _without_ticks(axes)
    axes.set_title(
        f"mean absolute error {errors.mean():.4f}\n"
        f"(of pixels {errors.min():.4f} to {errors.max():.4f})"
    )
    figure = axes.get_figure()
    assert figure is not None  # an axes that is drawn on has one
    figure.colorbar(image, ax=axes, extend="both", shrink=0.85)


def _draw_equalised(axes: Axes, errors: NDArray[np.float64]) -> None:
    """Draw a map with its contrast increased in each part, and a corner without."""
    span = float(np.ptp(errors)) or 1.0
    equalised = equalize_adapthist((errors - errors.min()) / span, clip_limit=0.15)
    axes.imshow(equalised, cmap=ERROR_MAP, interpolation="none")
    _without_ticks(axes)
    axes.set_title(
        f"its contrast equalised;\nupper left {CORNER} x {CORNER} px as they are"
    )
    region = np.s_[:CORNER, :CORNER]
    low, high = float(errors[region].min()), float(errors[region].max())
    draw_inset(axes, errors, region, low, high, ERROR_MAP)


def _draw_profile(axes: Axes, errors: NDArray[np.float64]) -> None:
    """Draw the error of pixels by their distance from the edge, and of the interior."""
    profile = edge_profile(errors)[: 2 * MARGIN]
    inside = float(interior(errors).mean())
    axes.semilogx(np.arange(1, len(profile) + 1), profile, ".-", color=BLUE)
    axes.axhline(inside, color=ORANGE, linewidth=1, linestyle="--")
    axes.annotate("interior", (1, inside), (0, -3), textcoords="offset points", va="top")
    axes.set(xlabel="pixels from the edge", ylabel="mean absolute error")
    _label_decades(axes.xaxis, _plain())
    axes.set_title(
        f"outermost pixels:\n{edge_ratio(errors):.2f} times the interior's error"
    )


def _relative_phases(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return errors by phase of the longest period, in per cent off their mean."""
    inside = interior(errors)
    return 100 * (phase_means(inside, max(PERIODS)) / inside.mean() - 1)


def _draw_phases(axes: Axes, phases: NDArray[np.float64], largest: float) -> None:
    """Draw errors by phase, in per cent off their mean, as a table."""
    axes.imshow(phases, cmap=DIVERGING, vmin=-largest, vmax=largest)
    for (row, column), value in np.ndenumerate(phases):
        colour = "white" if abs(value) > 0.6 * largest else "black"
        text = f"{value:+.1f} %".replace("-", "\N{MINUS SIGN}")
        axes.text(column, row, text, ha="center", va="center", color=colour)
    ticks = range(len(phases))
    axes.set(xticks=ticks, yticks=ticks, xlabel=f"column modulo {len(ticks)}")
    axes.set_ylabel(f"row modulo {len(ticks)}")


def _grid_report(errors: NDArray[np.float64], period: int) -> str:
    """Say how strong the grid of a period is."""
    grid = measure_grid(errors, period)
    return f"period {period}: strength {grid.strength:.3g} (limit {grid.limit:.1f})"
