"""Of the checkpoints in a folder one is always whole, whatever happens to the others."""

import errno
import shutil

import numpy as np
import pytest

from emdn.training import checkpoints
from emdn.training.checkpoints import newest_state, save_state


def state_of(seed):
    """Return arrays of several types and shapes, with values that are hard to keep."""
    rng = np.random.default_rng(seed)
    return {
        "model/0000": rng.normal(size=(3, 3, 2, 4)).astype(np.float32),
        "model/0001": np.float32([0.0, -0.0, 1e-45, np.finfo(np.float32).max, np.nan]),
        "optimizer/0000": np.array(seed, np.int64),
        "optimizer/0001": np.zeros((0, 3), np.float32),
    }


def small_state_of(seed):
    return {"a": np.full((2, 3), seed, np.float32), "b": np.array(seed)}


def assert_equal(found, expected):
    assert found is not None
    step, state = found
    number, arrays = expected
    assert step == number
    assert list(state) == list(arrays)
    for name, array in arrays.items():
        assert state[name].dtype == array.dtype
        assert state[name].shape == array.shape
        assert state[name].tobytes() == array.tobytes()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def two(tmp_path):
    """Return a folder of checkpoints of steps 10 and 20."""
    for step in (10, 20):
        save_state(tmp_path, step, state_of(step))
    return tmp_path


def test_a_state_comes_back_bit_for_bit(tmp_path):
    save_state(tmp_path, 7, state_of(7))
    assert_equal(newest_state(tmp_path), (7, state_of(7)))


def test_there_is_no_state_before_the_first(tmp_path):
    assert newest_state(tmp_path) is None
    assert newest_state(tmp_path / "nowhere") is None


def test_only_the_newest_two_stay(tmp_path):
    """In the order of their steps, not of their names' length."""
    steps = [5, 40, 300, 99_999, 100_000, 1_000_000]
    for step in steps:
        path = save_state(tmp_path, step, state_of(step))
        assert path.is_file()
        assert len(names(tmp_path)) == min(2, 1 + steps.index(step))
    assert names(tmp_path) == ["checkpoint-000100000.npz", "checkpoint-001000000.npz"]
    assert_equal(newest_state(tmp_path), (1_000_000, state_of(1_000_000)))


def test_other_files_are_left_alone(two):
    (two / "log.csv").write_text("step\n")
    save_state(two, 30, state_of(30))
    assert "log.csv" in names(two)


def test_the_same_step_can_be_saved_again(two):
    save_state(two, 20, state_of(21))
    assert_equal(newest_state(two), (20, state_of(21)))
    assert len(names(two)) == 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_after_a_file_that_was_cut_short_the_one_before_is_used(share, two):
    newest = two / "checkpoint-000000020.npz"
    contents = newest.read_bytes()
    newest.write_bytes(contents[: int(share * len(contents))])
    assert_equal(newest_state(two), (10, state_of(10)))


def test_any_changed_byte_is_noticed_or_does_not_matter(tmp_path):
    """A damaged state is never returned: it is the right one, or the one before."""
    for step in (10, 20):
        newest = save_state(tmp_path, step, small_state_of(step))
    contents = newest.read_bytes()
    fallbacks = 0
    for place in range(len(contents)):
        damaged = bytearray(contents)
        damaged[place] ^= 1 << place % 8
        newest.write_bytes(damaged)
        found = newest_state(tmp_path)
        assert found is not None
        assert_equal(found, (found[0], small_state_of(found[0])))
        fallbacks += found[0] == 10
    assert fallbacks > len(contents) / 2


@pytest.mark.parametrize("contents", [b"", b"\0" * 4096, b"PK\3\4", b"\x93NUMPY\1\0"])
def test_a_file_of_another_kind_is_passed_over(contents, two):
    (two / "checkpoint-000000030.npz").write_bytes(contents)
    assert_equal(newest_state(two), (20, state_of(20)))


def test_a_folder_of_a_checkpoints_name_is_passed_over(two):
    (two / "checkpoint-000000030.npz").mkdir()
    assert_equal(newest_state(two), (20, state_of(20)))


def test_a_checkpoint_that_was_being_written_is_ignored(two):
    shutil.copy(two / "checkpoint-000000020.npz", two / ".checkpoint-000000030.npz.part")
    assert_equal(newest_state(two), (20, state_of(20)))
    save_state(two, 30, state_of(30))
    assert_equal(newest_state(two), (30, state_of(30)))
    assert not list(two.glob("*.part"))


def test_where_all_are_damaged_the_folder_is_refused(two):
    for path in two.iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    message = r"no checkpoint can be read, not even checkpoint-000000020\.npz; train into"
    with pytest.raises(ValueError, match=message):
        newest_state(two)


def test_when_the_disk_is_full_the_earlier_ones_stay(two, monkeypatch):
    before = {path.name: path.read_bytes() for path in two.iterdir()}

    def write_half(file, **_):
        file.write(b"PK\3\4 and no more")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.np, "savez", write_half)
    with pytest.raises(OSError, match="No space left on device"):
        save_state(two, 30, state_of(30))
    assert {path.name: path.read_bytes() for path in two.iterdir()} == before


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_state(tmp_path / "nowhere", 1, state_of(1))


def test_nothing_that_would_need_a_pickle_is_saved(two):
    with pytest.raises(ValueError, match=r"[Oo]bject array"):
        save_state(two, 30, {"model/0000": np.array([None])})
    assert names(two) == ["checkpoint-000000010.npz", "checkpoint-000000020.npz"]
