"""The published scores are of the weights that ship, and say what their rows say."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emdn.benchmark.methods import METHODS, STANDARD
from emdn.benchmark.rows import RESULTS, read_about, read_rows
from emdn.benchmark.tables import summarise
from emdn.weights import shipped_hashes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["test", "val"])
def results(request):
    path = RESULTS / f"{request.param}.csv.xz"
    return read_rows(path), read_about(path)


@pytest.fixture(scope="module")
def rows_of_test():
    return read_rows(RESULTS / "test.csv.xz")


def test_scores_are_of_the_weights_that_ship(results):
    _, about = results
    assert about["weights"] == shipped_hashes()


def test_methods_are_named_by_identifiers(results):
    rows, about = results
    assert list(rows["method"].unique()) == about["methods"]
    assert {*about["methods"]} <= METHODS.keys()


def test_every_method_has_every_instance(results):
    rows, about = results
    wanted = list(range(about["config"]["instances"]))
    numbers = rows.groupby(["dose_range", "method"])["instance"].apply(list)
    assert len(numbers) == len(about["config"]["dose_ranges"]) * len(about["methods"])
    assert all(own == wanted for own in numbers)


def test_all_scores_are_finite(results):
    rows, _ = results
    assert np.isfinite(rows[["mse", "ssim", "seconds"]]).all(axis=None)


def test_the_summary_says_what_the_rows_say(results):
    rows, about = results
    means = rows.groupby(["dose_range", "method"])[["mse", "ssim"]].mean()
    for dose_range, scores in about["scores"].items():
        assert list(scores) == about["methods"]
        for method, published in scores.items():
            mean = means.loc[(dose_range, method)]
            assert published["mse"] == pytest.approx(mean["mse"], rel=1e-4)
            assert published["ssim"] == pytest.approx(mean["ssim"], rel=1e-4)


def test_the_test_split_was_scored_by_all_methods_on_thousands_of_instances(rows_of_test):
    wanted = {*(method.name for method in STANDARD), "ffdnet-vst"}
    assert wanted <= {*rows_of_test["method"]}
    assert len(rows_of_test.drop_duplicates(["dose_range", "instance"])) >= 2000


def test_the_model_card_shows_means_of_these_rows(rows_of_test):
    card = (ROOT / "emdn" / "weights" / "auto.md").read_text()
    section = re.split(r"^### ", card.partition("### On 34 test")[2], flags=re.M)[0]
    summary = summarise(rows_of_test)
    assert f"{100 * summary['largest_share'].max():.0f} % of the instances" in section
    names = {method.label: method.name for method in METHODS.values()}
    tables = re.split(r"^(Low|Ordinary) dose:$", section, flags=re.M)[1:]
    assert tables[::2] == ["Low", "Ordinary"]
    for dose, table in zip(("low", "ordinary"), tables[1::2], strict=True):
        rows = re.findall(
            r"^\| (.+?) \| (\S+) .*?\| (\S+) \| (\S+) .*?\| (\S+) \|$", table, re.M
        )
        shown = {names[label]: scores for label, *scores in rows if label in names}
        assert len(shown) > 5
        for method, scores in shown.items():
            mean = summary.loc[(dose, "", method)]
            wanted = mean[["mse", "mse_sources", "ssim", "ssim_sources"]]
            assert scores == [f"{each:.3f}" for each in wanted * [1e3, 1e3, 1, 1]]


def test_learning_curves_are_whole_and_of_the_experiments_of_the_paper():
    curves = pd.read_csv(RESULTS / "learning_curves.csv")
    assert (curves["mse"] > 0).all()
    trainings = curves.groupby(["figure", "seed", "variant"])["step"].apply(list)
    assert all(steps == trainings.iloc[0] for steps in trainings)
    variants = curves.groupby(["figure", "seed"])["variant"].nunique()
    assert {number for number, _ in variants.index} == {9, 10}
    assert (variants == 5).all()
