"""Draw the chart of scores in the README from the committed rows of the test split.

python studies/weights/chart.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from emdn.benchmark.methods import BLIND, COMPACT, TRUE_GAIN, label_of
from emdn.benchmark.rows import RESULTS, read_rows
from emdn.benchmark.tables import summarise
from emdn.plots import BLUE, STYLE

CHART = Path(__file__).parents[2] / "book" / "_static" / "scores.png"
METHODS = (TRUE_GAIN, COMPACT, "ffdnet-vst", "bm3d-vst", "wavelet-vst", "nl-means-vst")
METHODS += ("gaussian-aware", BLIND)
OWN = (TRUE_GAIN, COMPACT, BLIND)
NOISY = "unfiltered"
SOFT = "#b8c4cc"  # of methods that are not this project's
TITLES = {
    "low": "low dose: 25 to some 300 counts",
    "ordinary": "ordinary dose: 200 to 2500 counts",
}


def draw(axes: Axes, scores: pd.DataFrame, title: str) -> None:
    """Draw what is left of the squared error, the least at the top."""
    left = 100 * scores / scores.loc[NOISY]
    left = left.loc[list(METHODS)].sort_values("mse_sources", ascending=False)
    names = [label_of(name) for name in left.index]
    colours = [BLUE if name in OWN else SOFT for name in left.index]
    bars = axes.barh(names, left["mse_sources"], color=colours, label="mean over sources")
    axes.plot(left["mse"], names, "k|", markersize=11, label="mean over instances")
    axes.bar_label(bars, fmt="%.1f", padding=4)
    axes.set_xlim(right=1.1 * left["mse_sources"].max())
    axes.set(title=title, xlabel="squared error left, % of the noisy image's")


def main() -> None:
    """Write the chart."""
    rows = read_rows(RESULTS / "test.csv.xz")
    chosen = rows[rows["method"].isin([*METHODS, NOISY])]
    summary = summarise(chosen).droplevel("group")[["mse", "mse_sources"]]
    with plt.rc_context(STYLE):
        figure, both = plt.subplots(1, 2, figsize=(10, 2.9))
        for axes, (dose, title) in zip(both, TITLES.items(), strict=True):
            draw(axes, summary.loc[dose], title)
        handles, labels = both[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.savefig(CHART, dpi=110)


if __name__ == "__main__":
    main()
