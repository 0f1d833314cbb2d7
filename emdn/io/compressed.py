"""Files that gzip or bzip2 has packed, and how far any file may unpack."""

import bz2
import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from emdn.io.source import refuse_if

_OPENERS = {".gz": gzip.open, ".bz2": bz2.open}
SUFFIXES = tuple(_OPENERS)
# Noise hardly packs, so that micrographs shrink by less than ten times. What unpacks to
# more than half a gigabyte and a hundred times its size was made to fill a memory.
_LARGE, _RATIO = 2**29, 100  # bytes, 1


def check_unpacked_size(unpacked: int, packed: int) -> None:
    """Refuse a file that would unpack to far more bytes than a micrograph's would."""
    bomb = unpacked > _LARGE and unpacked > _RATIO * packed
    fault = f"would unpack from {packed / 1e6:.3g} MB to {unpacked / 1e6:.3g} MB or more"
    refuse_if(bomb, f"{fault}; save it without compression")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read; what is packed goes to a nameless temporary file first."""
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        with path.open("rb") as file:
            yield file
        return
    packed = path.stat().st_size
    with opener(path, "rb") as source, tempfile.TemporaryFile() as file:
        while chunk := source.read(2**22):
            file.write(chunk)
            check_unpacked_size(file.tell(), packed)
        file.seek(0)
        yield file


def size_of(file: IO[bytes]) -> int:
    """Return the bytes in an open file, and leave its position alone."""
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end
