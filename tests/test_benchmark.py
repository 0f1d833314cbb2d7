"""The benchmark scores by published rules, loses no row and repeats none."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from cheap_methods import cheap, deadly
from skimage.metrics import structural_similarity
from typer.testing import CliRunner

from emdn.benchmark import (
    LARGEST_MSE,
    NETWORK,
    BenchmarkConfig,
    Row,
    benchmark,
    bootstrap_interval,
    make_instance,
    markdown_table,
    read_rows,
    score,
    score_instance,
    standard_methods,
    summarise,
)
from emdn.cli import app
from emdn.io import write_micrograph
from emdn.synthetic import micrograph


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make six micrographs of three sources, four of them to test on."""
    path = tmp_path_factory.mktemp("micrographs")
    rng = np.random.default_rng(0)
    rows = []
    for number, source in enumerate("aabbcc"):
        file = f"{number}.tif"
        write_micrograph(path / file, micrograph((40 + 8 * number, 64), rng))
        rows.append((file, source, "val" if source == "c" else "test", f"kind {source}"))
    with (path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "source", "split", "modality"))
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def config(folder):
    return BenchmarkConfig(folder, instances=5, crop=48)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """Run the benchmark once without any accident."""
    return benchmark(config, tmp_path_factory.mktemp("whole") / "rows.csv", methods=cheap)


def untimed(path):
    """Return rows without their times, which alone differ from run to run."""
    return [row._replace(seconds=0.0) for row in read_rows(path)]


def test_every_instance_has_a_row_for_every_method_in_order(config, whole):
    keys = [(row.dose_range, row.instance, row.method) for row in read_rows(whole)]
    assert keys == [
        (dose, number, method)
        for dose in ("low", "ordinary")
        for number in range(config.instances)
        for method in cheap(dose)
    ]


def test_only_the_micrographs_of_the_split_take_turns(whole):
    files = [row.file for row in read_rows(whole) if row.method == "median"]
    assert files == 2 * ["0.tif", "1.tif", "2.tif", "3.tif", "0.tif"]
    assert {row.source for row in read_rows(whole)} == {"a", "b"}


def test_an_instance_depends_on_its_number_and_the_seed_alone(config, folder):
    first = make_instance(config, "low", 3)
    make_instance(config, "low", 0)
    again = make_instance(config, "low", 3)
    np.testing.assert_array_equal(first.noisy, again.noisy)
    assert first.scale == again.scale
    others = [
        make_instance(config, "low", 7),
        make_instance(BenchmarkConfig(folder, crop=48, seed=1), "low", 3),
        make_instance(config, "ordinary", 3),
    ]
    assert len({first.scale, *(other.scale for other in others)}) == 4


def test_counts_take_the_noisy_image_back_to_whole_electrons(config):
    instance = make_instance(config, "low", 1)
    counts = instance.noisy * instance.counts
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
    row = score_instance(config, "low", 1, cheap("low"))[0]
    assert row.dose == pytest.approx(counts.mean(), rel=1e-5)


def test_small_micrographs_are_taken_whole(config):
    assert make_instance(config, "low", 0).noisy.shape == (40, 48)


@pytest.mark.parametrize("cut", [0, 1, 40, 700])
def test_an_interrupted_benchmark_goes_on_without_losing_or_repeating_a_row(
    config, whole, tmp_path, cut
):
    """The file may end anywhere: after its header, or in the middle of a row."""
    path = tmp_path / "rows.csv"
    header = len(whole.read_bytes().splitlines(keepends=True)[0])
    path.write_bytes(whole.read_bytes()[: header + cut])
    path.with_suffix(".json").write_bytes(whole.with_suffix(".json").read_bytes())
    benchmark(config, path, methods=cheap)
    assert untimed(path) == untimed(whole)


def test_a_finished_benchmark_is_left_alone(config, whole):
    before = whole.read_bytes()
    benchmark(config, whole, methods=cheap)
    assert whole.read_bytes() == before


@pytest.mark.slow
def test_a_killed_worker_costs_no_row(config, whole, tmp_path, monkeypatch):
    """Nor does the number of workers matter."""
    flag = tmp_path / "flag"
    flag.touch()
    monkeypatch.setenv("EMDN_TEST_FLAG", str(flag))
    path = benchmark(config, tmp_path / "rows.csv", methods=deadly, workers=2)
    assert not flag.exists()  # a worker was killed
    assert untimed(path) == untimed(whole)


@pytest.mark.slow
def test_a_cluster_computes_the_same_rows(config, whole, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, processes=False, threads_per_worker=2, dashboard_address=None
    ) as cluster:
        path = benchmark(
            config,
            tmp_path / "rows.csv",
            methods=cheap,
            scheduler=cluster.scheduler_address,
        )
    assert untimed(path) == untimed(whole)


def test_another_benchmark_is_not_mixed_into_a_file(folder, whole):
    other = BenchmarkConfig(folder, instances=5, crop=48, seed=1)
    with pytest.raises(ValueError, match=r"other config.*choose another file"):
        benchmark(other, whole, methods=cheap)


def test_how_it_was_made_stands_beside_the_rows(whole):
    about = json.loads(whole.with_suffix(".json").read_text())
    assert about["config"]["seed"] == 2018
    assert about["versions"]["numpy"] == np.__version__
    assert all(len(digest) == 64 for digest in about["weights"].values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instances": 0}, "instances must be at least 1, got 0"),
        ({"crop": 8}, "crop must be at least 16 pixels, got 8"),
    ],
)
def test_bad_settings_are_named(folder, change, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig(folder, **change)


def test_a_folder_without_a_manifest_or_split_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.csv: does not exist"):
        benchmark(BenchmarkConfig(tmp_path), tmp_path / "rows.csv")
    with pytest.raises(ValueError, match="no micrograph of the split 'train'"):
        benchmark(BenchmarkConfig(folder, "train"), tmp_path / "rows.csv")


def test_todays_scores_clip_everything_and_the_papers_only_the_network():
    rng = np.random.default_rng(0)
    clean = rng.uniform(size=(32, 32))
    denoised = clean + rng.normal(0, 0.05, clean.shape)
    clipped = np.clip(denoised, 0, 1)
    blind, network = (score(clean, denoised, clips=clips) for clips in (False, True))
    assert blind[:2] == network[:2]
    assert blind[0] == pytest.approx(np.mean((clipped - clean) ** 2))
    assert blind[2] == pytest.approx(np.mean((denoised - clean) ** 2))
    assert network[2] == pytest.approx(blind[0])
    assert blind[3] == pytest.approx(
        structural_similarity(clean, denoised, data_range=np.ptp(denoised))
    )


def test_the_papers_scores_are_capped():
    clean = np.random.default_rng(0).uniform(size=(32, 32))
    _, _, error, similarity = score(clean, 1 - clean, clips=False)
    assert error == LARGEST_MSE
    assert similarity == 0


def test_a_result_that_is_not_finite_scores_nan():
    clean = np.full((16, 16), 0.5)
    assert all(map(math.isnan, score(clean, clean * np.nan, clips=False)))


def row(method, source, error):
    return Row("low", 0, method, "f", source, "m", 1.0, 1.0, error, 0.5, error, 0.5, 0.1)


def test_summaries_are_means_and_deviations_over_instances():
    rows = [row("x", "a", 0.001), row("x", "b", 0.003), row("y", "a", 0.002)]
    x, y = summarise(rows)["low"]
    assert (x.method, x.instances, y.instances) == ("x", 2, 1)
    assert x.mse == pytest.approx(0.002)
    assert x.mse_deviation == pytest.approx(0.001)
    assert x.mse_interval == pytest.approx((0.001, 0.003))


def test_the_bootstrap_knows_that_a_source_repeats_itself():
    """A hundred copies of ten values say no more than the ten."""
    values = np.random.default_rng(0).normal(size=10)
    names = [str(n) for n in range(10)]
    once = bootstrap_interval(values, names)
    often = bootstrap_interval(np.repeat(values, 100), np.repeat(names, 100).tolist())
    assert often == pytest.approx(once)
    low, high = once
    assert low < values.mean() < high


def test_the_table_has_a_row_for_each_method(whole):
    lines = markdown_table(summarise(read_rows(whole))).splitlines()
    assert len(lines) == 2 + 3
    assert len({line.count("|") for line in lines}) == 1


def test_standard_methods_begin_with_the_network():
    names = list(standard_methods("low"))
    assert names[0] == NETWORK
    assert "Wiener" in names
    assert "wavelet, stabilised" in names


def test_the_folder_is_named_without_its_place(whole):
    """Results are published; where somebody keeps micrographs is not."""
    about = json.loads(whole.with_suffix(".json").read_text())
    assert Path(about["config"]["folder"]).name == about["config"]["folder"]


def test_the_command_line_scores_and_goes_on(folder, tmp_path):
    """Its table begins with the network; a finished file only prints it again."""
    path = tmp_path / "rows.csv"
    command = [
        "benchmark",
        str(folder),
        "-o",
        str(path),
        "--instances",
        "1",
        "--crop",
        "32",
    ]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert f"| {NETWORK} |" in first.output
    rows = path.read_bytes()
    again = CliRunner().invoke(app, command)
    assert path.read_bytes() == rows
    assert again.stdout == first.stdout


def test_the_command_line_refuses_a_folder_without_a_manifest(tmp_path):
    result = CliRunner().invoke(app, ["benchmark", str(tmp_path), "-o", "rows.csv"])
    assert result.exit_code == 1
    assert "manifest.csv: does not exist" in result.output
    assert len(result.output.strip().splitlines()) <= 2
