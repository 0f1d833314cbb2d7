"""What the rows of a benchmark say: means, spreads and intervals, and tables of them.

    rows --summarise--> a line for each method --> Markdown, LaTeX

Scores come in two conventions, see `emdn.benchmark.rows.Row`: today's, in which everything
is clipped to [0, 1], and the paper's. Means and standard deviations of both are there; only
today's have intervals. Means over instances count a source with many micrographs for more
than others, means over sources count all sources alike.
"""

import math
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from emdn.benchmark.methods import label_of

SCORES = ["mse", "ssim", "psnr", "mse_paper", "ssim_paper"]
TODAYS = ["mse", "ssim", "psnr"]
DOSE_EDGES = (0, 10, 20, 50, 100, 200, 500, 1000, math.inf)  # mean counts per pixel
By = Literal["source", "modality", "dose"]
KEYS = ["dose_range", "group", "method"]


def summarise(rows: pd.DataFrame, *, by: By | None = None, seed: int = 0) -> pd.DataFrame:
    """Return a line for each dose range, in it for each group, in it for each method.

    Parameters
    ----------
    rows : DataFrame
        Rows of a benchmark, see `emdn.benchmark.rows.read_rows`.
    by : {"source", "modality", "dose"}, optional
        What to group instances by; doses, in mean counts per pixel, fall between
        `DOSE_EDGES`. Without it, each dose range is one group, of an empty name.
    seed : int
        Seed of the bootstrap. It draws sources, for micrographs of one source are alike;
        among the micrographs of one source, where they are grouped by it, it draws those.

    Returns
    -------
    DataFrame
        Indexed by dose_range, group and method, with columns

        - instances, sources: numbers of them; largest_share: share of the instances that
          are of the one source with most;
        - mse, ssim, psnr, mse_paper, ssim_paper: means over instances. The mean of PSNR, in
          dB, is not the PSNR of the mean: it counts all instances alike, however strong
          their noise;
        - mse_sources, ssim_sources, psnr_sources: means over sources of the means of each;
        - mse_deviation, ...: standard deviations over instances, of all five scores;
        - mse_low, mse_high, ...: 95 % intervals of today's means, see
          `bootstrap_interval`;
        - seconds: median time of an instance.
    """
    with np.errstate(divide="ignore"):  # a perfect image has an infinite PSNR
        table = rows.assign(psnr=-10 * np.log10(rows["mse"]), group=_groups(rows, by))
    for key in (
        "dose_range",
        "method",
    ):  # in their order in the rows, not in the alphabet's
        table[key] = pd.Categorical(table[key], table[key].unique(), ordered=True)
    groups = table.groupby(KEYS, observed=True)
    of_source = table.groupby([*KEYS, "source"], observed=True)
    sizes = of_source.size().groupby(KEYS, observed=True)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        parts = [
            sizes.agg(instances="sum", sources="size", largest="max"),
            groups[SCORES].mean(),
            of_source[TODAYS]
            .mean()
            .groupby(KEYS, observed=True)
            .mean()
            .add_suffix("_sources"),
            groups[SCORES].std(ddof=0).add_suffix("_deviation"),
            groups[[*TODAYS, "source", "file"]].apply(
                _intervals, cluster="file" if by == "source" else "source", seed=seed
            ),
            groups["seconds"].median(),
        ]
    summary = pd.concat(parts, axis=1)
    summary.insert(2, "largest_share", summary.pop("largest") / summary["instances"])
    return summary


def _groups(rows: pd.DataFrame, by: By | None) -> "pd.Series | pd.Categorical | str":
    """Return the group of each row, in an order that sorting keeps."""
    if by != "dose":
        return "" if by is None else rows[by]
    names = [f"{low} to {high} ppx" for low, high in pairwise(DOSE_EDGES[:-1])]
    names.append(f"{DOSE_EDGES[-2]} ppx or more")
    return pd.cut(rows["dose"], DOSE_EDGES, right=False, labels=names)


def _intervals(group: pd.DataFrame, cluster: str, seed: int) -> pd.Series:
    """Return the intervals of one method in one group."""
    limits = {
        score: bootstrap_interval(group[score], group[cluster], seed=seed)
        for score in TODAYS
    }
    return pd.Series(
        {
            f"{score}_{end}": limit
            for score, interval in limits.items()
            for end, limit in zip(("low", "high"), interval, strict=True)
        }
    )


def bootstrap_interval(
    values: ArrayLike, clusters: ArrayLike, *, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """Return a 95 % interval of the mean of values that are alike within a cluster.

    Parameters
    ----------
    values : (N,) array
        Scores of instances.
    clusters : (N,) array
        Names of the clusters that they belong to; whole clusters are drawn, with
        replacement.
    seed, draws : int
        Seed of the bootstrap, and number of its samples.

    Returns
    -------
    tuple of 2 float
        Limits; NaN if there is but one cluster, which says nothing of others.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(5, 1, size=400)
    >>> low, high = bootstrap_interval(values, np.arange(400))
    >>> print(f"{low:.1f} to {high:.1f}")
    4.9 to 5.1
    """
    index, names = pd.factorize(np.asarray(clusters), sort=True)
    if len(names) < 2:
        return math.nan, math.nan
    sums = np.bincount(index, np.asarray(values, float), minlength=len(names))
    counts = np.bincount(index, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def markdown_table(summary: pd.DataFrame) -> str:
    """Return means and their intervals as Markdown, MSE in thousandths.

    A method has a line, and each dose range has columns. Below the table stands how
    unevenly the instances come from sources.
    """
    columns = {
        "MSE x 1e-3": ("mse", 1e3, 3),
        "MSE over sources": ("mse_sources", 1e3, 3),
        "SSIM": ("ssim", 1, 3),
        "SSIM over sources": ("ssim_sources", 1, 3),
        "PSNR in dB": ("psnr", 1, 2),
    }
    doses = summary.index.unique("dose_range")
    titles = [f"{dose} dose, {title}" for dose in doses for title in columns]
    text = [f"| method | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    lines: dict[Any, pd.Series] = dict(summary.iterrows())
    for group, method in dict.fromkeys((group, method) for _, group, method in lines):
        cells = [
            _cell(lines.get((dose, group, method)), *column)
            for dose in doses
            for column in columns.values()
        ]
        name = f"{group}: {label_of(method)}" if group else label_of(method)
        text.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*text, "", _sources_note(summary)])


def _cell(line: pd.Series | None, score: str, factor: float, digits: int) -> str:
    """Write a mean, with its interval if it has one; nothing where there is no line."""
    if line is None:
        return ""
    text = f"{factor * line[score]:.{digits}f}"
    low, high = line.get(f"{score}_low", math.nan), line.get(f"{score}_high", math.nan)
    if math.isnan(low):
        return text
    return f"{text} ({factor * low:.{digits}f} to {factor * high:.{digits}f})"


def _sources_note(summary: pd.DataFrame) -> str:
    sources, share = summary["sources"].max(), summary["largest_share"].max()
    return (
        f"Instances are of up to {sources} sources, and up to {100 * share:.0f} % of them "
        "of one source. A mean counts all instances alike, one over sources all sources."
    )


def latex_table(summary: pd.DataFrame, *, paper: bool = False) -> str:
    r"""Return means and standard deviations in the layout of the paper's Table 1.

    The result is a `tabular` that needs the package booktabs: a line a method, with MSE in
    thousandths and SSIM of each dose range, and their means over sources, which the paper's
    scores lack. The best mean of each column and group is bold.

    Parameters
    ----------
    summary : DataFrame
        Table from `summarise`.
    paper : bool
        Use the paper's scores, in place of today's.
    """
    suffix = "_paper" if paper else ""
    order = summary.reset_index().drop_duplicates(["group", "method"])
    keys = list(zip(order["group"], order["method"], strict=True))
    wide = summary.unstack("dose_range").reindex(pd.MultiIndex.from_tuples(keys))
    columns = {}
    for dose in summary.index.unique("dose_range"):
        for score, title in (("mse", r"MSE ($\times 10^{-3}$)"), ("ssim", "SSIM")):
            factor, name = (1e3 if score == "mse" else 1), score + suffix
            top = (f"{dose.capitalize()} dose", title)
            columns[*top, "Mean"] = factor * wide[name, dose]
            columns[*top, "Std"] = factor * wide[f"{name}_deviation", dose]
            if not paper:
                columns[*top, "Sources"] = factor * wide[f"{score}_sources", dose]
    table = pd.DataFrame(columns)
    labels = [(group, label_of(method)) for group, method in keys]
    if not any(group for group, _ in keys):
        labels = [(label,) for _, label in labels]
    table.index = pd.MultiIndex.from_tuples(labels)
    style = table.style.apply(_bold_best, axis=None).format("{:.3f}", na_rep="")
    return style.format_index(escape="latex").to_latex(
        hrules=True, multicol_align="c", multirow_align="naive"
    )


def _bold_best(table: pd.DataFrame) -> NDArray[np.str_]:
    """Return the style of each cell: the best mean of a column, in its group, is bold."""
    best = pd.DataFrame(False, table.index, table.columns)
    group = [key[0] if len(key) > 1 else "" for key in table.index]
    columns: list[Any] = list(table)
    for column in columns:
        if column[-1] != "Std":
            choice = "min" if column[1].startswith("MSE") else "max"
            best[column] = table[column] == table[column].groupby(group).transform(choice)
    return np.where(best, "textbf:--rwrap;", "")
