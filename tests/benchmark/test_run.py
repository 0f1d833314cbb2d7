"""The benchmark scores by published rules, loses no row, repeats none, spoils no file."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.cheap_methods import CHEAP, DEADLY
from skimage.metrics import structural_similarity
from typer.testing import CliRunner

from emdn.benchmark.instances import BenchmarkConfig, make_instance
from emdn.benchmark.method import Method
from emdn.benchmark.methods import METHODS, NETWORK
from emdn.benchmark.rows import LARGEST_MSE, read_about, read_rows
from emdn.benchmark.run import run_benchmark, score, score_instance
from emdn.cli import app
from emdn.weights import shipped_hashes


def same_but_for_times(path, other):
    pd.testing.assert_frame_equal(
        *(read_rows(each).drop(columns="seconds") for each in (path, other))
    )


def blind(function, name="mine"):
    return Method(name, name, name, "nothing", function)


def test_every_instance_has_a_row_for_every_method_in_order(config, whole):
    rows = read_rows(whole)[["dose_range", "instance", "method"]]
    assert list(rows.itertuples(index=False, name=None)) == [
        (dose, number, method.name)
        for dose in ("low", "ordinary")
        for number in range(config.instances)
        for method in CHEAP
    ]


def test_rows_say_what_was_scored(config, whole):
    rows = read_rows(whole)
    instance = make_instance(config, "low", 2)
    row = rows[(rows["dose_range"] == "low") & (rows["instance"] == 2)].iloc[0]
    assert row[["file", "source", "modality"]].tolist() == ["2.tif", "b", "kind b"]
    assert (row["scale"], row["dose"]) == (instance.scale, pytest.approx(instance.dose))


@pytest.mark.parametrize("cut", [-1000, -20, 0, 1, 40, 700])
def test_an_interrupted_benchmark_goes_on_without_losing_or_repeating_a_row(
    config, whole, scores, cut
):
    """The file may end anywhere: in its header, after it, or in the middle of a row.

    An empty file beside its JSON is what a full disk leaves.
    """
    content = whole.read_bytes()
    header = len(content.splitlines(keepends=True)[0])
    scores.write_bytes(content[: max(header + cut, 0)])
    run_benchmark(config, scores, CHEAP)
    same_but_for_times(scores, whole)


def test_a_finished_benchmark_is_left_alone(config, whole):
    before = whole.read_bytes()
    run_benchmark(config, whole, CHEAP)
    assert whole.read_bytes() == before


@pytest.mark.slow
def test_a_killed_worker_costs_no_row(config, whole, tmp_path, monkeypatch):
    """Nor does the number of workers matter."""
    flag = tmp_path / "flag"
    flag.touch()
    monkeypatch.setenv("EMDN_TEST_FLAG", str(flag))
    path = run_benchmark(config, tmp_path / "rows.csv", DEADLY, workers=2)
    assert not flag.exists()  # a worker was killed
    same_but_for_times(path, whole)


def alive(process):
    """Return whether a process runs; a zombie that nobody waits for does not."""
    status = Path(f"/proc/{process}/status")
    return status.exists() and "\nState:\tZ" not in status.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_run_that_is_killed_and_another_goes_on(
    config, whole, tmp_path, stop
):
    workers = tmp_path / "workers"
    workers.mkdir()
    path = tmp_path / "rows.csv"
    code = (
        "from pathlib import Path\n"
        "from helpers.cheap_methods import SLOW\n"
        "from emdn.benchmark.instances import BenchmarkConfig\n"
        "from emdn.benchmark.run import run_benchmark\n"
        "if __name__ == '__main__':\n"
        f"    folder = Path({str(config.folder)!r})\n"
        "    config = BenchmarkConfig(folder, instances=5, crop=48)\n"
        f"    run_benchmark(config, {str(path)!r}, SLOW, workers=2)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    tests, root = Path(__file__).parents[1], Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{tests}",
        "EMDN_TEST_FOLDER": str(workers),
    }
    run = subprocess.Popen([sys.executable, str(script)], env=environment)
    while run.poll() is None and not any(workers.iterdir()):
        time.sleep(0.05)
    started = [int(file.name) for file in workers.iterdir()]
    assert started, "the run ended before a worker began"
    run.send_signal(stop)
    assert run.wait(30) == -stop
    deadline = time.monotonic() + 20
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, started))
    run_benchmark(config, path, CHEAP)
    same_but_for_times(path, whole)


@pytest.mark.slow
def test_a_cluster_computes_the_same_rows(config, whole, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, processes=False, threads_per_worker=2, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        path = run_benchmark(config, tmp_path / "rows.csv", CHEAP, scheduler=address)
    same_but_for_times(path, whole)


def test_another_benchmark_is_not_mixed_into_a_file(folder, config, whole):
    other = BenchmarkConfig(folder, instances=5, crop=48, seed=1)
    for arguments in ((other, whole, CHEAP), (config, whole, CHEAP[:2])):
        with pytest.raises(ValueError, match=r"rows\.json: .*(seed|methods)"):
            run_benchmark(*arguments)


def test_a_file_that_is_no_benchmark_is_never_overwritten(config, scores):
    """Nor is a benchmark whose JSON was lost, nor a JSON of something else."""
    scores.with_suffix(".json").unlink()
    before = scores.read_bytes()
    with pytest.raises(ValueError, match=r"rows\.csv: exists, and no rows\.json"):
        run_benchmark(config, scores, CHEAP)
    assert scores.read_bytes() == before
    scores.unlink()
    own = '{"my": "settings"}'
    scores.with_suffix(".json").write_text(own)
    with pytest.raises(ValueError, match=r"rows\.json"):
        run_benchmark(config, scores, CHEAP)
    assert scores.with_suffix(".json").read_text() == own
    assert not scores.exists()


def test_notes_beside_the_json_of_a_benchmark_are_not_overwritten(config, scores):
    scores.write_text("my,own\n")
    with pytest.raises(ValueError, match=r"rows\.csv: is no file of scores"):
        run_benchmark(config, scores, CHEAP)
    assert scores.read_text() == "my,own\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [("rows.csv.xz", "name it .csv; pack it later"), ("rows.json", "name it .csv")],
)
def test_rows_are_written_to_a_csv_file_only(config, tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        run_benchmark(config, tmp_path / name, CHEAP)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of files")
def test_two_runs_do_not_write_to_one_file(config, tmp_path):
    path, refused = tmp_path / "rows.csv", []

    def meddle(noisy):
        with pytest.raises(ValueError, match="another process writes to it"):
            run_benchmark(config, path, [blind(np.array)])
        refused.append(True)
        return noisy

    run_benchmark(config, path, [blind(meddle)])
    assert len(refused) == len(read_rows(path)) == 10


def test_micrographs_of_another_manifest_are_noticed(config, scores, tmp_path):
    """The settings are the same, but the numbers belong to other files now."""
    other = tmp_path / config.folder.name
    other.mkdir()
    for file in config.folder.glob("*.tif"):
        (other / file.name).write_bytes(file.read_bytes())
    lines = (config.folder / "manifest.csv").read_text().splitlines()
    lines[1], lines[2] = lines[2], lines[1]
    (other / "manifest.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="holds other instances than these"):
        run_benchmark(replace(config, folder=other), scores, CHEAP)


def test_how_it_was_made_stands_beside_the_rows(config, whole):
    """Results are published; where somebody keeps micrographs is not."""
    about = read_about(whole)
    assert about["config"]["seed"] == 2018
    assert about["config"]["folder"] == config.folder.name
    assert about["versions"]["numpy"] == np.__version__


def test_weights_are_named_where_they_were_scored_and_only_there(config, whole, tmp_path):
    """Filters may be scored once, and networks again for all new weights."""
    assert read_about(whole)["weights"] == {}
    network = replace(METHODS[NETWORK], run=np.array)
    path = run_benchmark(config, tmp_path / "rows.csv", [network])
    assert read_about(path)["weights"] == shipped_hashes()


def test_versions_of_peers_are_written_down(config, tmp_path):
    """But of no others: results without peers are the same without their packages."""
    peer = replace(METHODS["bm3d-vst"], run=lambda noisy, _, **__: noisy)
    path = run_benchmark(config, tmp_path / "rows.csv", [METHODS["median"], peer])
    versions = read_about(path)["versions"]
    assert {"bm3d", "bm4d"} < versions.keys()
    assert not {"ffdnet", "torch"} & versions.keys()


def test_todays_scores_clip_everything_and_the_papers_only_the_network():
    rng = np.random.default_rng(0)
    clean = rng.uniform(size=(32, 32))
    denoised = clean + rng.normal(0, 0.05, clean.shape)
    clipped = np.clip(denoised, 0, 1)
    free, network = (score(clean, denoised, clips=clips) for clips in (False, True))
    assert free[:2] == network[:2]
    assert free[0] == pytest.approx(np.mean((clipped - clean) ** 2))
    assert free[2] == pytest.approx(np.mean((denoised - clean) ** 2))
    assert network[2] == pytest.approx(free[0])
    assert free[3] == pytest.approx(
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


def test_a_method_cannot_spoil_the_image_for_the_next(config):
    def spoil(noisy):
        noisy[:] = 0
        return noisy

    rows = score_instance(config, "low", 0, [blind(spoil), *CHEAP])[1:]
    expected = score_instance(config, "low", 0, CHEAP)
    assert [row[:-1] for row in rows] == [row[:-1] for row in expected]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda noisy: noisy[1:], r"mine: made .* \(39, 48\) .* of one of \(40, 48\)"),
        (lambda noisy: noisy + 0j, "mine: made .* complex.*; return as many real numbers"),
        (lambda noisy: noisy.astype(str), "mine: made .* type <U"),
    ],
)
def test_a_result_that_is_no_such_image_is_named(config, function, message):
    with pytest.raises(ValueError, match=message):
        score_instance(config, "low", 0, [blind(function)])


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """Return a function that runs a small benchmark from the command line."""
    path = tmp_path / "rows.csv"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*arguments):
        command = ["benchmark", folder, "-o", path, "--instances", 2, "--crop", 32]
        return CliRunner().invoke(app, [str(each) for each in (*command, *arguments)])

    run.path = path
    return run


def test_the_command_line_scores_and_goes_on(run):
    """Its table begins with the network; a finished file only prints it again."""
    first = run()
    assert first.exit_code == 0, first.output
    assert f"\n| {NETWORK} |" in first.output
    rows = run.path.read_bytes()
    again = run()
    assert run.path.read_bytes() == rows
    assert again.stdout == first.stdout


def test_the_command_line_scores_chosen_methods_and_ones_own(run):
    Path("own_filters.py").write_text("def halve(noisy):\n    return noisy / 2\n")
    options = ("--methods", "gaussian, gaussian-aware", "--method", "own_filters:halve")
    result = run(*options)
    sys.modules.pop("own_filters", None)
    assert result.exit_code == 0, result.output
    methods = ["gaussian", "gaussian-aware", "own_filters:halve"]
    assert read_rows(run.path)["method"].tolist() == 4 * methods
    assert run(*options, "--table", "latex").stdout.startswith(r"\begin{tabular}")
    assert "| a: Gaussian, gain-aware |" in run(*options, "--by", "source").stdout


def test_the_command_line_says_in_one_line_what_is_wrong(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ffdnet", None)
    for arguments, message in (
        (("--methods", "Gauss"), "no method is called 'Gauss'"),
        (("--method", "nowhere"), "a method is package.module:function"),
        (("--methods", "ffdnet-vst"), 'pip install "emdn[peers]"'),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not run.path.exists()


def test_the_command_line_refuses_a_folder_without_a_manifest(tmp_path):
    result = CliRunner().invoke(app, ["benchmark", str(tmp_path), "-o", "rows.csv"])
    assert result.exit_code == 1
    assert "manifest.csv: does not exist" in result.output
    assert len(result.output.strip().splitlines()) <= 2
    assert not any(tmp_path.iterdir())
