"""Pieces make what one image in memory makes, whoever makes them and however often."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from emdn import Denoiser, large
from emdn.batch import Batch, Job, denoise_file, denoise_files
from emdn.cluster import computing
from emdn.detector import Detector
from emdn.io import MicrographError, open_micrograph, read_micrograph, write_micrograph
from emdn.specimens.micrographs import membranes

ROOT = Path(__file__).parents[1]
TILES = {"tile_size": 64, "overlap": 16, "progress": False}  # small, so that there are many


@pytest.fixture(autouse=True)
def pieces_of_tiles(monkeypatch):
    """Cut images into pieces that are small enough for one."""
    monkeypatch.setattr(large, "LARGE_FRAME", 4096)


@pytest.fixture(scope="module")
def noise_remover():
    return Denoiser(**TILES)


@pytest.fixture(scope="module")
def clean():
    return membranes((130, 115), np.random.default_rng(0))


@pytest.fixture(scope="module")
def counts(clean):
    return np.random.default_rng(1).poisson(60 * clean).astype(np.float32)


def both(folder, image, noise_remover, suffix="npy", **options):
    """Denoise in memory and in pieces; return both results, and what was told."""
    np.save(folder / "noisy.npy", image)
    told = []
    for in_pieces in (False, True):
        job = Job(folder / "noisy.npy", folder / f"{in_pieces}.{suffix}")
        batch = Batch(in_pieces=in_pieces, **options)
        told += denoise_file(job, noise_remover, batch)
    images = [read_micrograph(each.target)[0] for each in told]
    assert not list(folder.glob(".*"))  # nothing stays behind
    return *images, *told


def with_defects(counts):
    image = counts.copy()
    image[5, 7] = 1e6
    image[40:44, 30:90] = np.nan
    image[100:] = 0
    image[:, 60] = 5
    return image


def camera(clean):
    detector = Detector(7.0, 100.0, 1.0, (0.45, 0.45))
    return detector.apply(60 * clean, np.random.default_rng(2))


def with_bar(image):
    barred = image.copy()
    barred[96:] = image.max()
    return barred


KINDS = {
    "counts": lambda counts, _: counts,
    "defects": lambda counts, _: with_defects(counts),
    "correlated noise": lambda _, clean: camera(clean),
    "a bar": lambda counts, _: with_bar(counts),
    "a bar of a camera": lambda _, clean: with_bar(camera(clean)),
    "negative": lambda counts, _: -counts,
    "double precision": lambda counts, _: 1e-9 * counts.astype(np.float64),
    "integers": lambda counts, _: counts.astype(np.int16),
    "no noise": lambda _, clean: clean.astype(np.float32),
    "constant": lambda counts, _: np.full_like(counts, 3.0),
    "a row": lambda counts, _: counts.reshape(1, -1)[:, :800],
    "two columns": lambda counts, _: counts.reshape(-1, 2)[:800],
    "a stack": lambda counts, clean: np.stack([counts, camera(clean), counts[::-1]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_equal_the_image_in_memory(tmp_path, noise_remover, counts, clean, kind):
    image = KINDS[kind](counts, clean)
    memory, pieces, told, told_of_pieces = both(tmp_path, image, noise_remover)
    assert np.abs(memory - pieces).max() <= 1e-6 * np.ptp(memory)
    assert told_of_pieces.measured == told.measured
    assert told_of_pieces.notes == told.notes


@pytest.mark.parametrize("options", [{"gain": 1.0}, {"offset": 2.0}, {"dtype": "same"}])
def test_what_is_told_holds_for_pieces_too(tmp_path, noise_remover, counts, options):
    image = counts.astype(np.uint8)
    memory, pieces, *_ = both(tmp_path, image, noise_remover, **options)
    assert np.abs(memory.astype(float) - pieces).max() <= 1e-4


@pytest.mark.parametrize("suffix", ["tif", "mrc", "zarr"])
def test_formats_hold_the_same_numbers_and_where_they_come_from(
    tmp_path, noise_remover, counts, suffix
):
    memory, pieces, *_ = both(tmp_path, counts, noise_remover, suffix)
    np.testing.assert_allclose(memory, pieces, atol=1e-4)
    metadata = open_micrograph(tmp_path / f"True.{suffix}").metadata
    assert metadata.other == open_micrograph(tmp_path / f"False.{suffix}").metadata.other


def test_a_stack_of_many_small_images_takes_few_pieces(tmp_path, noise_remover):
    stack = np.random.default_rng(0).poisson(20.0, (300, 4, 5)).astype(np.uint8)
    memory, pieces, told, told_of_pieces = both(tmp_path, stack, noise_remover, "tif")
    np.testing.assert_array_equal(memory, pieces)
    assert told_of_pieces.notes == told.notes


def test_a_packed_file_is_unpacked_to_disk(tmp_path, noise_remover, counts):
    import gzip

    write_micrograph(tmp_path / "a.tif", counts)
    packed = gzip.compress((tmp_path / "a.tif").read_bytes())
    (tmp_path / "a.tif.gz").write_bytes(packed)
    assert open_micrograph(tmp_path / "a.tif.gz").block is None
    results = []
    for name in ("a.tif", "a.tif.gz"):
        job = Job(tmp_path / name, tmp_path / f"{name}.npy")
        list(denoise_file(job, noise_remover, Batch(in_pieces=True)))
        results.append(np.load(job.target))
    np.testing.assert_array_equal(*results)


# ------------------------------------------------------------------ interrupted and again


SCRIPT = """
import sys
from pathlib import Path
from emdn import Denoiser, large
from emdn.batch import Batch, Job, denoise_file
large.LARGE_FRAME = 4096
noise_remover = Denoiser(
    tile_size=64, overlap=16, batch_size=1, backend="onnx", progress=False
)
job = Job(Path(sys.argv[1]), Path(sys.argv[2]))
list(denoise_file(job, noise_remover, Batch(in_pieces=True)))
"""


def start(source, target):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(source), str(target)], env=environment
    )


def wait_for(condition, process, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_killed_job_goes_on_and_gives_the_same_bits(tmp_path, counts, pieces):
    np.save(tmp_path / "noisy.npy", counts)
    target, folder = tmp_path / "out.tif", tmp_path / ".out.tif.emdn"
    killed = start(tmp_path / "noisy.npy", target)
    wait_for(lambda: len(list(folder.glob("0-*.npy"))) >= pieces, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not target.exists()
    made = {each: each.stat().st_mtime_ns for each in folder.glob("0-*.npy")}
    seen = []
    noise_remover = Denoiser(**TILES, batch_size=1, backend="onnx")
    job = Job(tmp_path / "noisy.npy", target)

    def advance(*_):
        seen.append(all(each.stat().st_mtime_ns == made[each] for each in made))

    list(denoise_file(job, noise_remover, Batch(in_pieces=True), advance=advance))
    assert all(seen)  # what was there was not made again
    assert not folder.exists()
    whole = Job(tmp_path / "noisy.npy", tmp_path / "whole.tif")
    list(denoise_file(whole, noise_remover, Batch(in_pieces=True)))
    assert target.read_bytes() == whole.target.read_bytes()


class Interrupted(Exception):
    """What stops a job in these tests."""


def interrupted(job, noise_remover, pieces=3):
    """Stop a job after some pieces."""

    def advance(number, _):
        if number == pieces:
            raise Interrupted

    with pytest.raises(Interrupted):
        list(denoise_file(job, noise_remover, Batch(in_pieces=True), advance=advance))


def test_pieces_of_another_input_are_refused_or_made_anew(tmp_path, noise_remover, counts):
    job = Job(tmp_path / "noisy.npy", tmp_path / "out.npy")
    np.save(job.source, counts)
    interrupted(job, noise_remover)
    np.save(job.source, counts[::-1])
    with pytest.raises(ValueError, match=r"sha256.*--overwrite"):
        list(denoise_file(job, noise_remover, Batch(in_pieces=True)))
    list(denoise_file(job, noise_remover, Batch(in_pieces=True, overwrite=True)))
    other = Job(job.source, tmp_path / "other.npy")
    list(denoise_file(other, noise_remover, Batch(in_pieces=True)))
    np.testing.assert_array_equal(np.load(job.target), np.load(other.target))


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ({"overlap": 0}, Batch(in_pieces=True)),
        ({"quality": "best"}, Batch(in_pieces=True)),
        ({"weights": "low"}, Batch(in_pieces=True)),
        ({}, Batch(in_pieces=True, gain=2.0)),
        ({}, Batch(in_pieces=True, dtype="same")),
    ],
)
def test_pieces_by_other_settings_are_refused(
    tmp_path, noise_remover, counts, options, batch
):
    job = Job(tmp_path / "noisy.npy", tmp_path / "out.npy")
    np.save(job.source, counts.astype(np.uint8))
    interrupted(job, noise_remover, pieces=1)
    with pytest.raises(ValueError, match=r"changed: .* from .* to "):
        list(denoise_file(job, Denoiser(**TILES | options), batch))
    assert not job.target.exists()


def test_an_input_that_changes_meanwhile_gives_no_result(tmp_path, noise_remover, counts):
    job = Job(tmp_path / "noisy.npy", tmp_path / "out.npy")
    np.save(job.source, counts)

    def change(*_):
        np.save(job.source, counts + 1)

    with pytest.raises(MicrographError, match="changed while it was read"):
        list(denoise_file(job, noise_remover, Batch(in_pieces=True), advance=change))
    assert [each.name for each in tmp_path.iterdir()] == ["noisy.npy"]


def test_two_processes_do_not_write_one_result(tmp_path, noise_remover, counts):
    job = Job(tmp_path / "noisy.npy", tmp_path / "out.npy")
    np.save(job.source, counts)

    def again(*_):
        with pytest.raises(ValueError, match="another process is at work"):
            list(denoise_file(job, noise_remover, Batch(in_pieces=True)))

    list(denoise_file(job, noise_remover, Batch(in_pieces=True), advance=again))
    assert job.target.exists()


def test_a_full_disk_is_found_before_the_work(tmp_path, noise_remover, counts, monkeypatch):
    job = Job(tmp_path / "noisy.npy", tmp_path / "out.npy")
    np.save(job.source, counts)
    usage = shutil.disk_usage(tmp_path)
    free = 3 * counts.nbytes // 2  # enough for the result, not for the pieces beside it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    with pytest.raises(MicrographError, match="free some space"):
        list(denoise_file(job, noise_remover, Batch(in_pieces=True)))


# -------------------------------------------------------------------- on several machines


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as started:
        yield started


ONE_BY_ONE = TILES | {"batch_size": 1}


def test_pieces_of_an_image_are_made_by_workers_of_which_one_is_killed(
    tmp_path, counts, cluster
):
    np.save(tmp_path / "noisy.npy", counts)
    # Workers are processes of their own, for which no fixture chooses the precision.
    noise_remover = Denoiser(**ONE_BY_ONE, precision="float32")
    job = Job(tmp_path / "noisy.npy", tmp_path / "out.npy")
    killed = []

    def kill(number, all_pieces):
        if number == all_pieces // 3:
            (worker, *_) = cluster.workers.values()
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    with computing(cluster.scheduler_address) as compute:
        batch = Batch(in_pieces=True)
        list(denoise_file(job, noise_remover, batch, compute=compute, advance=kill))
    assert len(killed) == 1
    whole = Job(tmp_path / "noisy.npy", tmp_path / "whole.npy")
    list(denoise_file(whole, noise_remover, batch))
    assert job.target.read_bytes() == whole.target.read_bytes()


def test_files_are_denoised_by_workers_and_a_bad_one_ends_no_other(
    tmp_path, counts, cluster
):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.roll(counts, number))
    (tmp_path / "3.npy").write_bytes(b"no numbers")
    jobs = [Job(tmp_path / f"{n}.npy", tmp_path / "out" / f"{n}.npy") for n in range(4)]
    noise_remover = Denoiser(**TILES, precision="float32")
    with computing(cluster.scheduler_address) as compute:
        done = dict(denoise_files(jobs, noise_remover, compute=compute))
    assert isinstance(done[jobs[3]], MicrographError)
    for job in jobs[:3]:
        (alone,) = denoise_file(
            Job(job.source, tmp_path / "alone.npy"), noise_remover, Batch(overwrite=True)
        )
        assert job.target.read_bytes() == alone.target.read_bytes()


def test_a_scheduler_without_workers_is_not_waited_for_for_ever(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("emdn.cluster.PATIENCE", 0.1)
    with distributed.LocalCluster(
        n_workers=0, processes=False, dashboard_address=":0"
    ) as idle:
        address = idle.scheduler.address
        with (
            pytest.raises(ValueError, match=f"^{address}: has no workers; start some by"),
            computing(address),
        ):
            pass


def test_an_address_where_no_scheduler_answers_is_refused():
    pytest.importorskip("distributed")
    with (
        pytest.raises(ValueError, match="no Dask scheduler answers"),
        computing("tcp://127.0.0.1:9"),
    ):
        pass


# ---------------------------------------------------------------------------- the command


def test_the_command_takes_pieces_above_a_size(tmp_path, counts, monkeypatch):
    from typer.testing import CliRunner

    from emdn.cli import app

    np.save(tmp_path / "noisy.npy", counts)
    taken = []
    monkeypatch.setattr(large, "LARGE", counts.size - 1)
    make_piece = large.make_piece

    def noted(piece):
        taken.append(json.loads((piece.work.folder / "job.json").read_text()))
        return make_piece(piece)

    monkeypatch.setattr(large, "make_piece", noted)
    options = ["--tile-size", "64", "--overlap", "16"]
    found = CliRunner().invoke(app, ["denoise", str(tmp_path / "noisy.npy"), *options])
    assert found.exit_code == 0, found.output
    assert taken
    assert (tmp_path / "noisy_denoised.tif").exists()
