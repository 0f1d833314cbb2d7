"""Files are whole or absent, described once, and locked while one process is at work."""

import signal
import subprocess
import sys

import pytest

from emdn.files import locked, write_or_compare, written_whole

HOLDER = """
import sys, time
from pathlib import Path
from emdn.files import locked

with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_description_that_is_the_same_is_left_as_it_is(tmp_path):
    path = tmp_path / "about.json"
    description = {"a": 1, "b": {"c": (1, 2), "d": tmp_path}}
    assert not write_or_compare(path, description)
    before = path.read_bytes()
    assert write_or_compare(path, description)
    assert path.read_bytes() == before


def test_all_that_changed_is_named_in_full_but_for_what_may_change(tmp_path):
    path = tmp_path / "about.json"
    write_or_compare(path, {"a": 1, "b": {"c": 2, "d": 3}, "e": 4})
    now = {"a": 1, "b": {"c": 5, "d": 6}, "f": 7}
    message = "changed: b.c from 2 to 5, e from 4 to nothing, f from nothing to 7; go back"
    with pytest.raises(ValueError, match=message) as caught:
        write_or_compare(path, now, may_change=["b.d"])
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_description_is_named(contents, tmp_path):
    path = tmp_path / "about.json"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"about\.json: is damaged"):
        write_or_compare(path, {"a": 1})


def test_a_lock_ends_with_its_process_however_it_ends(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        message = f"{tmp_path}: another process is at work there; wait until it ends, or"
        with pytest.raises(ValueError, match=message), locked(path):
            pass
        holder.send_signal(signal.SIGKILL)
    with locked(path):
        pass


def test_a_file_takes_the_place_of_another_when_it_is_whole(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("before")
    with written_whole(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside_it(error, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("before")

    def fail():
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_never_written_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "a"):
        pass
    assert not list(tmp_path.iterdir())


def test_temporary_names_are_hidden_and_differ_between_files(tmp_path):
    with (
        written_whole(tmp_path / "run.json") as one,
        written_whole(tmp_path / "run.csv") as other,
    ):
        assert one != other
        for temporary in (one, other):
            assert temporary.name.startswith(".")
            assert temporary.parent == tmp_path
            temporary.touch()


def test_a_file_that_cannot_be_made_is_named_as_the_user_named_it(tmp_path):
    path = tmp_path / "missing" / "result.txt"
    with pytest.raises(FileNotFoundError) as caught, written_whole(path) as temporary:
        temporary.write_text("whole")
    assert caught.value.filename == str(path)
    (folder := tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as caught, written_whole(folder) as temporary:
        temporary.write_text("whole")
    assert caught.value.filename == str(folder)
    assert sorted(tmp_path.iterdir()) == [folder]
