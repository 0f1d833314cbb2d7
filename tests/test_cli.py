"""The command line denoises files and trains, or says what is wrong in one line."""

import errno
import re
import sys

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from emdn.batch import plan
from emdn.cli import app
from emdn.io import Metadata, MicrographError, read_micrograph, write_micrograph
from emdn.metrics import mse
from emdn.specimens.micrographs import KINDS
from emdn.training.log import read_log
from emdn.weights import NAMES, find

runner = CliRunner()


@pytest.fixture
def noisy(tmp_path, micrograph, rng):
    """Write a noisy micrograph with a pixel size, and return its path."""
    path = tmp_path / "noisy.tif"
    counts = rng.poisson(50 * micrograph).astype(np.uint16)
    write_micrograph(path, counts, Metadata(pixel_size=0.25, unit="nm"))
    return path


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", [".tif", ".mrc", ".npy"])
def test_a_micrograph_becomes_a_denoised_one_of_the_same_shape(noisy, micrograph, suffix):
    output = noisy.with_name(f"denoised{suffix}")
    result = run("denoise", noisy, "-o", output, "--weights", "low")
    assert result.exit_code == 0, result.output
    before, _ = read_micrograph(noisy)
    after, metadata = read_micrograph(output)
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert after.mean() == pytest.approx(before.mean(), rel=0.005)
    assert mse(50 * micrograph, after) < mse(50 * micrograph, before)
    if suffix != ".npy":
        assert metadata.pixel_size == pytest.approx(0.25)
        assert metadata.unit == "nm"


@pytest.mark.parametrize("channels", [1, 3])
def test_an_array_with_an_axis_of_colours_is_refused_in_a_line(tmp_path, rng, channels):
    np.save(tmp_path / "a.npy", rng.poisson(30.0, (64, 96, channels)))
    result = run("denoise", tmp_path / "a.npy")
    assert result.exit_code == 1
    fault, _ = result.stderr.splitlines()
    assert f"(64, 96, {channels}), whose axes would be (images, H, W)" in fault
    assert not (tmp_path / "a_denoised.tif").exists()


def test_folders_and_stacks_are_denoised_into_a_folder(tmp_path, rng):
    folder = tmp_path / "session"
    folder.mkdir()
    np.save(folder / "stack.npy", rng.poisson(30, (2, 40, 50)))
    tifffile.imwrite(folder / "image.tif", rng.poisson(30, (30, 20)).astype(np.float32))
    (folder / "notes.txt").write_text("not a micrograph")
    result = run("denoise", folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert read_micrograph(tmp_path / "out" / "stack.tif")[0].shape == (2, 40, 50)
    assert read_micrograph(tmp_path / "out" / "image.tif")[0].shape == (30, 20)
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("options", [(), ("--all",), ("--format", "mrc")])
def test_a_folder_that_is_denoised_again_gains_nothing(tmp_path, rng, options):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", rng.poisson(30, (32, 32)).astype("u2"))
    for _ in range(3):
        result = run("denoise", tmp_path, *options)
        assert result.exit_code == 0, result.output
        assert len(list(tmp_path.iterdir())) == 4
    assert "2 of 2 results are there already" in result.output


def test_a_batch_takes_no_result_of_other_options_for_done(noisy, tmp_path):
    second = noisy.with_name("second.tif")
    second.write_bytes(noisy.read_bytes())
    command = ("denoise", noisy, second, "-o", tmp_path / "out")
    assert run(*command).exit_code == 0
    again = run(*command)
    assert again.exit_code == 0
    assert "2 of 2 results are there already" in again.stderr
    (tmp_path / "out" / "second.tif").unlink()
    other = run(*command, "--weights", "low")
    assert other.exit_code == 1
    (line,) = other.stderr.splitlines()
    text = "1 of 2 results were made otherwise (other weights), and left; --overwrite"
    assert line.startswith(text)
    assert run(*command, "--weights", "low", "--overwrite").exit_code == 0
    assert run(*command, "--weights", "low").exit_code == 0


def test_a_bad_file_is_named_and_the_others_are_done(noisy, tmp_path):
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"not a TIFF")
    result = run("denoise", bad, noisy, "-o", tmp_path / "out")
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert len(errors) == 2
    assert "bad.tif" in errors[0]
    assert errors[1] == "1 of 2 files failed."
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["noisy.tif"]


def test_defects_are_reported_with_the_name_of_the_file(tmp_path, rng):
    image = rng.poisson(30, (40, 40)).astype(np.float32)
    image[3, 3] = np.nan
    np.save(tmp_path / "holes.npy", image)
    result = run("denoise", tmp_path / "holes.npy", "-o", tmp_path / "out.npy")
    assert result.exit_code == 0
    assert "holes.npy: 1 of 1600 pixels" in result.stderr


def test_nothing_is_overwritten_without_being_told(noisy):
    output = noisy.with_name("out.npy")
    np.save(output, np.zeros(3))
    result = run("denoise", noisy, "-o", output)
    assert result.exit_code == 1
    assert "out.npy: exists already; use --overwrite" in result.stderr
    assert np.load(output).shape == (3,)
    assert run("denoise", noisy, "-o", output, "--overwrite").exit_code == 0
    assert np.load(output).ndim == 2


def test_a_micrograph_is_never_written_over_itself(noisy):
    with pytest.raises(MicrographError, match="name another output"):
        plan([noisy], noisy)


def test_two_inputs_of_one_name_are_refused(tmp_path):
    files = [tmp_path / "a.tif", tmp_path / "a.mrc"]
    with pytest.raises(MicrographError, match="2 inputs would be written there"):
        plan(files, tmp_path / "out")


def test_one_output_file_cannot_take_two_inputs(tmp_path):
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    with pytest.raises(MicrographError, match="cannot hold 2 results; name a folder"):
        plan(files, tmp_path / "out.tif")


def test_an_empty_folder_is_refused(tmp_path):
    result = run("denoise", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "holds no micrograph; files end in .tif" in result.stderr
    assert not (tmp_path / "out").exists()


def test_settings_that_cannot_work_are_one_line(noisy):
    result = run("denoise", noisy, "-o", noisy.with_name("o.npy"), "--overlap", 400)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "overlap" in result.stderr


def test_weights_that_cannot_be_read_are_one_line(noisy):
    result = run("denoise", noisy, "-o", noisy.with_name("o.npy"), "--weights", noisy)
    assert result.exit_code == 1
    assert "is no network saved by model.save" in result.stderr
    assert "Traceback" not in result.output
    assert not noisy.with_name("o.npy").exists()


@pytest.fixture
def learner(tmp_path, monkeypatch):
    """Save a small network that returns its input and learns in large steps."""
    import keras

    from emdn.networks import build
    from emdn.networks.unet import UNetConfig

    monkeypatch.setattr("emdn.trust.adaptation.LEARNING_RATE", 3e-3)
    keras.utils.set_random_seed(0)
    build(UNetConfig((8,), (1,))).save(tmp_path / "learner.keras")
    return tmp_path / "learner.keras"


def test_a_network_adapts_and_its_weights_are_used_again(noisy, learner, micrograph):
    mine = noisy.with_name("mine.keras")
    outputs = [noisy.with_name(name) for name in ("plain.npy", "adapted.npy", "again.npy")]
    adapting = ("--weights", learner, "--adapt", "--save-weights", mine)
    for output, options in zip(
        outputs, (("--weights", learner), adapting, ("--weights", mine)), strict=True
    ):
        result = run("denoise", noisy, "-o", output, "--gain", 1, *options)
        assert result.exit_code == 0, result.output
        told = re.search(r"adapted: better by [\d.]+ standard errors.*mine", result.output)
        assert bool(told) == (output == outputs[1])
    plain, adapted, again = (np.load(output) for output in outputs)
    assert mse(50 * micrograph, adapted) < mse(50 * micrograph, plain)
    np.testing.assert_array_equal(again, adapted)


def test_why_nothing_was_adapted_is_one_line(noisy, learner):
    options = ("--gain", 1, "--readout", 3, "--weights", learner, "--adapt")
    output, mine = noisy.with_name("out.tif"), noisy.with_name("mine.keras")
    result = run("denoise", noisy, "-o", output, *options, "--save-weights", mine)
    assert result.exit_code == 0, result.output
    assert output.is_file()
    assert not mine.exists()
    assert "not adapted: the noise is no pure shot noise, the readout" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--save-weights", "mine.keras"), "add --adapt"),
        (("--adapt", "--save-weights", "mine.h5"), "must end in .keras"),
    ],
)
def test_weights_that_cannot_be_saved_are_one_line(noisy, options, message):
    result = run("denoise", noisy, *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_one_file_of_weights_cannot_hold_those_of_two_inputs(noisy):
    other = noisy.with_name("other.tif")
    other.write_bytes(noisy.read_bytes())
    mine = noisy.with_name("mine.keras")
    result = run("denoise", noisy, other, "--adapt", "--save-weights", mine)
    assert result.exit_code == 1
    assert "cannot hold the weights of 2 inputs" in result.stderr


def test_info_names_versions_devices_and_weights():
    result = run("info")
    assert result.exit_code == 0
    for word in ("emdn", "tensorflow", "CPU:0", *NAMES):
        assert word in result.output


def test_help_has_examples():
    assert (
        "emdn denoise noisy.dm4    (writes noisy_denoised.tif)"
        in run("denoise", "--help").output
    )


RECIPE = """
data: {folder: nowhere, crop: 16, downsizing: 1, fractions: [0.6, 0.2, 0.2]}
model: {name: DNCNN, depth: 3, features: 4}
schedule:
  - {steps: 4, rate: 1e-3}
  - {steps: 2, rate: 1e-4}
batch: 4
accumulation: 2
log_every: 2
"""


@pytest.fixture(scope="module")
def micrographs(tmp_path_factory):
    """Return a folder of ten small micrographs."""
    folder = tmp_path_factory.mktemp("micrographs")
    for number in range(10):
        image = KINDS["particles"]((32, 48), np.random.default_rng(number))
        np.save(folder / f"{number}.npy", image)
    return folder


@pytest.fixture
def recipe(tmp_path):
    """Return a recipe whose folder does not exist."""
    path = tmp_path / "recipe.yml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def trained(micrographs, tmp_path_factory):
    """Return the result of a training and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.yml").write_text(RECIPE)
    run_folder = folder / "runs" / "first"
    result = run(
        "train",
        "--config",
        folder / "recipe.yml",
        "--data",
        micrographs,
        "--output",
        run_folder,
    )
    return result, run_folder


def one_line_of(result):
    """Return the error of a command that failed without a traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    return line


def test_a_training_on_a_folder_leaves_weights_that_denoise(trained, noisy):
    result, folder = trained
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{folder}: done, {folder / 'denoiser.keras'}\n"
    assert "train: 6 micrographs of 6 sources" in result.stderr
    assert [row["step"] for row in read_log(folder / "log.csv")] == [2, 4, 6]
    output = noisy.with_name("out.tif")
    weights = folder / "denoiser.keras"
    denoised = run("denoise", noisy, "-o", output, "--weights", weights)
    assert denoised.exit_code == 0, denoised.output
    assert read_micrograph(output)[0].shape == (96, 64)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(recipe, micrographs, tmp_path):
    output = tmp_path / "run"
    command = ("train", "--config", recipe, "--data", micrographs, "-o", output)
    result = run(*command, "--dry-run")
    assert result.exit_code == 0, result.output
    parameters = 9 * 4 + 4 + 9 * 4 * 4 + 2 * 4 + 9 * 4 + 1
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "train: 6 micrographs of 6 sources",
        "val: 2 micrographs of 2 sources",
        "test: 2 micrographs of 2 sources",
    ]
    assert lines[3].startswith(f"network: {parameters} parameters, ")
    assert lines[3].endswith(" GMAC a crop of 16 x 16")
    assert lines[4] == "steps: 6 (4 at 0.001, 2 at 0.0001)"
    assert lines[5] == "batch: 4 pairs, as 2 parts on 1 replicas"
    memory = re.fullmatch(r"memory: about (\S+) GB on each replica", lines[6])
    time = re.fullmatch(r"time: about (\S+) s a step, (\S+) h in all", lines[7])
    seconds, hours = map(float, time.groups())
    assert 0 < float(memory[1]) < 0.01
    assert hours == pytest.approx(6 * seconds / 3600, rel=0.1)
    assert len(lines) == 8
    assert not output.exists()


def test_a_dry_run_tells_where_a_rate_goes_and_counts_averages(
    recipe, micrographs, tmp_path
):
    """The network is told the counts; averages are two more copies of all weights."""
    text = recipe.read_text().replace("rate: 1e-4", "rate: 1e-4, end: 1e-6")
    u_net = "model: {name: UNET, features: [256], blocks: [1]}"
    text = text.replace("model: {name: DNCNN, depth: 3, features: 4}", u_net)
    memories = []
    for share in (0.0, 0.9):
        recipe.write_text(f"{text}averaging: {share}\n")
        command = ("train", "--config", recipe, "--data", micrographs)
        result = run(*command, "-o", tmp_path / "run", "--dry-run")
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert lines[4] == "steps: 6 (4 at 0.001, 2 at 0.0001 to 1e-06)"
        memories.append(float(re.search(r"about (\S+) GB", lines[6])[1]))
    parameters = 2 * 9 * 4 * 256 + 256 + 4 + 2 * (9 * 256**2 + 256)
    assert memories[1] - memories[0] == pytest.approx(2 * 4 * parameters / 1e9, abs=0.0015)


def test_the_folder_of_data_can_be_that_of_the_command(recipe, micrographs, tmp_path):
    """The recipe's own does not exist here."""
    command = ("train", "--config", recipe, "-o", tmp_path / "run", "--dry-run")
    assert "nowhere: is no folder" in one_line_of(run(*command))
    assert run(*command, "--data", micrographs).exit_code == 0


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("batch: 4", "bacth: 4", "bacth: is no setting; did you mean batch?"),
        ("crop: 16", "crops: 16", "data.crops: is no setting; did you mean crop?"),
        ("crop: 16", "crop: 17", "data: crop must be a multiple of 16, got 17"),
        (
            "DNCNN",
            "DEEP",
            "model: must be one of PAPER, SMALL, COMPACT, TINY, DNCNN, UNET, got 'DEEP'",
        ),
        ("batch: 4", "batch: [", "is no YAML file"),
    ],
)
@pytest.mark.parametrize("option", [(), ("--dry-run",)])
def test_a_mistake_in_a_recipe_is_one_line(
    right, wrong, message, option, recipe, micrographs, tmp_path
):
    recipe.write_text(RECIPE.replace(right, wrong))
    output = tmp_path / "run"
    result = run("train", "--config", recipe, "--data", micrographs, "-o", output, *option)
    line = one_line_of(result)
    assert line.startswith(f"{recipe}: ")
    assert message in line
    assert not output.exists()


def test_a_recipe_that_is_not_there_is_one_line(tmp_path):
    result = run("train", "--config", tmp_path / "none.yml", "-o", tmp_path / "run")
    assert "none.yml" in one_line_of(result)


def test_a_folder_of_another_training_is_one_line(trained, recipe, micrographs):
    _, folder = trained
    recipe.write_text(RECIPE.replace("batch: 4", "batch: 8"))
    result = run("train", "--config", recipe, "--data", micrographs, "-o", folder)
    assert "other settings, changed: batch from 4 to 8" in one_line_of(result)


def test_a_folder_that_cannot_be_written_is_one_line(recipe, micrographs, tmp_path):
    (tmp_path / "file").write_text("no folder")
    output = tmp_path / "file" / "run"
    result = run("train", "--config", recipe, "--data", micrographs, "-o", output)
    assert "cannot be written" in one_line_of(result)


def test_a_full_disk_is_one_line(recipe, micrographs, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("emdn.training.run.write_survey", refuse)
    command = ("train", "--config", recipe, "--data", micrographs, "-o", tmp_path)
    result = run(*command)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_learning_curves_of_trainings_become_a_figure(suffix, start, trained, tmp_path):
    _, folder = trained
    output = tmp_path / f"curve{suffix}"
    result = run("curve", folder, folder, "-o", output, "--boxcar", 2)
    assert result.exit_code == 0, result.output
    assert output.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "-o", "curve.png"], "log.csv"),
        (["RUN", "-o", "curve.xyz"], "xyz"),
        (["RUN", "-o", "nowhere/curve.png"], "nowhere"),
        (["RUN", "-o", "curve.png", "--boxcar", "0"], "boxcar must be at least 1, got 0"),
    ],
)
def test_curves_that_cannot_be_drawn_are_one_line(arguments, message, trained, tmp_path):
    _, folder = trained
    places = {"RUN": folder, "nowhere": tmp_path / "nowhere"}
    places |= {name: tmp_path / name for name in ("curve.png", "nowhere/curve.png")}
    result = run("curve", *(places.get(each, each) for each in arguments))
    assert message in one_line_of(result)


def test_help_of_training_has_examples():
    assert "emdn train --config low-dose.yml -o runs/low" in run("train", "--help").output


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [("benchmark", "emdn.benchmark.run", "baselines"), ("curve", "emdn.plots", "plot")],
)
def test_what_an_extra_would_bring_is_named(tmp_path, monkeypatch, command, module, extra):
    monkeypatch.setitem(sys.modules, module, None)  # as if an import in it had failed
    result = run(command, tmp_path, "-o", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert f'pip install "emdn[{extra}]"' in result.output
    assert not (tmp_path / "out.csv").exists()


def test_a_network_is_exported_and_runs_as_before(noisy, learner):
    graph, outputs = (
        noisy.with_name("own.onnx"),
        [noisy.with_name(f"{n}.npy") for n in "ab"],
    )
    result = run("export", learner, "-o", graph)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{graph}\n"
    for weights, output in zip((learner, graph), outputs, strict=True):
        assert run("denoise", noisy, "-o", output, "--weights", weights).exit_code == 0
    before, after = map(np.load, outputs)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-3)
    assert run("export", "low", "-o", graph, "--overwrite").exit_code == 0
    assert graph.read_bytes() == find("low", "onnx").read_bytes()


def test_a_damaged_network_is_not_exported(tmp_path):
    damaged, target = tmp_path / "damaged.onnx", tmp_path / "copy.onnx"
    damaged.write_bytes(find("low", "onnx").read_bytes()[:50_000])
    result = run("export", damaged, "-o", target)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{damaged}: is no network as an ONNX file, or is dam")
    assert not target.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name a file by -o or --bioimageio"),
        (("-o", "missing/own.onnx"), "missing/own.onnx: No such file or directory"),
        (("-o", "own.h5"), "own.h5: must end in .onnx"),
        (("--bioimageio", "own.onnx"), "own.onnx: must end in .zip"),
    ],
)
def test_an_export_that_cannot_be_written_is_one_line(options, message):
    result = run("export", "low", *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
