"""Summaries are plain statistics of rows, and tables hold them all."""

import math

import numpy as np
import pytest

from emdn.benchmark.rows import Row
from emdn.benchmark.tables import (
    DOSE_EDGES,
    bootstrap_interval,
    latex_table,
    markdown_table,
    summarise,
    to_columns,
)


def row(method="x", source="a", error=0.001, **changes):
    values = Row("low", 0, method, "f", source, "m", 1.0, 1.0, error, 0.5, error, 0.5, 0.1)
    return values._replace(**changes)


@pytest.fixture
def rows(rng):
    """Return rows of two methods on 12 instances a dose range, of three sources."""
    return [
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


def test_summaries_are_means_and_deviations_over_instances():
    rows = [row("x", "a", 0.001), row("x", "b", 0.003), row("y", "a", 0.002)]
    x, y = summarise(rows)["low"]
    assert (x.method, x.instances, y.instances) == ("x", 2, 1)
    assert x.mse == pytest.approx(0.002)
    assert x.mse_deviation == pytest.approx(0.001)
    assert x.mse_interval == pytest.approx((0.001, 0.003))
    assert x.psnr == pytest.approx(np.mean([30, -10 * math.log10(0.003)]))


def test_both_conventions_have_their_own_mean_and_deviation(rows):
    for summary in summarise(rows)["ordinary"]:
        chosen = [
            each
            for each in rows
            if (each.dose_range, each.method) == ("ordinary", summary.method)
        ]
        for score in ("mse", "ssim", "psnr", "mse_paper", "ssim_paper"):
            values = [getattr(each, score) for each in chosen]
            assert getattr(summary, score) == pytest.approx(np.mean(values))
            assert getattr(summary, f"{score}_deviation") == pytest.approx(np.std(values))


@pytest.mark.parametrize("by", ["source", "modality", "dose"])
def test_groups_part_the_instances_and_their_means_make_the_whole(rows, by):
    whole = {(dose, s.method): s for dose, each in summarise(rows).items() for s in each}
    parts = summarise(rows, by=by)
    for (dose, method), summary in whole.items():
        chosen = [each for each in parts[dose] if each.method == method]
        assert len({each.group for each in chosen}) == len(chosen) > 1
        counts = [each.instances for each in chosen]
        assert sum(counts) == summary.instances
        mean = np.average([each.mse for each in chosen], weights=counts)
        assert mean == pytest.approx(summary.mse)


def test_doses_fall_into_bins_in_the_order_of_their_size():
    doses = [0.5, 10, 19.9, 20, 999, 1000, 1e6]
    summaries = summarise([row(dose=each) for each in doses[::-1]], by="dose")["low"]
    assert [(each.group, each.instances) for each in summaries] == [
        ("0 to 10 ppx", 1),
        ("10 to 20 ppx", 2),
        ("20 to 50 ppx", 1),
        ("500 to 1000 ppx", 1),
        ("1000 ppx or more", 2),
    ]
    assert list(DOSE_EDGES) == sorted(DOSE_EDGES)


def test_a_perfect_result_has_an_infinite_psnr():
    (summary,) = summarise([row(mse=0.0), row()])["low"]
    assert summary.psnr == math.inf


def test_the_bootstrap_knows_that_a_source_repeats_itself():
    """A hundred copies of ten values say no more than the ten."""
    values = np.random.default_rng(0).normal(size=10)
    names = [str(n) for n in range(10)]
    once = bootstrap_interval(values, names)
    often = bootstrap_interval(np.repeat(values, 100), np.repeat(names, 100).tolist())
    assert often == pytest.approx(once)
    low, high = once
    assert low < values.mean() < high


def test_one_source_says_nothing_of_others(rows):
    assert all(map(math.isnan, bootstrap_interval(np.arange(5.0), list("aaaaa"))))
    only = [each for each in rows if each.source == "a"]
    (summary, _) = summarise(only)["low"]
    assert all(map(math.isnan, summary.mse_interval))
    assert "(" not in markdown_table(summarise(only))


def test_within_a_source_micrographs_are_drawn(rows):
    for summary in summarise(rows, by="source")["low"]:
        low, high = summary.mse_interval
        assert low < summary.mse < high


@pytest.mark.parametrize("by", [None, "source", "dose"])
def test_tables_have_a_line_for_each_method_of_each_group(rows, by):
    """Also where a dose range lacks a group, as high doses are in one only."""
    table = summarise(rows, by=by)
    keys = {(s.group, s.method) for summaries in table.values() for s in summaries}
    lines = markdown_table(table).splitlines()
    assert len(lines) == 2 + len(keys)
    assert {line.count("|") for line in lines} == {2 + 3 * 2}
    body = latex_table(table).split(r"\midrule", 1)[1].splitlines()
    methods = [line for line in body if line.startswith(("x", "y"))]
    assert len(methods) == len(keys)
    assert {line.count("&") for line in methods} == {4 * 2}


@pytest.mark.parametrize(("paper", "suffix"), [(False, ""), (True, "_paper")])
def test_the_latex_table_is_table_1_with_the_best_in_bold(rows, paper, suffix):
    table = summarise(rows)
    text = latex_table(table, paper=paper)
    assert text.count(r"\multicolumn{4}{c}") == text.count(r"\cmidrule(lr)") == 2
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    first = next(line for line in text.splitlines() if line.startswith(r"x\_1"))
    cells = first.removesuffix(r" \\").split(" & ")[1:]
    numbers = [float(cell.removeprefix(r"\textbf{").rstrip("}")) for cell in cells]
    expected = [
        factor * getattr(table[dose][0], f"{score}{suffix}{kind}")
        for dose in table
        for score, factor in (("mse", 1e3), ("ssim", 1))
        for kind in ("", "_deviation")
    ]
    assert numbers == pytest.approx(expected, abs=6e-4)
    assert text.count(r"\textbf") == 4
    for dose in table:
        best = min(getattr(s, f"mse{suffix}") for s in table[dose])
        assert rf"\textbf{{{1e3 * best:.3f}}}" in text


def test_names_are_safe_in_latex():
    text = latex_table(summarise([row("my_own.module:100%&more")]))
    assert r"my\_own.module:100\%\&more &" in text


def test_columns_hold_every_value_and_intervals_as_two(rows):
    columns = to_columns(rows)
    assert list(columns) == list(Row._fields)
    assert [Row(*values) for values in zip(*columns.values(), strict=True)] == rows
    summaries = summarise(rows)["low"]
    columns = to_columns(summaries)
    assert {len(column) for column in columns.values()} == {2}
    assert (columns["ssim_low"][1], columns["ssim_high"][1]) == summaries[1].ssim_interval
    assert not any(name.endswith("_interval") for name in columns)
