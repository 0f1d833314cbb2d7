"""All figures come from the file of a benchmark, of the instances that were scored."""

import json
import math
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from typer.testing import CliRunner

mpl.use("Agg")  # before pyplot looks for a screen

import matplotlib.pyplot as plt

from emdn.benchmark.error_maps import mean_error
from emdn.benchmark.figures import FigureConfig, plan_figures, save_figure, write_figures
from emdn.benchmark.instances import BenchmarkConfig, make_instance
from emdn.benchmark.methods import METHODS, choose
from emdn.benchmark.plots import plot_error_against_dose
from emdn.benchmark.rows import read_rows, telling_instances
from emdn.benchmark.run import run_benchmark
from emdn.cli import app
from emdn.data.corpus import Entry, write_manifest
from emdn.io import write_micrograph
from emdn.specimens.micrographs import micrograph

FILTERS = choose(["unfiltered", "gaussian", "median", "gaussian-aware"])
SMALL = FigureConfig(instances=3, crop=128, formats=("svg",))
NAMES = [
    "error_against_dose",
    "fig10_curves_batch_10",
    "fig4_mse_distributions",
    "fig4_mse_distributions_paper",
    "fig4_ssim_distributions",
    "fig4_ssim_distributions_paper",
    "fig5_error_maps",
    "fig6_examples_low_dose",
    "fig7_examples_ordinary_dose",
    "fig8_stem_low_dose",
    "fig8_stem_ordinary_dose",
    "fig9_curves_batch_2",
    "spectra_low_dose",
    "spectra_ordinary_dose",
]


def make_folder(path, seed, modalities):
    """Make micrographs, of which one is smaller than the maps of errors."""
    rng = np.random.default_rng(seed)
    entries = []
    for number, modality in enumerate(modalities):
        side = 128 + 8 * number if number else 100
        write_micrograph(path / f"{number}.tif", micrograph((side, 140), rng))
        entries.append(Entry(f"{number}.tif", modality, "test", modality))
    write_manifest(path, entries)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    modalities = ("TEM", "STEM HAADF", "TEM bio (ssTEM)")
    return make_folder(tmp_path_factory.mktemp("micrographs"), 0, modalities)


@pytest.fixture(scope="module")
def config(folder):
    return BenchmarkConfig(folder, instances=6, crop=140)


@pytest.fixture(scope="module")
def results(config, tmp_path_factory):
    """Score four filters."""
    path = tmp_path_factory.mktemp("results") / "scores.csv"
    return run_benchmark(config, path, FILTERS)


@pytest.fixture(scope="module")
def written(results, folder, tmp_path_factory):
    """Write all figures once."""
    return write_figures(results, folder, tmp_path_factory.mktemp("figures"), SMALL)


def drawn(results, folder, config):
    """Return the figures of a configuration by name, without writing them."""
    return {name: draw() for name, draw in plan_figures(results, folder, config).items()}


@pytest.fixture(autouse=True)
def _closed():
    """Fail a test that leaves a figure open."""
    yield
    assert plt.get_fignums() == []


def test_every_figure_is_written_and_nothing_else_is_left(written):
    assert [path.name for path in written] == [f"{name}.svg" for name in NAMES]
    assert sorted(written[0].parent.iterdir()) == written
    assert all(path.read_text().startswith("<?xml") for path in written)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_figure_is_the_same_file(results, tmp_path, suffix):
    rows = read_rows(results)
    for name in ("one", "two"):
        figure = plot_error_against_dose(rows)
        (path,) = save_figure(figure, tmp_path / name, [suffix])
        assert path.suffix == f".{suffix}"
    one, two = (each.read_bytes() for each in sorted(tmp_path.iterdir()))
    assert one == two


def test_a_figure_that_cannot_be_written_leaves_the_old_one(results, tmp_path, monkeypatch):
    figure = plot_error_against_dose(read_rows(results))
    (path,) = save_figure(figure, tmp_path / "figure", ["svg"])
    before = path.read_bytes()

    def fill_the_disk(_, temporary, **__):
        temporary.write_bytes(b"<?xml")
        raise OSError("no space left")

    monkeypatch.setattr(type(figure), "savefig", fill_the_disk)
    with pytest.raises(OSError, match="no space left"):
        save_figure(figure, tmp_path / "figure", ["svg"])
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [before]


def test_figures_are_about_the_first_method(results, folder):
    names = ("median", "gaussian", "unfiltered")
    figures = drawn(results, folder, FigureConfig(names, instances=3, crop=128))
    assert figures["fig5_error_maps"].axes[0].get_ylabel().startswith("median, low dose")
    titles = [a.get_title() for a in figures["fig6_examples_low_dose"].axes[:4]]
    assert [title.splitlines()[0] for title in titles] == [
        "noisy",
        "median",
        "Gaussian",
        "truth",
    ]
    (legend,) = figures["spectra_low_dose"].legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "noisy",
        "median",
        "Gaussian",
        "truth",
    ]


def test_by_default_they_are_about_the_best(results, folder):
    figures = drawn(results, folder, replace(SMALL, only="fig[45]*"))
    (legend,) = figures["fig4_mse_distributions"].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == 3
    assert names[-1] == "unfiltered"
    assert figures["fig5_error_maps"].axes[0].get_ylabel().startswith(names[0])


def test_examples_are_the_instances_that_were_scored(results, folder, config):
    names = ("median", "gaussian", "unfiltered")
    figures = drawn(results, folder, FigureConfig(names, only="fig7*"))
    rows = read_rows(results)
    chosen = telling_instances(rows, "ordinary", "median")
    of_median = rows[(rows["dose_range"] == "ordinary") & (rows["method"] == "median")]
    scores = of_median.set_index("instance")["mse"]
    axes = figures["fig7_examples_ordinary_dose"].axes
    for line, (rank, number) in zip(range(3), chosen.items(), strict=True):
        noisy, median = axes[4 * line : 4 * line + 2]
        assert noisy.get_ylabel().startswith(f"{rank}, no. {number}\n")
        assert f"MSE {1e3 * scores[number]:.2f} " in median.get_title()
        instance = make_instance(config, "ordinary", number)
        np.testing.assert_array_equal(noisy.images[0].get_array(), instance.noisy)


def test_figures_of_stem_show_stem(results, folder):
    figures = drawn(results, folder, FigureConfig(only="fig8*low*"))
    labels = [axes.get_ylabel() for axes in figures["fig8_stem_low_dose"].axes]
    labels = [label for label in labels if label]
    assert len(labels) == 3
    assert all("STEM HAADF" in label for label in labels)


def test_maps_are_means_of_instances_that_are_large_enough(results, folder):
    figures = drawn(results, folder, FigureConfig(("median",), 6, 128, only="fig5*"))
    cropped = BenchmarkConfig(folder, instances=6, crop=128)
    instances = [make_instance(cropped, "low", number) for number in range(6)]
    errors = mean_error(instances, METHODS["median"], (128, 128))
    assert errors[1:] == (4, 2, 0)
    axes = figures["fig5_error_maps"].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), errors.mean)
    assert "4 instances\n(left out: 2 too small)" in axes.get_ylabel()


@pytest.mark.parametrize(("number", "batch"), [(9, 2), (10, 10)])
def test_learning_curves_are_of_the_experiments_of_that_batch(
    number, batch, results, folder
):
    figures = drawn(results, folder, FigureConfig(only=f"fig{number}*"))
    (legend,) = figures[f"fig{number}_curves_batch_{batch}"].legends
    names = {text.get_text() for text in legend.get_texts()}
    assert ("RMSProp" in names) == (batch == 10)
    assert ("batch renormalization" in names) == (batch == 2)


def test_micrographs_that_were_not_scored_are_refused(results, tmp_path):
    other = make_folder(tmp_path, 1, ("TEM", "STEM HAADF"))
    with pytest.raises(ValueError, match="choose the folder that the benchmark had"):
        drawn(results, other, FigureConfig(only="fig6*"))


def test_results_without_their_settings_are_refused(results, folder, tmp_path):
    lone = tmp_path / "lone.csv"
    lone.write_bytes(results.read_bytes())
    with pytest.raises(ValueError, match=r"lone.json: does not exist"):
        write_figures(lone, folder, tmp_path, SMALL)


def test_settings_of_later_versions_do_no_harm(results, folder, tmp_path):
    later = tmp_path / "later.csv"
    later.write_bytes(results.read_bytes())
    about = json.loads(results.with_suffix(".json").read_text())
    about["config"]["later"] = True
    later.with_suffix(".json").write_text(json.dumps(about))
    figures = drawn(later, folder, FigureConfig(only="*paper"))
    assert [*figures] == ["fig4_mse_distributions_paper", "fig4_ssim_distributions_paper"]


def rewrite(results, path, rows):
    """Write a benchmark with changed rows."""
    rows.to_csv(path, index=False, na_rep="nan")
    path.with_suffix(".json").write_bytes(results.with_suffix(".json").read_bytes())
    return path


def test_methods_that_score_otherwise_now_are_refused(results, folder, tmp_path):
    """As a network does whose weights were trained further."""
    rows = read_rows(results).assign(mse=lambda rows: 1.02 * rows["mse"])
    other = rewrite(results, tmp_path / "other.csv", rows)
    with pytest.raises(ValueError, match="weights or code are others now; score again"):
        drawn(other, folder, FigureConfig(only="fig6*"))
    assert len(drawn(other, folder, FigureConfig(only="fig4*"))) == 4


def test_broken_scores_do_no_harm(results, folder, tmp_path):
    rows = read_rows(results)
    broken = (rows["instance"] == 1) & (rows["method"] == "median")
    rows.loc[broken, ["mse", "ssim", "mse_paper", "ssim_paper"]] = math.nan
    path = rewrite(results, tmp_path / "broken.csv", rows)
    figures = drawn(path, folder, FigureConfig(("median",), only="*mse*"))
    assert "1 scores of median" in figures["fig4_mse_distributions"].get_supxlabel()


@pytest.mark.parametrize("formats", [(), ("png", "jpeg")])
def test_unknown_formats_are_refused(formats):
    with pytest.raises(ValueError, match="formats must be of png, pdf, svg"):
        FigureConfig(formats=formats)


def test_a_pattern_of_no_figure_is_refused(results, folder, tmp_path):
    with pytest.raises(ValueError, match=r"only must match one of fig4_.*; got 'fig3\*'"):
        write_figures(results, folder, tmp_path / "none", FigureConfig(only="fig3*"))
    assert not (tmp_path / "none").exists()


def test_the_command_draws_what_it_is_asked_to(results, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    arguments = ["figures", results, "--data", folder, "-o", tmp_path, "--instances", 2]
    arguments += ["--methods", "median, gaussian-aware", "--crop", 128, "--formats", "svg"]
    arguments += ["--only", "fig[45]*"]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    written = [tmp_path / f"{name}.svg" for name in NAMES[2:7]]
    assert sorted(tmp_path.iterdir()) == written
    assert [*map(str, written)] == result.stdout.splitlines()


def test_the_command_says_what_is_wrong(results, folder, tmp_path):
    arguments = ["figures", results, "--data", folder, "-o", tmp_path, "--methods", "magic"]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 1
    assert "among unfiltered, gaussian, median, gaussian-aware; got magic" in result.output


def test_results_of_five_digits_are_those_of_the_same_instances(results, folder, tmp_path):
    """As they are published."""
    path = tmp_path / "rounded.csv"
    read_rows(results).to_csv(path, index=False, float_format="%.5g")
    path.with_suffix(".json").write_bytes(results.with_suffix(".json").read_bytes())
    assert [*drawn(path, folder, FigureConfig(only="fig6*"))] == ["fig6_examples_low_dose"]
