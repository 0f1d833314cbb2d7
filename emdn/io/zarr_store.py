"""Zarr, version 2, as HyperSpy writes it: a folder or a ZIP of JSON and packed chunks.

The library zarr would do, but unpickles what a file says is pickled, follows links out of
the folder, and is wanted by RosettaSciIO in a version that is no longer kept up.
"""

import json
import math
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from emdn.io.source import refuse_if

_UNPACK = {
    "blosc": imagecodecs.blosc_decode,
    "zlib": imagecodecs.zlib_decode,
    "gzip": imagecodecs.gzip_decode,
    "zstd": imagecodecs.zstd_decode,
    "bz2": imagecodecs.bz2_decode,
    "lz4": partial(imagecodecs.lz4_decode, header=True),
}
_LARGEST_CHUNK = 512 * 1024**2  # bytes; HyperSpy's have 1 MB, or 100 MB for Dask's arrays


class _Folder:
    """Files of a folder, by their paths in it."""

    def __init__(self, root: Path):
        self.root = root.resolve()

    def _inside(self, key: str) -> Path:
        path = self.root / key
        outside = not path.resolve().is_relative_to(self.root)
        refuse_if(outside, f"links {key!r} to another file, which is not opened; copy it")
        return path

    def read(self, key: str) -> bytes | None:
        path = self._inside(key)
        return path.read_bytes() if path.is_file() else None

    def names(self, key: str) -> list[str]:
        path = self._inside(key)
        return sorted(each.name for each in path.iterdir()) if path.is_dir() else []

    def size(self, key: str) -> int:
        files = (
            os.lstat(Path(folder, name))
            for folder, _, names in os.walk(self._inside(key))
            for name in names
        )
        return sum(each.st_size for each in files if stat.S_ISREG(each.st_mode))


class _Zip:
    """Files of a ZIP, by their names in it."""

    def __init__(self, file: zipfile.ZipFile):
        self.file = file
        self.entries = {each.filename: each for each in file.infolist()}

    def read(self, key: str) -> bytes | None:
        if key not in self.entries:
            return None
        large = self.entries[key].file_size > _LARGEST_CHUNK
        refuse_if(
            large, f"has {key!r} of more than {_LARGEST_CHUNK:,} bytes; save it again"
        )
        return self.file.read(key)

    def names(self, key: str) -> list[str]:
        start = f"{key}/" if key else ""
        inside = (name[len(start) :] for name in self.entries if name.startswith(start))
        return sorted({name.split("/")[0] for name in inside if name})

    def size(self, key: str) -> int:
        entries = self.entries.items()
        return sum(e.compress_size for name, e in entries if name.startswith(f"{key}/"))


_Store = _Folder | _Zip


class ZarrGroup:
    """A group of a store: its attributes, names, groups and arrays."""

    def __init__(self, store: _Store, key: str):
        self.store, self.key = store, key
        self.attrs: dict[str, Any] = _json(store, _below(key, ".zattrs"))

    def __iter__(self) -> Iterator[str]:
        names = self.store.names(self.key)
        return (name for name in names if not name.startswith("."))

    def get(self, name: str) -> "ZarrGroup | ZarrArray | None":
        """Return the group or the array of a name, or None."""
        key = _below(self.key, name)
        if self.store.read(_below(key, ".zarray")) is not None:
            return ZarrArray(self.store, key)
        found = self.store.read(_below(key, ".zgroup")) is not None
        return ZarrGroup(self.store, key) if found else None


class ZarrArray:
    """An array of a store, of which parts are read by slices and integers.

    Parameters
    ----------
    store : folder or ZIP
    key : str
        Path of the array's folder in the store.
    """

    def __init__(self, store: _Store, key: str):
        self.store, self.key = store, key
        self.attrs: dict[str, Any] = _json(store, _below(key, ".zattrs"))
        told = _json(store, _below(key, ".zarray"))
        self.shape: tuple[int, ...] = tuple(int(size) for size in told["shape"])
        self.chunks: tuple[int, ...] = tuple(int(size) for size in told["chunks"])
        positive = len(self.chunks) == len(self.shape) and min(self.chunks, default=1) > 0
        refuse_if(not positive, f"has chunks of {self.chunks}; save it again")
        self.dtype = np.dtype(told["dtype"])
        size = math.prod(self.chunks) * self.dtype.itemsize
        fault = f"has chunks of {size:,} bytes; save it again"
        refuse_if(size > _LARGEST_CHUNK, fault)
        self._order: Literal["C", "F"] = "F" if told.get("order") == "F" else "C"
        self._fill = told.get("fill_value") or 0
        self._separator = told.get("dimension_separator", ".")
        self._packing = (told.get("compressor") or {}).get("id")
        unknown = self._packing not in (None, *_UNPACK) or bool(told.get("filters"))
        self._refused = self.dtype.kind not in "iuf" or unknown

    @property
    def stored_bytes(self) -> int:
        """How many bytes its chunks take."""
        return self.store.size(self.key)

    def __getitem__(self, where: Any) -> NDArray:
        remedy = "save it as .hspy, or with zstd and no filters"
        refuse_if(self._refused, f"packs {self.dtype} as {self._packing}; {remedy}")
        where = where if isinstance(where, tuple) else (where,)
        ranges = [
            range(size)[each] if isinstance(each, slice) else range(each, each + 1)
            for each, size in zip(where, self.shape, strict=True)
        ]
        block = np.full([len(each) for each in ranges], self._fill, self.dtype)
        touched = [
            range(each.start // chunk, -(-each.stop // chunk))
            for each, chunk in zip(ranges, self.chunks, strict=True)
        ]
        for index in product(*touched):
            into, of_chunk = [], []
            for n, each, size in zip(index, ranges, self.chunks, strict=True):
                first, end = max(n * size, each.start), min((n + 1) * size, each.stop)
                into.append(slice(first - each.start, end - each.start))
                of_chunk.append(slice(first - n * size, end - n * size))
            if (chunk := self._chunk(index)) is not None:
                block[tuple(into)] = chunk[tuple(of_chunk)]
        dropped = tuple(n for n, each in enumerate(where) if not isinstance(each, slice))
        return block.squeeze(dropped)

    def _chunk(self, index: tuple[int, ...]) -> NDArray | None:
        name = self._separator.join(map(str, index)) or "0"
        packed = self.store.read(_below(self.key, name))
        if packed is None:
            return None
        contents = _UNPACK[self._packing](packed) if self._packing else packed
        values = np.frombuffer(contents, self.dtype)
        return values.reshape(self.chunks, order=self._order)


def _below(key: str, name: str) -> str:
    return f"{key}/{name}" if key else name


def _json(store: _Store, key: str) -> dict[str, Any]:
    told = json.loads(store.read(key) or b"{}")
    return told if isinstance(told, dict) else {}


@contextmanager
def open_zarr(path: Path) -> Iterator[ZarrGroup]:
    """Open a store, a folder or a ZIP."""
    if path.is_dir():
        zarr = (path / ".zgroup").is_file()
        refuse_if(not zarr, "is not a file, nor a folder of Zarr; name a file inside it")
        yield ZarrGroup(_Folder(path), "")
    else:
        with zipfile.ZipFile(path) as file:
            yield ZarrGroup(_Zip(file), "")
