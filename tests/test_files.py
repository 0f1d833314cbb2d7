"""Descriptions must not change, and a lock ends with its process."""

import signal
import subprocess
import sys

import pytest

from emdn.files import locked, write_or_compare

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
