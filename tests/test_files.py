"""Files that are written whole or not at all."""

import pytest

from emdn.files import written_whole


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
