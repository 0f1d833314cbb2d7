"""The command line turns files into denoised files, or says what is wrong in one line."""

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from emdn.cli import app, plan
from emdn.io import Metadata, MicrographError, read_micrograph, write_micrograph
from emdn.metrics import mse

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
    result = run("denoise", noisy, "-o", output, "--dose", "low")
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
        plan([noisy], noisy, overwrite=True)


def test_two_inputs_of_one_name_are_refused(tmp_path):
    files = [tmp_path / "a.tif", tmp_path / "a.mrc"]
    with pytest.raises(MicrographError, match="2 inputs would be written there"):
        plan(files, tmp_path / "out", overwrite=False)


def test_one_output_file_cannot_take_two_inputs(tmp_path):
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    with pytest.raises(MicrographError, match="cannot hold 2 results; name a folder"):
        plan(files, tmp_path / "out.tif", overwrite=False)


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
    result = run("denoise", noisy, "-o", noisy.with_name("o.npy"), "--model", noisy)
    assert result.exit_code == 1
    assert "is no network saved by model.save" in result.stderr
    assert "Traceback" not in result.output
    assert not noisy.with_name("o.npy").exists()


def test_info_names_versions_devices_and_weights():
    result = run("info")
    assert result.exit_code == 0
    for word in ("emdn", "tensorflow", "CPU:0", "low", "ordinary"):
        assert word in result.output


def test_help_has_examples():
    assert "emdn denoise noisy.dm4 -o denoised.tif" in run("denoise", "--help").output
