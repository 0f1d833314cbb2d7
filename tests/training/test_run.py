"""A training ends with the same weights however often, and however, it was interrupted."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from emdn import Denoiser
from emdn.cli import app
from emdn.data.augment import Augmentation
from emdn.data.corpus import DataConfig, read_survey, survey
from emdn.data.sampler import Sampler
from emdn.io import read_micrograph
from emdn.networks.dncnn import DnCNNConfig
from emdn.networks.ede2019 import TINY
from emdn.networks.unet import UNetConfig
from emdn.specimens.micrographs import KINDS
from emdn.training.checkpoints import newest_state, save_state
from emdn.training.log import COLUMNS, read_log
from emdn.training.recipe import Phase, TrainingConfig
from emdn.training.run import WEIGHTS, TrainingError, train
from emdn.training.step import Trainer

DNCNN = {"depth": 3, "features": 4, "batch_norm_decay": 0.5}

KILLED = """
import os, signal, sys, threading
from emdn.training import step as trainer
from emdn.cli import app

step, (number, delay) = trainer.Trainer.step, map(float, sys.argv.pop().split())

def counted_step(self, parts, count):
    if count == number:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return step(self, parts, count)

trainer.Trainer.step = counted_step
app()
"""
"""The command line, which is killed some seconds after it begins with a step."""


@pytest.fixture(scope="module")
def micrographs(tmp_path_factory):
    """Return a folder of a dozen small micrographs."""
    folder = tmp_path_factory.mktemp("micrographs")
    kinds = list(KINDS.values())
    for number in range(12):
        image = kinds[number % 4]((40, 56), np.random.default_rng(number))
        np.save(folder / f"{number:02}.npy", image)
    return folder


@pytest.fixture(scope="module")
def quick(micrographs):
    """Return settings of a training of eight steps that takes no second."""
    return TrainingConfig(
        DataConfig(micrographs, crop=16, downsizing=1, fractions=(0.5, 0.25, 0.25)),
        model=DnCNNConfig(**DNCNN),
        schedule=(Phase(5, 1e-3), Phase(3, 5e-4)),
        batch=4,
        accumulation=2,
        freeze_batch_norm=6,
        deterministic=True,
        log_every=2,
        checkpoint_every=3,
        examples_every=4,
    )


@pytest.fixture(scope="module")
def quick_run(quick, tmp_path_factory):
    """Return the folder of that training, which nothing interrupted."""
    folder = tmp_path_factory.mktemp("quick") / "run"
    assert train(quick, folder) == folder / WEIGHTS
    return folder


@pytest.fixture(scope="module")
def tiny(micrographs):
    """Return settings of a training of the paper's kind of network."""
    return TrainingConfig(
        DataConfig(micrographs, crop=32, downsizing=1),
        model=TINY,
        schedule=(Phase(25, 2e-3), Phase(15, 5e-4)),
        batch=4,
        accumulation=2,
        freeze_batch_norm=None,
        deterministic=True,
        validate_every=10,
        log_every=5,
        checkpoint_every=10,
        examples_every=20,
    )


@pytest.fixture(scope="module")
def tiny_run(tiny, tmp_path_factory):
    """Return the folder of that training, which nothing interrupted."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    assert train(tiny, folder) == folder / WEIGHTS
    return folder


@pytest.fixture
def copy(quick_run, tmp_path):
    """Return a copy of the quick training's folder."""
    return shutil.copytree(quick_run, tmp_path / "copy")


def write_recipe(path, config):
    """Write a configuration in the form of a recipe, YAML, of which JSON is a part."""
    settings = json.loads(json.dumps(asdict(config), default=str))
    model = "DNCNN" if isinstance(config.model, DnCNNConfig) else "TINY"
    settings["model"]["name"] = model
    path.write_text(json.dumps(settings))
    return path


def assert_ends_equal(folder, other):
    """Require the last checkpoints and the networks of two runs to agree in every bit."""
    (step, state), (number, expected) = newest_state(folder), newest_state(other)
    assert step == number
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert state[name].tobytes() == array.tobytes(), name
    networks = (keras.models.load_model(path / WEIGHTS) for path in (folder, other))
    for pair in zip(*(each.get_weights() for each in networks), strict=True):
        np.testing.assert_array_equal(*pair)


def steps_of(folder):
    return [row["step"] for row in read_log(folder / "log.csv")]


def one_line(error):
    """Return a message, which must be of one line."""
    (line,) = str(error).splitlines()
    return line


@pytest.fixture
def interrupt_at(monkeypatch):
    """Return a function that lets a signal come during some steps of all trainings."""

    def unhandled(number, _):
        raise AssertionError(f"signal {number} was not handled")  # rather than end pytest

    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(each, unhandled) for each in signals]
    step = Trainer.step

    def arrange(*steps, kind=signal.SIGTERM):
        def interrupted_step(self, parts, number):
            if number in steps:
                signal.raise_signal(kind)
            return step(self, parts, number)

        monkeypatch.setattr(Trainer, "step", interrupted_step)

    yield arrange
    assert [signal.getsignal(each) for each in signals] == [unhandled] * 2
    for each, handler in zip(signals, before, strict=True):
        signal.signal(each, handler)


# A whole run.


@pytest.mark.slow
def test_training_lowers_loss_and_errors(tiny_run):
    rows = read_log(tiny_run / "log.csv")
    for name in ("loss", "mse", "val_mse"):
        first, last = (
            np.nanmean([row[name] for row in some]) for some in (rows[:2], rows[-2:])
        )
        assert last < 0.7 * first, name


@pytest.mark.slow
def test_the_log_has_a_row_for_each_so_many_steps(tiny_run):
    rows = read_log(tiny_run / "log.csv")
    assert steps_of(tiny_run) == list(range(5, 41, 5))
    assert [row["rate"] for row in rows] == [2e-3] * 5 + [5e-4] * 3
    with_scores, without = rows[1::2], rows[::2]  # validation is at each tenth step
    assert np.isfinite([[row[name] for name in COLUMNS] for row in with_scores]).all()
    for row in without:
        assert {name for name in COLUMNS if np.isnan(row[name])} == {"val_mse", "val_ssim"}
    assert np.diff([row["seconds"] for row in rows]).min() > 0
    assert all(row["mse"] >= 0 and -1 <= row["val_ssim"] <= 1 for row in with_scores)


@pytest.mark.slow
def test_examples_are_a_noisy_a_denoised_and_a_clean_crop(tiny_run):
    paths = sorted((tiny_run / "examples").iterdir())
    assert [path.name for path in paths] == ["000000020.tif", "000000040.tif"]
    first, last = (read_micrograph(path)[0] for path in paths)
    for triplet in (first, last):
        assert triplet.shape == (3, 32, 32)
        assert triplet.dtype == np.float32
        assert 0 <= triplet.min() <= triplet.max() <= 1
    np.testing.assert_array_equal(first[0], last[0])  # the same pair each time
    np.testing.assert_array_equal(first[2], last[2])
    assert first[0].mean() == pytest.approx(first[2].mean(), rel=1e-4)
    assert not np.array_equal(first[1], last[1])


@pytest.mark.slow
def test_files_for_tensorboard_appear(tiny_run):
    (path,) = (tiny_run / "tensorboard").iterdir()
    assert "tfevents" in path.name
    assert path.stat().st_size > 1000


@pytest.mark.slow
def test_the_network_of_a_run_denoises(tiny_run):
    rng = np.random.default_rng(0)
    counts = rng.poisson(60 * KINDS["particles"]((70, 50), rng)).astype(np.float32)
    denoised = Denoiser(tiny_run / WEIGHTS).denoise(counts)
    assert denoised.shape == counts.shape
    assert np.isfinite(denoised).all()
    assert counts.min() <= denoised.min() <= denoised.max() <= counts.max()
    graph = Denoiser(tiny_run / "denoiser.onnx").denoise(counts)
    np.testing.assert_allclose(graph, denoised, rtol=1e-4, atol=1e-3)


def test_the_folder_of_a_run_tells_what_was_done(quick, quick_run):
    assert sorted(path.name for path in quick_run.iterdir()) == [
        "checkpoint-000000006.npz",
        "checkpoint-000000008.npz",
        WEIGHTS,
        "denoiser.onnx",
        "examples",
        "lock",
        "log.csv",
        "recipe.json",
        "survey.csv",
        "tensorboard",
    ]
    recipe = json.loads((quick_run / "recipe.json").read_text())
    assert recipe["schedule"] == [asdict(phase) for phase in quick.schedule]
    assert recipe["model"] == DNCNN
    assert recipe["data"]["folder"] == str(quick.data.folder)
    assert read_survey(quick_run / "survey.csv") == survey(quick.data)


def test_the_network_is_that_of_the_last_checkpoint(quick_run):
    step, state = newest_state(quick_run)
    assert step == 8
    weights = keras.models.load_model(quick_run / WEIGHTS).get_weights()
    saved = [array for name, array in state.items() if name.startswith("model/")]
    for array, weight in zip(saved, weights, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, weight)


def test_a_finished_run_is_left_as_it_is(quick, quick_run, copy):
    (copy / WEIGHTS).unlink()
    assert train(quick, copy) == copy / WEIGHTS
    assert_ends_equal(copy, quick_run)
    assert (copy / "log.csv").read_bytes() == (quick_run / "log.csv").read_bytes()


def test_a_network_trained_in_half_precision_is_one_of_float32(quick, tmp_path):
    path = train(replace(quick, precision="mixed_bfloat16"), tmp_path / "run")
    network = keras.models.load_model(path)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert {each.dtype for each in network.get_weights()} == {np.dtype(np.float32)}
    image = np.random.default_rng(0).poisson(30, (40, 30))
    assert np.isfinite(Denoiser(path).denoise(image)).all()


# Interruptions.


@pytest.mark.slow
def test_a_run_that_is_killed_and_started_again_ends_with_the_same_bits(
    tiny, tiny_run, tmp_path
):
    """SIGKILL comes at some moment after the first checkpoint, in a process of its own."""
    rng = np.random.default_rng(2018)
    moment = f"{rng.integers(11, 19)} {rng.uniform(0, 0.05)}"
    recipe, folder = write_recipe(tmp_path / "recipe.yml", tiny), tmp_path / "run"
    command = [sys.executable, "-c", KILLED, "train", "--config", recipe, "-o", folder]
    done = subprocess.run([*command, moment], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (folder / WEIGHTS).exists()
    assert newest_state(folder)[0] < tiny.steps

    assert train(tiny, folder) == folder / WEIGHTS
    assert_ends_equal(folder, tiny_run)
    assert steps_of(folder) == steps_of(tiny_run)
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_command_save_and_succeed(
    kind, quick, quick_run, tmp_path, interrupt_at
):
    recipe = write_recipe(tmp_path / "recipe.yml", quick)
    folder = tmp_path / "run"
    command = ["train", "--config", str(recipe), "-o", str(folder)]
    interrupt_at(4, kind=kind)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert result.stdout == f"{folder}: interrupted and saved; the same command goes on\n"
    assert newest_state(folder)[0] == 5  # the step was finished first
    assert not (folder / WEIGHTS).exists()

    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert result.stdout == f"{folder}: done, {folder / WEIGHTS}\n"
    assert_ends_equal(folder, quick_run)
    assert steps_of(folder) == [2, 3, 4, 5, 6, 8]


def test_a_run_may_be_interrupted_again_and_again(quick, quick_run, tmp_path, interrupt_at):
    """Also in its first step, before and after a checkpoint, and in its last step."""
    interrupt_at(0, 5, 6, 7)
    for done in (1, 6, 7):
        assert train(quick, tmp_path) is None
        assert newest_state(tmp_path)[0] == done
        assert steps_of(tmp_path)[-1] == done
    assert train(quick, tmp_path) == tmp_path / WEIGHTS
    assert_ends_equal(tmp_path, quick_run)
    steps = steps_of(tmp_path)
    assert len(set(steps)) == len(steps)
    assert {2, 4, 6, 8} <= set(steps)


def test_a_run_killed_while_it_saved_goes_on_from_the_checkpoint_before(
    quick, quick_run, copy
):
    (copy / WEIGHTS).unlink()
    newest = copy / "checkpoint-000000008.npz"
    newest.write_bytes(newest.read_bytes()[:-200])
    shutil.copy(newest, copy / "checkpoint-000000009.part")
    assert train(quick, copy) == copy / WEIGHTS
    assert_ends_equal(copy, quick_run)
    assert steps_of(copy) == steps_of(quick_run)


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(quick, copy):
    for path in copy.glob("checkpoint-*.npz"):
        path.write_bytes(b"PK\3\4")
    with pytest.raises(ValueError, match="no checkpoint can be read") as caught:
        train(quick, copy)
    assert str(copy) in one_line(caught.value)


def test_a_training_in_a_thread_leaves_signals_alone(quick, quick_run, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=train, args=(quick, tmp_path))
    thread.start()
    thread.join(60)
    assert signal.getsignal(signal.SIGTERM) is before
    assert_ends_equal(tmp_path, quick_run)


# Averages, and gain-aware networks.


@pytest.fixture(scope="module")
def aware(quick):
    """Return settings with all that a gain-aware network is trained by."""
    data = replace(quick.data, dose_range="any", scenes=0.5, augmentation=Augmentation())
    return replace(
        quick,
        data=data,
        model=UNetConfig(features=(4, 6), blocks=(1, 1)),
        schedule=(Phase(3, 1e-4, 1e-2), Phase(5, 1e-2, 0.0)),
        averaging=0.5,
        dose_exponent=0.5,
    )


@pytest.fixture(scope="module")
def aware_run(aware, tmp_path_factory):
    """Return the folder of that training, which nothing interrupted."""
    folder = tmp_path_factory.mktemp("aware") / "run"
    assert train(aware, folder) == folder / WEIGHTS
    return folder


def test_the_network_of_a_run_has_the_averaged_weights(aware, tmp_path, monkeypatch):
    """Averaged here once more, with a share of one half."""
    step, seen = Trainer.step, []

    def recorded_step(self, parts, number):
        scores = step(self, parts, number)
        seen.append([np.array(each) for each in self.model.trainable_variables])
        return scores

    monkeypatch.setattr(Trainer, "step", recorded_step)
    path = train(aware, tmp_path)
    mean, *later = seen
    for weights in later:
        mean = [(old + new) / 2 for old, new in zip(mean, weights, strict=True)]
    saved = keras.models.load_model(path).get_weights()
    for array, expected in zip(saved, mean, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(saved, seen[-1], strict=True)) > 1e-4


def test_validation_is_of_the_averaged_weights(aware, aware_run):
    """The last example is what the saved network makes of its noisy crop."""
    noisy, denoised, _ = read_micrograph(aware_run / "examples" / "000000008.tif")[0]
    sampler = Sampler(read_survey(aware_run / "survey.csv"), aware.data, "val")
    pair = sampler.pair(0)
    np.testing.assert_array_equal(noisy, pair.noisy)
    network = keras.models.load_model(aware_run / WEIGHTS)
    found = network([pair.noisy[np.newaxis, ..., np.newaxis], np.array([1 / pair.gain])])
    np.testing.assert_allclose(np.clip(found[0, ..., 0], 0, 1), denoised, atol=1e-5)
    assert not np.allclose(noisy, denoised, atol=1e-3)


def test_a_aware_run_may_be_interrupted_again_and_again(
    aware, aware_run, tmp_path, interrupt_at
):
    interrupt_at(0, 4, 7)
    for done in (1, 5):
        assert train(aware, tmp_path) is None
        assert newest_state(tmp_path)[0] == done
    assert train(aware, tmp_path) == tmp_path / WEIGHTS
    assert_ends_equal(tmp_path, aware_run)


# Several machines.


def free_ports(number):
    """Return ports that nobody listens to."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
def test_two_workers_train_the_weights_of_one(quick, tmp_path):
    """With frozen batch normalisations; both processes run on this machine."""
    config = replace(
        quick,
        model=replace(quick.model, depth=4),
        optimizer="nesterov",
        averaging=0.5,
        freeze_batch_norm=0,
        deterministic=False,
    )
    recipe = write_recipe(tmp_path / "recipe.yml", config)
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    command = [sys.executable, "-c", "from emdn.cli import app; app()", "train"]
    command += ["--config", recipe, "-o", tmp_path / "two"]
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        place = {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        workers.append(subprocess.Popen(command, env={**os.environ, **place}, **pipes))
    try:
        for worker in workers:
            output, _ = worker.communicate(timeout=600)
            assert worker.returncode == 0, output.decode()
    finally:
        for worker in workers:
            worker.kill()  # else one would wait for the other for ever

    train(config, tmp_path / "one")
    (_, two), (_, one) = newest_state(tmp_path / "two"), newest_state(tmp_path / "one")
    start = Trainer(config).state()
    assert two.keys() == one.keys()
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    assert max(np.abs(one[name] - start[name]).max() for name in one) > 1e-3
    assert steps_of(tmp_path / "two") == steps_of(tmp_path / "one")
    networks = [keras.models.load_model(tmp_path / run / WEIGHTS) for run in ("one", "two")]
    for pair in zip(*(each.get_weights() for each in networks), strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-5)


# Other recipes for the same folder.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"l2": 1e-3}, "changed: l2 from 0.0 to 0.001;"),
        ({"seed": 3}, "changed: seed from 0 to 3;"),
        ({"batch": 8, "clip": True}, "batch from 4 to 8, clip from False to True;"),
        ({"model": TINY}, "changed: model.depth from 3 to nothing, model.features from 4"),
        ({"optimizer": "rmsprop"}, "changed: optimizer from adam to rmsprop;"),
        ({"freeze_batch_norm": None}, "changed: freeze_batch_norm from 6 to None;"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_another_recipe_for_a_folder_is_refused(change, message, quick, quick_run):
    before = {path: path.stat().st_mtime_ns for path in quick_run.rglob("*")}
    with pytest.raises(ValueError, match="written with other settings") as caught:
        train(replace(quick, **change), quick_run)
    assert message in one_line(caught.value)
    assert {path: path.stat().st_mtime_ns for path in quick_run.rglob("*")} == before


def test_other_data_for_a_folder_are_refused(quick, quick_run):
    data = replace(quick.data, crop=32, dose_range="ordinary")
    message = r"data\.dose_range from low to ordinary, data\.crop from 16 to 32;"
    with pytest.raises(ValueError, match=message):
        train(replace(quick, data=data), quick_run)


def test_a_longer_schedule_goes_on_where_the_shorter_one_ended(quick, quick_run, tmp_path):
    """From elsewhere, and with other intervals: all this decides on no weight."""
    moved = shutil.copytree(quick.data.folder, tmp_path / "moved")
    train(replace(quick, schedule=(Phase(4, 1e-3),)), tmp_path / "run")
    assert newest_state(tmp_path / "run")[0] == 4
    longer = replace(
        quick,
        data=replace(quick.data, folder=moved, cache=0.001),
        log_every=3,
        checkpoint_every=2,
        examples_every=7,
        validate_every=2,
        validation_pairs=2,
    )
    train(longer, tmp_path / "run")
    assert_ends_equal(tmp_path / "run", quick_run)
    assert steps_of(tmp_path / "run") == [2, 3, 4, 6, 8]


def test_checkpoints_without_their_recipe_are_refused(quick, copy):
    (copy / "recipe.json").unlink()
    with pytest.raises(ValueError, match=r"holds checkpoints, but no recipe\.json"):
        train(quick, copy)


def test_a_schedule_shorter_than_what_is_done_is_refused(quick, quick_run):
    shorter = replace(quick, schedule=(Phase(5, 1e-3),))
    with pytest.raises(ValueError, match=r"8 steps are done, more than the 5 of") as caught:
        train(shorter, quick_run)
    one_line(caught.value)


def test_other_pixels_under_the_same_names_are_noticed(quick, copy, tmp_path):
    folder = shutil.copytree(quick.data.folder, tmp_path / "data")
    np.save(folder / "03.npy", 1 - np.load(folder / "03.npy"))
    other = replace(quick, data=replace(quick.data, folder=folder))
    with pytest.raises(ValueError, match=r"03\.npy: is another micrograph than") as caught:
        train(other, copy)
    one_line(caught.value)
    (copy / "survey.csv").unlink()  # then they are surveyed again
    with pytest.raises(ValueError, match="changed: micrographs from 12 files of digest"):
        train(other, copy)


# Starts that fail.


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ({"crop": 64}, {}, "no micrograph is left to train on"),
        ({"folder": Path("nowhere")}, {}, "nowhere: is no folder"),
        ({}, {"start": Path("nowhere.keras")}, "start: nowhere.keras holds no weights"),
    ],
    ids=["crop", "folder", "start"],
)
def test_after_a_start_that_failed_the_corrected_recipe_trains(
    data, settings, message, quick, quick_run, tmp_path
):
    """Whatever stops a run before its first step leaves nothing that blocks the folder."""
    wrong = replace(quick, data=replace(quick.data, **data), **settings)
    with pytest.raises(ValueError, match=message) as caught:
        train(wrong, tmp_path)
    one_line(caught.value)
    assert train(quick, tmp_path) == tmp_path / WEIGHTS
    assert_ends_equal(tmp_path, quick_run)


def test_a_run_that_stopped_before_its_first_checkpoint_may_be_changed(quick, tmp_path):
    with pytest.raises(TrainingError, match="not finite"):
        train(replace(quick, schedule=(Phase(8, 1e30),), checkpoint_every=1), tmp_path)
    for path in tmp_path.glob("checkpoint-*"):
        path.unlink()
    assert train(replace(quick, l2=1e-3), tmp_path) == tmp_path / WEIGHTS


# Two at once.


def test_a_second_training_in_a_folder_is_refused(quick, quick_run, tmp_path, monkeypatch):
    """Whoever came first is left alone."""
    step, messages = Trainer.step, []

    def step_and_meet(self, parts, number):
        if number == 4:
            with pytest.raises(ValueError, match="another process is at work") as caught:
                train(quick, tmp_path)
            messages.append(one_line(caught.value))
        return step(self, parts, number)

    monkeypatch.setattr(Trainer, "step", step_and_meet)
    assert train(quick, tmp_path) == tmp_path / WEIGHTS
    assert messages == [
        f"{tmp_path}: another process is at work there; wait until it ends, or choose "
        "another place"
    ]
    assert_ends_equal(tmp_path, quick_run)


# Damaged folders.


def damage_survey(folder):
    lines = (folder / "survey.csv").read_text().splitlines(keepends=True)
    (folder / "survey.csv").write_text("".join(lines[:8]))


def damage_state(folder):
    step, state = newest_state(folder)
    state["model/0000"][0] = np.nan
    save_state(folder, step, state)


def reshape_state(folder):
    step, state = newest_state(folder)
    save_state(folder, step, {**state, "model/0000": np.zeros((2, 2))})


def rename_state(folder):
    step, state = newest_state(folder)
    save_state(folder, step, {f"x{name}": array for name, array in state.items()})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "recipe.json").write_text("{"), "recipe.json: is damaged"),
        (lambda f: (f / "recipe.json").write_text("[]"), "recipe.json: is damaged"),
        (lambda f: (f / "recipe.json").write_bytes(b"\xff"), "recipe.json: is damaged"),
        (lambda f: (f / "recipe.json").write_text("{}"), "from nothing to .* more;"),
        (lambda f: (f / "survey.csv").write_bytes(b"\0\xff"), "survey.csv: is damaged"),
        (lambda f: (f / "survey.csv").write_text(""), "micrographs from 12 .* to 0 files"),
        (damage_survey, "micrographs from 12 .* to 7 files"),
        (damage_state, "newest checkpoint holds numbers that are not finite; remove it"),
        (reshape_state, "the checkpoint is of another network or optimizer"),
        (rename_state, "the checkpoint is of another network or optimizer"),
        (lambda f: (f / "log.csv").write_text("step\n1\n"), "log.csv, line 1: is damaged"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(damage, message, quick, copy):
    longer = replace(quick, schedule=(*quick.schedule, Phase(2, 5e-4)))
    damage(copy)
    with pytest.raises(ValueError, match=message) as caught:
        train(longer, copy)
    assert str(copy) in one_line(caught.value)


# Validation.


def test_validation_takes_one_pair_of_each_micrograph_in_turn(quick, tmp_path):
    """Where the weights do not change, scores come again after so many as there are."""
    config = replace(
        quick,
        schedule=(Phase(8, 1e-30),),
        freeze_batch_norm=0,
        validate_every=1,
        log_every=1,
    )
    train(config, tmp_path)
    splits = [record.split for record in read_survey(tmp_path / "survey.csv")]
    assert splits.count("val") == 3
    rows = read_log(tmp_path / "log.csv")
    scores = [(row["val_mse"], row["val_ssim"]) for row in rows]
    assert len(set(scores)) == 3
    assert scores == (scores[:3] * 3)[:8]


def test_without_validation_micrographs_there_are_no_scores(quick, tmp_path):
    data = replace(quick.data, fractions=(1.0, 0.0, 0.0))
    train(replace(quick, data=data, validate_every=1), tmp_path)
    for row in read_log(tmp_path / "log.csv"):
        assert np.isnan([row["val_mse"], row["val_ssim"]]).all()
        assert np.isfinite([row["loss"], row["mse"]]).all()
    assert read_micrograph(tmp_path / "examples" / "000000008.tif")[0].shape == (3, 16, 16)


# Failures.


def test_a_loss_that_is_not_finite_stops_the_run_before_its_next_checkpoint(quick, copy):
    """The last good one stays, and with it a lower learning rate can go on."""
    schedule = (*quick.schedule, Phase(6, 1e30))
    hot = replace(quick, schedule=schedule, validate_every=1, checkpoint_every=5)
    with pytest.raises(TrainingError, match="the loss is not finite by step") as caught:
        train(hot, copy)
    assert "Try a lower learning rate" in one_line(caught.value)
    step, state = newest_state(copy)
    assert step == 8
    assert all(np.isfinite(array).all() for array in state.values())
    cool = replace(quick, schedule=(*quick.schedule, Phase(1, 1e-4)))
    assert train(cool, copy) == copy / WEIGHTS


def test_variables_that_are_not_finite_are_never_saved(quick, tmp_path):
    """Squares of the gradients overflow before the loss does."""
    hot = replace(quick, schedule=(Phase(8, 1e10),), checkpoint_every=1)
    with pytest.raises(TrainingError, match="is not finite by step"):
        train(hot, tmp_path)
    _, state = newest_state(tmp_path)
    assert all(np.isfinite(array).all() for array in state.values())
    assert not (tmp_path / WEIGHTS).exists()


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "function", ["write_survey", "Log.write", "save_state", "written_whole"]
)
def test_a_full_disk_is_told_in_one_line(function, quick, copy, monkeypatch):
    """What was saved stays, and the same call goes on when there is room again."""
    longer = replace(quick, schedule=(*quick.schedule, Phase(2, 5e-4)))
    (copy / "survey.csv").unlink()
    (copy / WEIGHTS).unlink()
    monkeypatch.setattr(f"emdn.training.run.{function}", refuse)
    with pytest.raises(TrainingError, match="No space left on device") as caught:
        train(longer, copy)
    message = one_line(caught.value)
    assert message.startswith(f"{copy}: cannot be written")
    assert "The last checkpoint, if there was one, stays" in message
    assert newest_state(copy)[0] == (10 if function == "written_whole" else 8)
    assert not (copy / WEIGHTS).exists()
    monkeypatch.undo()
    assert train(longer, copy) == copy / WEIGHTS


def test_tensorboards_files_that_cannot_be_written_are_told_in_one_line(quick, tmp_path):
    (tmp_path / "tensorboard").write_text("a file where a folder should be")
    with pytest.raises(TrainingError, match="cannot be written") as caught:
        train(quick, tmp_path)
    assert one_line(caught.value).startswith(f"{tmp_path}: cannot be written")


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_folder_that_cannot_be_made_is_told_in_one_line(place, quick, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TrainingError, match="cannot be written") as caught:
        train(quick, tmp_path / place)
    assert one_line(caught.value).startswith(f"{tmp_path / place}: cannot be written")


def test_data_that_are_of_no_use_are_told_in_one_line(quick, tmp_path):
    data = replace(quick.data, folder=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="nowhere: is no folder") as caught:
        train(replace(quick, data=data), tmp_path / "run")
    one_line(caught.value)


def test_micrographs_that_become_unreadable_stop_the_run_in_one_line(quick, tmp_path):
    """Though the threads that read them are TensorFlow's, which adds words of its own."""
    data = replace(quick.data, folder=shutil.copytree(quick.data.folder, tmp_path / "data"))
    train(replace(quick, data=data, schedule=(Phase(3, 1e-3),)), tmp_path / "run")
    for path in data.folder.iterdir():
        path.write_bytes(b"no micrograph any more")
    message = "of 6 micrographs became unreadable, more than 1%"
    with pytest.raises(ValueError, match=message) as caught:
        train(replace(quick, data=data), tmp_path / "run")
    one_line(caught.value)
    assert newest_state(tmp_path / "run")[0] == 3
