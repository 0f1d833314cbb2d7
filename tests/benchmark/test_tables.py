"""Summaries are plain statistics of rows, and tables hold them all."""

import math

import numpy as np
import pandas as pd
import pytest

from emdn.benchmark.rows import Row
from emdn.benchmark.tables import (
    DOSE_EDGES,
    bootstrap_interval,
    latex_table,
    markdown_table,
    summarise,
)

SCORES = ("mse", "ssim", "psnr", "mse_paper", "ssim_paper")


def row(method="x", source="a", error=0.001, **changes):
    values = Row("low", 0, method, "f", source, "m", 1.0, 1.0, error, 0.5, error, 0.5, 0.1)
    return values._replace(**changes)


@pytest.fixture
def rows(rng):
    """Return rows of two methods on 12 instances a dose range, of three sources."""
    return pd.DataFrame(
        [
            row(
                method,
                source="abc"[number % 3],
                file=f"{number % 6}.tif",
                dose_range=dose_range,
                modality=("TEM", "SEM")[number % 2],
                dose=dose * (1 + number),
                mse=rng.uniform(0.001, 0.01),
                mse_paper=rng.uniform(0.001, 0.01),
                ssim=rng.uniform(),
                ssim_paper=rng.uniform(),
            )
            for dose_range, dose in (("low", 4.0), ("ordinary", 90.0))
            for number in range(12)
            for method in ("x_1", "y")
        ]
    )


def test_summaries_are_means_and_deviations_over_instances():
    rows = pd.DataFrame([row("x", "a", 0.001), row("x", "b", 0.003), row("y", "a", 0.002)])
    summary = summarise(rows).loc[("low", "")]
    assert summary["instances"].to_dict() == {"x": 2, "y": 1}
    x = summary.loc["x"]
    assert x["mse"] == pytest.approx(0.002)
    assert x["mse_deviation"] == pytest.approx(0.001)
    assert (x["mse_low"], x["mse_high"]) == pytest.approx((0.001, 0.003))
    assert x["psnr"] == pytest.approx(np.mean([30, -10 * math.log10(0.003)]))


def test_means_over_sources_count_all_sources_alike():
    errors = {"a": (0.001, 0.002, 0.003), "b": (0.008,)}
    rows = pd.DataFrame([row("x", name, e) for name in errors for e in errors[name]])
    line = summarise(rows).loc[("low", "", "x")]
    assert line["mse"] == pytest.approx(0.0035)
    assert line["mse_sources"] == pytest.approx((0.002 + 0.008) / 2)
    assert (line["sources"], line["largest_share"]) == (2, 0.75)
    assert "75 % of them of one source" in markdown_table(summarise(rows))


def test_both_conventions_have_their_own_mean_and_deviation(rows):
    for (dose_range, _, method), line in summarise(rows).iterrows():
        chosen = rows[(rows["dose_range"] == dose_range) & (rows["method"] == method)]
        chosen = chosen.assign(psnr=-10 * np.log10(chosen["mse"]))
        for score in SCORES:
            assert line[score] == pytest.approx(np.mean(chosen[score]))
            assert line[f"{score}_deviation"] == pytest.approx(np.std(chosen[score]))


@pytest.mark.parametrize("by", ["source", "modality", "dose"])
def test_groups_part_the_instances_and_their_means_make_the_whole(rows, by):
    parts = summarise(rows, by=by)
    for (dose_range, _, method), line in summarise(rows).iterrows():
        chosen = parts.xs((dose_range, method), level=("dose_range", "method"))
        assert chosen.index.is_unique
        assert len(chosen) > 1
        assert chosen["instances"].sum() == line["instances"]
        mean = np.average(chosen["mse"], weights=chosen["instances"])
        assert mean == pytest.approx(line["mse"])


def test_dose_ranges_and_methods_keep_their_order_and_groups_are_sorted(rows):
    summary = summarise(rows.iloc[::-1], by="source")
    assert list(summary.index.unique("dose_range")) == ["ordinary", "low"]
    keys = list(summary.loc["ordinary"].index)
    assert keys == [(group, method) for group in "abc" for method in ("y", "x_1")]


def test_doses_fall_into_bins_in_the_order_of_their_size():
    doses = [0.5, 10, 19.9, 20, 999, 1000, 1e6]
    rows = pd.DataFrame([row(dose=dose) for dose in doses[::-1]])
    summary = summarise(rows, by="dose").loc["low"].droplevel("method")
    assert list(summary["instances"].items()) == [
        ("0 to 10 ppx", 1),
        ("10 to 20 ppx", 2),
        ("20 to 50 ppx", 1),
        ("500 to 1000 ppx", 1),
        ("1000 ppx or more", 2),
    ]
    assert list(DOSE_EDGES) == sorted(DOSE_EDGES)


def test_a_perfect_result_has_an_infinite_psnr():
    (psnr,) = summarise(pd.DataFrame([row(error=0.0), row()]))["psnr"]
    assert psnr == math.inf


def test_the_bootstrap_knows_that_a_source_repeats_itself():
    """A hundred copies of ten values say no more than the ten."""
    values = np.random.default_rng(0).normal(size=10)
    names = [str(n) for n in range(10)]
    once = bootstrap_interval(values, names)
    often = bootstrap_interval(np.repeat(values, 100), np.repeat(names, 100))
    assert often == pytest.approx(once)
    low, high = once
    assert low < values.mean() < high


def test_one_source_says_nothing_of_others(rows):
    assert all(map(math.isnan, bootstrap_interval(np.arange(5.0), list("aaaaa"))))
    summary = summarise(rows[rows["source"] == "a"])
    assert summary[["mse_low", "mse_high"]].isna().all(axis=None)
    assert "(" not in markdown_table(summary)


def test_within_a_source_micrographs_are_drawn(rows):
    summary = summarise(rows, by="source")
    assert (summary["mse_low"] < summary["mse"]).all()
    assert (summary["mse"] < summary["mse_high"]).all()


@pytest.mark.parametrize("by", [None, "source", "dose"])
def test_tables_have_a_line_for_each_method_of_each_group(rows, by):
    """Also where a dose range lacks a group, as high doses are in one only."""
    summary = summarise(rows, by=by)
    keys = {(group, method) for _, group, method in summary.index}
    lines = markdown_table(summary).splitlines()
    assert len(lines) == 2 + len(keys) + 2  # a header, and a note behind an empty line
    assert {line.count("|") for line in lines[:-2]} == {2 + 5 * 2}
    body = latex_table(summary).split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if "&" in line]
    assert len(lines) == len(keys)
    assert {line.count("&") for line in lines} == {6 * 2 + (by is not None)}


@pytest.mark.parametrize(("paper", "suffix"), [(False, ""), (True, "_paper")])
def test_the_latex_table_is_table_1_with_the_best_in_bold(rows, paper, suffix):
    summary = summarise(rows)
    text = latex_table(summary, paper=paper)
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    first = next(line for line in text.splitlines() if line.startswith(r"x\_1"))
    cells = first.removesuffix(r" \\").split(" & ")[1:]
    numbers = [float(cell.removeprefix(r"\textbf{").rstrip("}")) for cell in cells]
    kinds = [suffix, f"{suffix}_deviation", *([] if paper else ["_sources"])]
    expected = [
        factor * summary.loc[(dose, "", "x_1"), score + kind]
        for dose in ("low", "ordinary")
        for score, factor in (("mse", 1e3), ("ssim", 1))
        for kind in kinds
    ]
    assert numbers == pytest.approx(expected, abs=6e-4)
    assert text.count(r"\textbf") == (4 if paper else 8)
    for best in 1e3 * summary[f"mse{suffix}"].groupby("dose_range", observed=True).min():
        assert rf"\textbf{{{best:.3f}}}" in text


def test_names_are_safe_in_latex_and_labels_are_shown():
    text = latex_table(
        summarise(pd.DataFrame([row("my_own.module:100%&more"), row("wavelet-vst")]))
    )
    assert r"my\_own.module:100\%\&more &" in text
    assert "\nwavelet, stabilised &" in text
