"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, *, beside: str = "") -> Iterator[Path]:
    """Give a path to write to, whose file then takes the place of another, or vanishes.

    Parameters
    ----------
    path : Path
        The file to make or to replace. Where writing fails, it stays as it was.
    beside : str
        Name of the file to write in the same folder. It should begin with a dot, so that
        no one takes it for a result should the program be killed. The default is the
        name of `path` between a dot and ``.part``.
    """
    temporary = path.with_name(beside or f".{path.name}.part")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
