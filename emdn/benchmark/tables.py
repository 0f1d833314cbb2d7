"""What the rows of a benchmark say: means, spreads and intervals, and tables of them.

    rows --summarise--> a summary for each method --> Markdown, LaTeX, or columns

Scores come in two conventions, see `emdn.benchmark.rows.Row`: today's, in which everything
is clipped to [0, 1], and the paper's. Means and standard deviations of both are there; only
today's have intervals.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emdn.benchmark.rows import Row

SCORES = ("mse", "ssim", "psnr", "mse_paper", "ssim_paper")
DOSE_EDGES = (0, 10, 20, 50, 100, 200, 500, 1000, math.inf)  # mean counts per pixel
By = Literal["source", "modality", "dose"]


class Summary(NamedTuple):
    """Scores of a method in a dose range, over instances.

    Parameters
    ----------
    dose_range, group, method : str
        What was scored; the group is empty if there is one only.
    instances : int
        How many.
    mse, ssim, psnr, mse_paper, ssim_paper : float
        Means; see `emdn.benchmark.rows.Row`. The mean of PSNR, in dB, is not the PSNR of
        the mean: it counts all instances alike, however strong their noise.
    mse_deviation, ssim_deviation, psnr_deviation : float
        Standard deviations over instances, of today's scores.
    mse_paper_deviation, ssim_paper_deviation : float
        The same of the paper's, as in its Table 1.
    mse_interval, ssim_interval, psnr_interval : tuple of 2 float
        95 % intervals of the means; see `bootstrap_interval`.
    seconds : float
        Median time of an instance.
    """

    dose_range: str
    group: str
    method: str
    instances: int
    mse: float
    ssim: float
    psnr: float
    mse_paper: float
    ssim_paper: float
    mse_deviation: float
    ssim_deviation: float
    psnr_deviation: float
    mse_paper_deviation: float
    ssim_paper_deviation: float
    mse_interval: tuple[float, float]
    ssim_interval: tuple[float, float]
    psnr_interval: tuple[float, float]
    seconds: float


Table = Mapping[str, Sequence[Summary]]


def summarise(
    rows: Iterable[Row], *, by: By | None = None, seed: int = 0
) -> dict[str, list[Summary]]:
    """Return summaries by dose range, in each of them by group, then by method.

    Parameters
    ----------
    rows : iterable of Row
        Of a benchmark.
    by : {"source", "modality", "dose"}, optional
        What to group instances by; doses, in mean counts per pixel, fall between
        `DOSE_EDGES`. Without it, each dose range is one group.
    seed : int
        Of the bootstrap. It draws sources, for micrographs of one source are alike; among
        the micrographs of one source, where they are grouped by it, it draws those.
    """
    # Twice nested, so that neither doses nor groups of different ranges are mixed.
    ranges: dict[str, dict[tuple[float, str], dict[str, list[Row]]]] = {}
    for row in rows:
        groups = ranges.setdefault(row.dose_range, {})
        groups.setdefault(_group(row, by), {}).setdefault(row.method, []).append(row)
    return {
        dose_range: [
            _summary(chosen, group[1], by, seed)
            for group in sorted(groups)
            for chosen in groups[group].values()
        ]
        for dose_range, groups in ranges.items()
    }


def _group(row: Row, by: By | None) -> tuple[float, str]:
    """Return where the group of a row stands among others, and its name."""
    if by == "dose":
        low, high = next(
            edges for edges in pairwise(DOSE_EDGES) if row.dose < edges[1]
        )  # the last edge is infinite
        name = f"{low} to {high} ppx" if high < math.inf else f"{low} ppx or more"
        return low, name
    return 0, "" if by is None else getattr(row, by)


def _summary(rows: Sequence[Row], group: str, by: By | None, seed: int) -> Summary:
    """Return the summary of one method in one group."""
    values = {name: np.array([getattr(row, name) for row in rows]) for name in SCORES}
    clusters = [row.file if by == "source" else row.source for row in rows]
    with np.errstate(invalid="ignore"):  # a perfect image has an infinite PSNR
        numbers: dict[str, Any] = {
            **{name: float(values[name].mean()) for name in SCORES},
            **{f"{name}_deviation": float(values[name].std()) for name in SCORES},
            **{
                f"{name}_interval": bootstrap_interval(values[name], clusters, seed=seed)
                for name in ("mse", "ssim", "psnr")
            },
        }
    return Summary(
        rows[0].dose_range,
        group,
        rows[0].method,
        len(rows),
        seconds=float(np.median([row.seconds for row in rows])),
        **numbers,
    )


def bootstrap_interval(
    values: NDArray, clusters: Sequence[str], *, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """Return a 95 % interval of the mean of values that are alike within a cluster.

    Parameters
    ----------
    values : (N,) array
        One score for each instance.
    clusters : sequence of N str
        Which of them belong together; whole clusters are drawn, with replacement.
    seed, draws : int
        Of the bootstrap.

    Returns
    -------
    tuple of 2 float
        NaN if there is but one cluster, which says nothing of others.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(5, 1, size=400)
    >>> low, high = bootstrap_interval(values, [str(n) for n in range(400)])
    >>> print(f"{low:.1f} to {high:.1f}")
    4.9 to 5.1
    """
    names, index = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return math.nan, math.nan
    sums = np.bincount(index, values, minlength=len(names))
    counts = np.bincount(index, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def markdown_table(table: Table) -> str:
    """Return means and their intervals as Markdown, a row a method, MSE in thousandths."""
    titles = [
        f"{dose} dose, MSE x 1e-3 | {dose} dose, SSIM | {dose} dose, PSNR in dB"
        for dose in table
    ]
    lines = [f"| method | {' | '.join(titles)} |", "|---" * (1 + 3 * len(table)) + "|"]
    for group, method, summaries in _lines(table):
        cells = [cell for each in summaries for cell in _markdown_cells(each)]
        name = f"{group}: {method}" if group else method
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _markdown_cells(summary: Summary | None) -> list[str]:
    if summary is None:
        return ["", "", ""]
    return [
        _with_interval(summary.mse, summary.mse_interval, 1e3, 3),
        _with_interval(summary.ssim, summary.ssim_interval, 1, 3),
        _with_interval(summary.psnr, summary.psnr_interval, 1, 2),
    ]


def _with_interval(
    value: float, interval: tuple[float, float], factor: float, digits: int
) -> str:
    text = f"{factor * value:.{digits}f}"
    if any(map(math.isnan, interval)):
        return text
    low, high = (f"{factor * limit:.{digits}f}" for limit in interval)
    return f"{text} ({low} to {high})"


def latex_table(table: Table, *, paper: bool = False) -> str:
    r"""Return means and standard deviations in the layout of the paper's Table 1.

    The result is a `tabular` that needs the package booktabs: a line a method, with MSE in
    thousandths and SSIM of each dose range; the best mean of each column is bold.

    Parameters
    ----------
    table : mapping of str to sequence of Summary
        From `summarise`.
    paper : bool
        Use the paper's scores, in place of today's.
    """
    columns = 4 * len(table)
    starts = range(2, 2 + columns, 4)
    doses = [rf"\multicolumn{{4}}{{c}}{{{dose.capitalize()} dose}}" for dose in table]
    rules = "".join(rf"\cmidrule(lr){{{start}-{start + 3}}}" for start in starts)
    scores = [r"\multicolumn{2}{c}{MSE ($\times 10^{-3}$)}", r"\multicolumn{2}{c}{SSIM}"]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * columns}}}",
        r"\toprule",
        rf" & {' & '.join(doses)} \\",
        rules,
        rf" & {' & '.join(scores * len(table))} \\",
        rf"Method & {' & '.join(['Mean', 'Std'] * (columns // 2))} \\",
        *_latex_body(table, "_paper" if paper else ""),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _latex_body(table: Table, suffix: str) -> list[str]:
    """Return a line for each method, and one before each group."""
    best = {
        (dose, each.group): (
            min(getattr(s, f"mse{suffix}") for s in summaries if s.group == each.group),
            max(getattr(s, f"ssim{suffix}") for s in summaries if s.group == each.group),
        )
        for dose, summaries in table.items()
        for each in summaries
    }
    lines, before = [r"\midrule"], ""
    for group, method, summaries in _lines(table):
        if group != before:
            title = (
                rf"\multicolumn{{{1 + 4 * len(table)}}}{{l}}{{\emph{{{_escaped(group)}}}}}"
            )
            lines += [rf"{title} \\"] if not before else [r"\midrule", rf"{title} \\"]
            before = group
        cells = [
            cell
            for dose, each in zip(table, summaries, strict=True)
            for cell in _latex_cells(each, suffix, best.get((dose, group)))
        ]
        lines.append(rf"{_escaped(method)} & {' & '.join(cells)} \\")
    return lines


def _latex_cells(
    summary: Summary | None, suffix: str, best: tuple[float, float] | None
) -> list[str]:
    if summary is None or best is None:
        return ["", "", "", ""]
    cells = []
    for name, factor, winner in zip(("mse", "ssim"), (1e3, 1), best, strict=True):
        mean = getattr(summary, name + suffix)
        text = f"{factor * mean:.3f}"
        cells.append(rf"\textbf{{{text}}}" if mean == winner else text)
        cells.append(f"{factor * getattr(summary, f'{name}{suffix}_deviation'):.3f}")
    return cells


def _lines(table: Table) -> list[tuple[str, str, list[Summary | None]]]:
    """Return group, method, and the summaries of all dose ranges, None where one lacks."""
    found = {
        dose: {(each.group, each.method): each for each in summaries}
        for dose, summaries in table.items()
    }
    keys = dict.fromkeys(key for summaries in found.values() for key in summaries)
    return [(*key, [found[dose].get(key) for dose in table]) for key in keys]


def _escaped(text: str) -> str:
    return "".join(rf"\{letter}" if letter in "&%$#_{}" else letter for letter in text)


def to_columns(records: Iterable[Row | Summary]) -> dict[str, list]:
    """Return rows or summaries as columns, of which any data frame can be made.

    An interval becomes two columns, `_low` and `_high`.

    Examples
    --------
    Of these packages, emdn needs none::

        frame = pandas.DataFrame(to_columns(rows))
        pyarrow.parquet.write_table(pyarrow.table(to_columns(rows)), "rows.parquet")
    """
    columns: dict[str, list] = {}
    for record in records:
        for name, value in zip(record._fields, record, strict=True):
            if isinstance(value, tuple):
                stem = name.removesuffix("_interval")
                for end, limit in zip(("low", "high"), value, strict=True):
                    columns.setdefault(f"{stem}_{end}", []).append(limit)
            else:
                columns.setdefault(name, []).append(value)
    return columns
