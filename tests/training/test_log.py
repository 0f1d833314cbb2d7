"""The log has one row a step, of means since the last, whatever came between."""

import csv
import importlib.util
import math

import numpy as np
import pytest

from emdn.io import read_micrograph
from emdn.training.log import COLUMNS, Log, read_log


def fill(log, steps, every=5):
    """Note the number of each step as its loss, and write a row now and then."""
    for step in steps:
        log.note(loss=float(step), mse=step / 1000)
        if step % every == 0:
            log.write(step, 1e-3)


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a run of 20 steps with a row for each five."""
    fill(Log(tmp_path, 0), range(1, 21))
    return tmp_path


def test_rows_have_the_columns_and_are_means_since_the_last_row(folder):
    with (folder / "log.csv").open() as file:
        assert tuple(next(csv.reader(file))) == COLUMNS
    rows = read_log(folder / "log.csv")
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert [row["loss"] for row in rows] == [3, 8, 13, 18]
    assert [row["mse"] for row in rows] == pytest.approx([3e-3, 8e-3, 13e-3, 18e-3])
    assert {row["rate"] for row in rows} == {1e-3}
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0


def test_a_score_that_a_row_lacks_is_nan(tmp_path):
    log = Log(tmp_path, 0)
    log.note(loss=1.0)
    assert log.write(1, 0.1).keys() == {"step", "seconds", "rate", "loss"}
    log.note(loss=3.0, val_mse=0.5, val_ssim=0.25)
    row = log.write(2, 0.1)
    assert (row["loss"], row["val_mse"], row["val_ssim"]) == (3, 0.5, 0.25)
    first, second = read_log(tmp_path / "log.csv")
    assert math.isnan(first["val_mse"])
    assert math.isnan(first["val_ssim"])
    assert (second["val_mse"], second["val_ssim"]) == (0.5, 0.25)


def test_numbers_are_kept_to_the_last_digit(tmp_path):
    log = Log(tmp_path, 0)
    log.note(loss=0.1 + 0.2)
    log.write(1, 1 / 3)
    (row,) = read_log(tmp_path / "log.csv")
    assert (row["loss"], row["rate"]) == (0.1 + 0.2, 1 / 3)


@pytest.mark.parametrize("done", [0, 5, 12, 15, 20, 99])
def test_rows_of_steps_that_come_again_are_dropped(done, folder):
    """So that an interrupted training's log has no step twice."""
    log = Log(folder, done)
    kept = [step for step in (5, 10, 15, 20) if step <= done]
    assert [row["step"] for row in read_log(folder / "log.csv")] == kept
    fill(log, range(done + 1, 26))
    rows = read_log(folder / "log.csv")
    later = [step for step in (5, 10, 15, 20, 25) if step > done]
    assert [row["step"] for row in rows] == kept + later
    assert not list(folder.glob("*.part"))


def test_time_goes_on_from_the_last_row_that_stays(folder, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("emdn.training.log.time.monotonic", lambda: now[0])
    log = Log(folder, 0)
    now[0] += 30
    log.note(loss=1.0)
    log.write(5, 1e-3)
    now[0] = 7.0  # the machine was started anew
    log = Log(folder, 5)
    now[0] += 12
    log.note(loss=1.0)
    log.write(10, 1e-3)
    assert [row["seconds"] for row in read_log(folder / "log.csv")] == [30, 42]


@pytest.mark.parametrize("torn", ["1", "15,1.0,0.0", "15,1.0,1e-", "15,1,0.1,0.1,0.1"])
def test_a_row_that_was_cut_short_is_dropped(torn, folder):
    """As a full disk leaves it; its first digits may be those of another step."""
    with (folder / "log.csv").open("a") as file:
        file.write(torn)
    assert [row["step"] for row in read_log(folder / "log.csv")] == [5, 10, 15, 20]
    log = Log(folder, 20)
    fill(log, range(21, 26))
    assert [row["step"] for row in read_log(folder / "log.csv")] == [5, 10, 15, 20, 25]


def test_only_one_of_several_workers_touches_files(tmp_path):
    log = Log(tmp_path, 0, writes=False)
    log.note(loss=2.0)
    assert log.write(1, 0.5)["loss"] == 2.0
    log.picture(1, np.zeros((3, 8, 8), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_stacks_of_three(tmp_path, rng):
    log = Log(tmp_path, 0)
    (tmp_path / "examples").mkdir()
    triplet = rng.uniform(size=(3, 16, 16)).astype(np.float32)
    for _ in range(2):  # a step that comes again writes its picture again
        log.picture(40, triplet)
    (path,) = (tmp_path / "examples").iterdir()
    assert path.name == "000000040.tif"
    image, _ = read_micrograph(path)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, triplet)


def test_tensorboard_gets_scalars_and_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path, 0)
    (tmp_path / "examples").mkdir()
    fill(log, range(1, 11))
    log.picture(10, np.zeros((3, 16, 16), np.float32))
    log.write(15, 1e-3)
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0, "images": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"loss", "mse", "rate"} <= tags
    assert any("noisy" in tag for tag in tags)
    assert [event.step for event in events.Tensors("loss")] == [5, 10]


def test_files_of_tensorboard_that_cannot_be_written_are_a_plain_error(tmp_path):
    (tmp_path / "tensorboard").write_text("a file where a folder should be")
    with pytest.raises(OSError, match=r"[Nn]ot a directory$"):
        Log(tmp_path, 0)


def test_without_tensorboard_there_is_a_log_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    log = Log(tmp_path, 0)
    fill(log, range(1, 6))
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
