"""The published scores are of the weights that ship, and say what their rows say."""

from pathlib import Path

import numpy as np
import pytest

from emdn.benchmark.filters import BASELINES, STABILISED, TOLD
from emdn.benchmark.methods import NETWORKS
from emdn.benchmark.rows import RESULTS, read_about, read_rows
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


def test_every_method_has_every_instance(results):
    rows, about = results
    wanted = about["config"]["instances"]
    for dose_range in about["config"]["dose_ranges"]:
        for method in about["methods"]:
            numbers = [r.instance for r in rows if key(r) == (dose_range, method)]
            assert sorted(numbers) == list(range(wanted))


def test_all_scores_are_finite(results):
    rows, _ = results
    assert np.isfinite([(row.mse, row.ssim, row.seconds) for row in rows]).all()


def test_the_summary_says_what_the_rows_say(results):
    rows, about = results
    for dose_range, scores in about["scores"].items():
        assert list(scores) == about["methods"]
        for method, found in scores.items():
            own = [row for row in rows if key(row) == (dose_range, method)]
            assert found["mse"] == pytest.approx(np.mean([r.mse for r in own]), rel=1e-4)
            assert found["ssim"] == pytest.approx(np.mean([r.ssim for r in own]), rel=1e-4)


def test_the_test_split_was_scored_by_all_methods_on_thousands_of_instances(rows_of_test):
    methods = {row.method for row in rows_of_test}
    assert {*NETWORKS, *BASELINES, *TOLD, *STABILISED, "FFDNet, stabilised"} <= methods
    assert len({(row.dose_range, row.instance) for row in rows_of_test}) >= 2000


def test_the_readme_shows_means_of_these_rows(rows_of_test):
    lines = (ROOT / "README.md").read_text().splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    shown = {name: texts for name, *texts in cells if name in (*NETWORKS, *BASELINES)}
    assert len(shown) > 5
    for method, texts in shown.items():
        for dose_range, text in zip(("low", "ordinary"), texts, strict=True):
            own = [row for row in rows_of_test if key(row) == (dose_range, method)]
            error = 1e3 * np.mean([row.mse for row in own])
            likeness = np.mean([row.ssim for row in own])
            assert text == f"{error:.3f}, {likeness:.3f}"


def key(row):
    """Return what a summary is about."""
    return row.dose_range, row.method
