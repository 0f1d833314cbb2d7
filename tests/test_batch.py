"""What is written where, what is skipped, and that nothing half-written stays behind."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import tifffile

import emdn
from emdn.batch import Batch, Job, denoise_file, plan
from emdn.denoiser import Denoiser
from emdn.io import Metadata, MicrographError, read_micrograph, write_micrograph
from emdn.io.write import convert
from emdn.provenance import differences, twins
from emdn.weights import shipped_hashes


@pytest.fixture(scope="module")
def noise_remover():
    return Denoiser(progress=False)


def counts(shape=(40, 32), seed=0, mean=30.0):
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.uint16)


def touched(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", "a_denoised.tif"),
        ("b.MRC", "b_denoised.tif"),
        ("c.mrc.gz", "c_denoised.tif"),
        ("d.e.dm4", "d.e_denoised.tif"),
    ],
)
def test_by_default_a_result_lies_beside_its_input(tmp_path, name, expected):
    file = touched(tmp_path, name) / name
    assert plan([file]) == [Job(file, tmp_path / expected)]


RESULTS = ["a_denoised.tif", "a_denoised.mrc", "a_denoised_HAADF.tif", "b.1_denoised.tif"]
INPUTS = ["a.dm4", "a_denoise.tif", "b.1.mrc.gz", "c_denoised.tif", "my_denoised2.tif"]


def test_results_beside_their_inputs_are_no_inputs_of_a_folder(tmp_path):
    touched(tmp_path, *RESULTS, *INPUTS)
    assert [job.source.name for job in plan([tmp_path])] == INPUTS


def test_a_result_that_is_named_is_denoised(tmp_path):
    touched(tmp_path, "a.tif", "a_denoised.tif")
    named = tmp_path / "a_denoised.tif"
    assert plan([named]) == [Job(named, tmp_path / "a_denoised_denoised.tif")]
    assert [job.source for job in plan([tmp_path, named])] == [tmp_path / "a.tif", named]


def test_a_folder_with_a_folder_for_its_results_is_taken_whole(tmp_path):
    folder = touched(tmp_path / "in", "a.tif", "a_denoised.tif")
    assert len(plan([folder], tmp_path / "out")) == 2


@pytest.mark.parametrize("suffix", ["tif", "mrc", "npy", "png"])
def test_the_format_is_that_of_files_which_the_output_does_not_name(tmp_path, suffix):
    file = tmp_path / "a.dm4"
    assert plan([file], suffix=suffix)[0].target.suffix == f".{suffix}"
    assert plan([file], tmp_path / "out", suffix=suffix)[0].target.suffix == f".{suffix}"
    assert plan([file], tmp_path / "x.tiff", suffix=suffix)[0].target.suffix == ".tiff"


@pytest.mark.parametrize(
    "name", ["out.jpg", "out.dm4", "out.txt", "out.tif.gz", "out.2026"]
)
def test_a_suffix_that_cannot_be_written_is_refused_by_name(tmp_path, name):
    with pytest.raises(MicrographError, match=r"cannot be written; use \.tif"):
        plan([tmp_path / "a.tif"], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_may_have_a_dot_in_its_name(tmp_path):
    wanted = [Job(tmp_path / "a.tif", tmp_path / "day.2026" / "a.tif")]
    assert plan([tmp_path / "a.tif"], f"{tmp_path}/day.2026/") == wanted
    (tmp_path / "day.2026").mkdir()
    assert plan([tmp_path / "a.tif"], tmp_path / "day.2026") == wanted


def test_hidden_files_and_folders_named_like_files_are_left_out(tmp_path):
    touched(tmp_path, "a.tif", ".emdn-1f.tif", "._a.tif", "deep.tif/x.tif", "notes.txt")
    assert [job.source.name for job in plan([tmp_path], tmp_path / "out")] == ["a.tif"]


def test_what_is_done_already_is_skipped_and_kept_to_the_bit(tmp_path, noise_remover):
    np.save(tmp_path / "a.npy", counts())
    job = Job(tmp_path / "a.npy", tmp_path / "out" / "a.tif")
    (first,) = denoise_file(job, noise_remover, Batch(skip=True))
    before = job.target.read_bytes()
    (again,) = denoise_file(job, noise_remover, Batch(skip=True, gain=50.0))
    assert (first.skipped, again.skipped) == (False, True)
    assert again.differs == ["another detector"]
    assert job.target.read_bytes() == before
    (anew,) = denoise_file(job, noise_remover, Batch(skip=True, overwrite=True, gain=50.0))
    assert not anew.skipped
    assert job.target.read_bytes() != before
    with pytest.raises(MicrographError, match="exists already"):
        list(denoise_file(job, noise_remover))


OTHERWISE = {
    "other weights": (Denoiser("low"), Batch()),
    "other options": (Denoiser(clip=False), Batch()),
    "other pixels": (Denoiser(), Batch(dtype="same")),
    "another image": (Denoiser(), Batch(image=0)),
    "a detector told": (Denoiser(), Batch(gain=1.0)),
    "adapted": (Denoiser(), Batch(adapt=True)),
}


@pytest.mark.parametrize("suffix", ["tif", "mrc", "png"])
@pytest.mark.parametrize("how", OTHERWISE)
def test_a_result_made_otherwise_is_left_and_named(tmp_path, noise_remover, how, suffix):
    np.save(tmp_path / "a.npy", counts())
    job = Job(tmp_path / "a.npy", tmp_path / f"b.{suffix}")
    (_,) = denoise_file(job, noise_remover)
    before = job.target.read_bytes()
    other, batch = OTHERWISE[how]
    for remover, wanted, differ in (
        (noise_remover, Batch(), False),
        (Denoiser(batch_size=1, progress=False), Batch(), False),  # changes no pixel
        (other, batch, True),
    ):
        (left,) = denoise_file(job, remover, replace(wanted, skip=True))
        assert left.skipped
        assert bool(left.differs) == differ
    assert job.target.read_bytes() == before


def test_a_result_of_an_input_that_has_changed_is_named(tmp_path, noise_remover):
    np.save(tmp_path / "a.npy", counts())
    job = Job(tmp_path / "a.npy", tmp_path / "b.tif")
    (_,) = denoise_file(job, noise_remover)
    np.save(tmp_path / "a.npy", counts(seed=1))
    (left,) = denoise_file(job, noise_remover, Batch(skip=True))
    assert left.differs == ["another input"]


def test_files_that_are_no_result_are_named(tmp_path, noise_remover):
    np.save(tmp_path / "a.npy", counts())
    write_micrograph(tmp_path / "foreign.tif", counts())
    (tmp_path / "damaged.tif").write_bytes(b"no TIFF")
    for name, words in (("foreign", "nothing that emdn wrote"), ("damaged", "damaged")):
        job = Job(tmp_path / "a.npy", tmp_path / f"{name}.tif")
        (left,) = denoise_file(job, noise_remover, Batch(skip=True))
        assert left.differs == [words]


def test_shipped_weights_are_the_same_for_either_backend():
    facts = [
        {"denoised by": "emdn", "weights": name, "weights sha256": digest}
        for suffix in (".keras", ".onnx")
        for name, digest in shipped_hashes(suffix).items()
        if name.startswith("auto")
    ]
    alike = twins(Denoiser("auto"))
    assert differences(*facts, alike) == []
    mine = facts[0] | {"weights sha256": "0" * 64}
    assert differences(facts[1], mine, alike) == ["other weights"]


@pytest.mark.parametrize("suffix", ["tif", "mrc", "png"])
def test_a_result_tells_where_it_comes_from(tmp_path, noise_remover, suffix):
    np.save(tmp_path / "a.npy", counts())
    (_,) = denoise_file(Job(tmp_path / "a.npy", tmp_path / f"b.{suffix}"), noise_remover)
    _, metadata = read_micrograph(tmp_path / f"b.{suffix}")
    told = metadata.other
    assert told["denoised by"] == f"emdn {emdn.__version__}"
    digest = hashlib.sha256((tmp_path / "a.npy").read_bytes()).hexdigest()
    assert told["input sha256"] == digest
    weights = noise_remover.weights
    assert told["weights sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert str(told["detector of the input"]).startswith("measured: counts: gain 1")


@pytest.mark.parametrize(("size", "unit"), [(0.2, "nm"), (2.0, "A"), (200.0, "pm")])
def test_the_dose_of_an_area_is_in_square_angstroms(tmp_path, noise_remover, size, unit):
    pixels = Metadata(pixel_size=size, unit=unit)
    write_micrograph(tmp_path / "a.tif", counts(mean=40.0), pixels)
    (done,) = denoise_file(Job(tmp_path / "a.tif", tmp_path / "b.tif"), noise_remover)
    (told,) = re.findall(r"\(([\d.]+) per square angstrom\)", done.measured)
    assert float(told) == pytest.approx(40.0 / 2.0**2, rel=0.02)


def test_a_result_that_is_denoised_again_says_so_and_what_was_told(tmp_path, noise_remover):
    np.save(tmp_path / "a.npy", counts())
    (_,) = denoise_file(Job(tmp_path / "a.npy", tmp_path / "b.tif"), noise_remover)
    again = Job(tmp_path / "b.tif", tmp_path / "c.tif")
    (done,) = denoise_file(again, noise_remover, Batch(gain=2.0))
    assert any("denoised already" in note for note in done.notes)
    told = read_micrograph(tmp_path / "c.tif")[1].other
    assert told["detector of the input"] == "told: gain 2"
    digest = hashlib.sha256((tmp_path / "b.tif").read_bytes()).hexdigest()
    assert told["input sha256"] == digest


@pytest.mark.parametrize("suffix", ["tif", "mrc", "npy"])
def test_a_stack_is_denoised_image_by_image(tmp_path, noise_remover, suffix):
    stack = np.stack([counts(seed=seed) for seed in range(3)])
    write_micrograph(tmp_path / "stack.mrc", stack)
    job = Job(tmp_path / "stack.mrc", tmp_path / f"out.{suffix}")
    seen = []
    list(denoise_file(job, noise_remover, advance=lambda *done: seen.append(done)))
    result, _ = read_micrograph(job.target)
    np.testing.assert_allclose(result, noise_remover.denoise(stack), atol=1e-3)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_all_images_of_a_file_go_into_files_named_after_them(tmp_path, noise_remover):
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as tif:
        for seed, name in enumerate(("HAADF", "BF 2/3")):
            tif.write(counts((32, 48), seed), metadata={"axes": "YX", "Name": name})
    job = Job(tmp_path / "two.ome.tif", tmp_path / "two.tif")
    done = list(denoise_file(job, noise_remover, Batch(every=True)))
    assert [each.target.name for each in done] == ["two_HAADF.tif", "two_BF-2-3.tif"]
    assert all(each.target.is_file() for each in done)
    (one,) = denoise_file(job, noise_remover, Batch(image="BF 2/3"))
    np.testing.assert_array_equal(
        read_micrograph(one.target)[0], read_micrograph(done[1].target)[0]
    )


def test_a_stack_shares_one_adaptation(tmp_path, noise_remover):
    """Too small for any: the reason is told once, and all images come back as before."""
    stack = np.stack([counts(seed=seed) for seed in range(3)])
    write_micrograph(tmp_path / "stack.mrc", stack)
    (plain,), (adapted,) = (
        denoise_file(
            Job(tmp_path / "stack.mrc", tmp_path / f"{adapt}.npy"),
            noise_remover,
            Batch(gain=1.0, adapt=adapt),
        )
        for adapt in (False, True)
    )
    assert plain.adapted is None
    assert adapted.adapted.startswith("not adapted: 40 x 32 pixels are too few")
    np.testing.assert_array_equal(np.load(adapted.target), np.load(plain.target))


def test_one_image_and_all_images_exclude_each_other():
    with pytest.raises(ValueError, match="exclude each other"):
        Batch(image="HAADF", every=True)


def test_the_type_of_the_input_is_kept_where_it_is_asked_for(tmp_path, noise_remover):
    write_micrograph(tmp_path / "a.tif", counts())
    job = Job(tmp_path / "a.tif", tmp_path / "b.tif")
    list(denoise_file(job, noise_remover, Batch(dtype="same")))
    result, _ = read_micrograph(job.target)
    assert result.dtype == np.uint16
    expected = noise_remover.denoise(counts())
    np.testing.assert_allclose(result, expected, atol=0.51)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "int64"])
def test_conversion_to_integers_rounds_clips_and_counts(dtype):
    limits = np.iinfo(dtype)
    inside = np.array([[0.4, 0.6, 100.49]], np.float32)
    pixels, clipped = convert(inside, dtype)
    np.testing.assert_array_equal(pixels, [[0, 1, 100]])
    assert (pixels.dtype, clipped) == (np.dtype(dtype), 0)
    outside = np.array([[4.0 * limits.max, 4.0 * limits.min - 4.0]], np.float32)
    pixels, clipped = convert(outside, dtype)
    assert clipped == 2
    assert pixels[0, 0] == pytest.approx(limits.max, rel=1e-6)
    assert pixels[0, 1] == limits.min


def test_a_file_that_cannot_be_read_leaves_no_folder_behind(tmp_path, noise_remover):
    (tmp_path / "bad.tif").write_bytes(b"not a TIFF")
    with pytest.raises(MicrographError, match=r"bad\.tif"):
        list(denoise_file(Job(tmp_path / "bad.tif", tmp_path / "out/a.tif"), noise_remover))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["a.npy/b.tif", "a.npy/folder/b.tif"])
def test_a_result_below_a_file_is_refused_by_name(tmp_path, noise_remover, output):
    np.save(tmp_path / "a.npy", counts())
    job = Job(tmp_path / "a.npy", tmp_path / output)
    with pytest.raises(MicrographError, match=r"b\.tif: .* is a file and no folder"):
        list(denoise_file(job, noise_remover))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_batch_that_is_killed_leaves_no_stray_file_and_goes_on(tmp_path):
    """SIGTERM in the middle of a stack; the next run does what is missing."""
    session = tmp_path / "session"
    session.mkdir()
    np.save(session / "a.npy", counts((32, 32)))
    np.save(session / "b.npy", counts((400, 64, 64)))
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from emdn.cli import app; app()", "denoise"]
    running = subprocess.Popen([*command, str(session), "-o", str(out)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (out / "a.tif").is_file() and list(out.glob(".emdn-*")):
            break
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    assert [path.name for path in out.iterdir()] == ["a.tif"]
    before = (out / "a.tif").stat().st_mtime_ns
    np.save(session / "b.npy", counts((2, 64, 64)))
    done = subprocess.run(
        [*command, str(session), "-o", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"a.tif", "b.tif"}
    assert "1 of 2 results are there already" in done.stderr
    assert (out / "a.tif").stat().st_mtime_ns == before
