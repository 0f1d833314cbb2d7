"""The benchmark scores by published rules, loses no row and repeats none."""

import csv
import lzma
import math
import pickle
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.cheap_methods import cheap, deadly
from skimage.metrics import structural_similarity
from typer.testing import CliRunner

from emdn.benchmark import peers
from emdn.benchmark.filters import BASELINES, STABILISED, TOLD
from emdn.benchmark.instances import BenchmarkConfig, make_instance
from emdn.benchmark.method import blind
from emdn.benchmark.methods import (
    NETWORK,
    NETWORKS,
    Methods,
    imported_method,
    split_names,
    standard_methods,
)
from emdn.benchmark.rows import read_about, read_rows
from emdn.benchmark.run import LARGEST_MSE, benchmark, score, score_instance
from emdn.cli import app
from emdn.io import write_micrograph
from emdn.metrics import psnr
from emdn.specimens.micrographs import micrograph
from emdn.weights import shipped_hashes


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
    counts = instance.noisy / instance.gain
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
    about = read_about(whole)
    assert about["config"]["seed"] == 2018
    assert about["versions"]["numpy"] == np.__version__


def test_weights_are_named_where_they_were_scored_and_only_there(config, whole, tmp_path):
    """Filters may be scored once, and networks again for all new weights."""
    assert read_about(whole)["weights"] == {}

    def networks(dose_range):  # noqa: ARG001
        return {NETWORK: blind(np.array)}

    path = benchmark(config, tmp_path / "rows.csv", methods=networks)
    assert read_about(path)["weights"] == shipped_hashes()


def test_methods_in_several_files_are_read_as_if_in_one(config, whole, tmp_path):
    def part(dose_range, names):
        return {name: cheap(dose_range)[name] for name in names}

    *first, last = cheap("low")
    paths = [
        benchmark(config, tmp_path / file, methods=partial(part, names=names))
        for file, names in (("first.csv", first), ("last.csv", [last]))
    ]
    apart = [row._replace(seconds=0.0) for row in read_rows(*paths)]
    assert apart == untimed(whole)


def test_files_of_other_instances_or_with_a_method_twice_are_not_read_together(
    folder, whole, tmp_path
):
    other = BenchmarkConfig(folder, instances=5, crop=48, seed=1)
    path = benchmark(other, tmp_path / "rows.csv", methods=cheap)
    with pytest.raises(ValueError, match=r"rows.csv: is of other instances than"):
        read_rows(whole, path)
    with pytest.raises(ValueError, match=r"median.*: in more than one of the files"):
        read_rows(whole, whole)


def test_packed_rows_are_read_like_others(whole, tmp_path):
    packed = tmp_path / "rows.csv.xz"
    packed.write_bytes(lzma.compress(whole.read_bytes()))
    assert read_rows(packed) == read_rows(whole)
    with pytest.raises(ValueError, match=r"rows.json: does not exist"):
        read_about(packed)


def test_rows_are_not_appended_to_a_packed_file(config, tmp_path):
    with pytest.raises(ValueError, match=r"rows.csv.xz: .*pack it later"):
        benchmark(config, tmp_path / "rows.csv.xz", methods=cheap)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instances": 0}, "instances must be at least 1, got 0"),
        ({"crop": 8}, "crop must be at least 16 pixels, got 8"),
        ({"dose_ranges": ("low", "any")}, "must be of low, ordinary, got .*'any'"),
        ({"dose_ranges": ()}, "must be of low, ordinary"),
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


def test_the_psnr_of_a_row_is_that_of_the_clipped_image(config):
    noisy, clean, *_ = make_instance(config, "low", 0)
    row = score_instance(config, "low", 0, cheap("low"))[0]
    assert row.psnr == pytest.approx(psnr(clean, noisy, data_range=1))
    assert row.psnr == pytest.approx(-10 * math.log10(row.mse))


def test_a_method_cannot_spoil_the_image_for_the_next(config):
    def spoil(noisy, _):
        noisy[:] = 0
        return noisy

    methods = {"spoil": spoil, **cheap("low")}
    rows = score_instance(config, "low", 0, methods)[1:]
    expected = score_instance(config, "low", 0, cheap("low"))
    assert [row[:-1] for row in rows] == [row[:-1] for row in expected]


def test_a_result_of_another_size_is_named(config):
    methods = {"mine": blind(lambda noisy: noisy[1:])}
    with pytest.raises(ValueError, match=r"mine: made .* \(39, 48\) of one of \(40, 48\)"):
        score_instance(config, "low", 0, methods)


OWN = """
def of_an_image(noisy):
    return noisy / 2

def of_counts(noisy, counts):
    return noisy * counts

def with_settings(noisy, strength=3):
    return noisy * strength

class Denoiser:
    def denoise(self, noisy, clip=True):
        return noisy / 4

denoiser = Denoiser()
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a module of somebody's own into the working directory, and return its name."""
    (tmp_path / "own_methods.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "own_methods"
    sys.modules.pop("own_methods", None)


@pytest.mark.parametrize(
    ("function", "factor"),
    [
        ("of_an_image", 0.5),
        ("of_counts", 7),
        ("with_settings", 3),
        ("denoiser.denoise", 0.25),
    ],
)
def test_a_function_of_ones_own_is_a_method_with_or_without_counts(own, function, factor):
    denoised = imported_method(f"{own}:{function}")(np.ones((2, 2)), 7.0)
    np.testing.assert_array_equal(denoised, factor)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("own_methods", "a method is package.module:function, got 'own_methods'"),
        ("own_methods:other", "own_methods:other: .*no attribute 'other'"),
        ("nowhere.at_all:other", "cannot be imported, No module named 'nowhere'"),
        ("own_methods:number", "is no function but int"),
    ],
)
def test_a_method_that_is_not_there_is_named(own, place, message):  # noqa: ARG001
    with pytest.raises(ValueError, match=message):
        imported_method(place)


def test_methods_of_any_choice_come_in_one_order(own):
    place = f"{own}:of_an_image"
    chosen = Methods(("median", "wavelet, stabilised", "Gaussian"), own=(place,))
    assert list(chosen("low")) == ["Gaussian", "median", "wavelet, stabilised", place]
    # Which is how each worker knows that it has made them before.
    assert pickle.loads(pickle.dumps(chosen)) == chosen
    assert hash(pickle.loads(pickle.dumps(chosen))) == hash(chosen)


@pytest.mark.parametrize("dose_range", ["low", "ordinary"])
def test_no_choice_is_all_but_peers(dose_range):
    assert list(Methods()(dose_range)) == list(standard_methods(dose_range))


def test_a_choice_without_the_network_does_not_load_it(monkeypatch):
    monkeypatch.setattr("emdn.benchmark.methods.Denoiser", None)
    assert list(Methods(("unfiltered",))("low")) == ["unfiltered"]


def test_peers_that_are_not_installed_are_refused_before_anything_is_done(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    for choice in ({"names": ("BM3D, stabilised",)}, {"with_peers": True}):
        with pytest.raises(ImportError, match=r"emdn\[peers\]"):
            Methods(**choice)
    monkeypatch.setattr(peers, "require", lambda _: None)
    names = list(Methods(("Gaussian",), with_peers=True)("low"))
    assert names == ["Gaussian", *peers.PEERS]


def test_names_with_commas_are_told_from_names_between_commas():
    names = (*NETWORKS, *BASELINES, *TOLD, *STABILISED, *peers.PEERS)
    assert split_names(",".join(names)) == names
    assert split_names(" , ".join(names[::-1]).upper()) == names[::-1]
    assert split_names("") == ()
    for unknown in ("Gausian", "Gaussian, told you"):
        with pytest.raises(
            ValueError, match=r"no method is called '.*there are: emdn; emdn, told; "
        ):
            split_names(f"median,{unknown}")


def test_standard_methods_begin_with_the_network():
    names = list(standard_methods("low"))
    assert names[0] == NETWORK
    assert "Wiener" in names
    assert "wavelet, stabilised" in names


def test_the_folder_is_named_without_its_place(whole):
    """Results are published; where somebody keeps micrographs is not."""
    about = read_about(whole)
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


@pytest.fixture
def run(folder, tmp_path):
    """Return a function that runs a small benchmark from the command line."""
    path = tmp_path / "rows.csv"

    def run(*arguments):
        command = ["benchmark", folder, "-o", path, "--instances", 2, "--crop", 32]
        return CliRunner().invoke(app, [str(each) for each in (*command, *arguments)])

    run.path = path
    return run


def test_the_command_line_scores_chosen_methods_and_ones_own(run, own):
    place = f"{own}:of_an_image"
    result = run("--methods", "gaussian,Gaussian, told", "--method", place)
    assert result.exit_code == 0, result.output
    methods = [row.method for row in read_rows(run.path)]
    assert methods == 4 * ["Gaussian", "Gaussian, told", place]
    latex = run(
        "--methods", "Gaussian, told,gaussian", "--method", place, "--table", "latex"
    )
    assert latex.stdout.startswith(r"\begin{tabular}")
    by_source = run(
        "--methods", "Gaussian,Gaussian, told", "--method", place, "--by", "source"
    )
    assert "| a: Gaussian, told |" in by_source.stdout


def test_the_command_line_names_what_is_no_method_or_not_installed(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ffdnet", None)
    for arguments, message in (
        (("--methods", "Gauss"), "no method is called 'Gauss'"),
        (("--method", "nowhere"), "a method is package.module:function"),
        (("--methods", "FFDNet, stabilised"), 'pip install "emdn[peers]"'),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not run.path.exists()


def test_versions_of_peers_are_written_down(config, tmp_path, monkeypatch):
    """But of no others: results without peers are the same without their packages."""
    monkeypatch.setattr(peers, "require", lambda _: None)
    monkeypatch.setitem(peers.PEERS, "BM3D, stabilised", lambda noisy, _, **__: noisy)
    path = tmp_path / "rows.csv"
    benchmark(config, path, methods=Methods(("median", "BM3D, stabilised")))
    versions = read_about(path)["versions"]
    assert {"bm3d", "bm4d"} < versions.keys()
    assert not {"ffdnet", "torch"} & versions.keys()


def test_the_command_line_refuses_a_folder_without_a_manifest(tmp_path):
    result = CliRunner().invoke(app, ["benchmark", str(tmp_path), "-o", "rows.csv"])
    assert result.exit_code == 1
    assert "manifest.csv: does not exist" in result.output
    assert len(result.output.strip().splitlines()) <= 2
