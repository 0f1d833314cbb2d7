"""What lies where in the HDF5 files of microscopes: runs in the child process only.

Velox, Berkeley (NCEM, py4DSTEM, emdfile, Prismatic) and HyperSpy, whose layout in Zarr is
the same. RosettaSciIO reads them too, but turns Berkeley's axes, fails on Velox's cameras,
reads every pixel to describe a file and follows links into other files.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5l  # pyright: ignore[reportAttributeAccessIssue]
from numpy.typing import NDArray

from emdn.io.arrays import Axis, image_order
from emdn.io.source import MicrographError, refuse_if
from emdn.io.zarr_store import ZarrArray, ZarrGroup, open_zarr

Group = h5py.Group | ZarrGroup
Array = h5py.Dataset | ZarrArray

# A part of an image means to unpack whole chunks: HDF5's own guess are chunks of 1 MB.
_LARGEST_CHUNK = 512 * 1024**2  # bytes
# Zlib packs 1032 bytes into one at most (zlib.net/zlib_tech.html): what declares more
# than that is a bomb, or lacks its chunks. Small files may lack them: blank images.
_DENSEST, _SMALL = 1032, 64 * 1024**2
_DEEPEST = 20  # groups within groups, links to links; py4DSTEM's trees have 6
_LONGEST_TEXT = 16 * 1024**2  # bytes of one JSON; Velox writes some 50 kB
_ONE_FILE = "another file, which is not opened; save it in one file"
_ARRAYS = ("data", "counted_datacube", "diffractionslice", "realslice")
# Velox's operations that record an image, and where they name the detector.
_RECORDED = {"StemInputOperation": "detector", "CameraInputOperation": "cameraName"}
# Velox's operations that compute an image of others, and what it calls the result.
_COMPUTED = {
    "DpcOperation": "DPC",
    "SurfaceReconstructionOperation": "iDPC",
    "IntegrationOperation": "DCFI",
    "MathematicsOperation": "difference",
    "FftOperation": "FFT",
}


@dataclass(frozen=True)
class _Found:
    """An array that may be an image: where it lies, its axes, and what is told of it."""

    name: str
    path: str
    array: Array
    axes: list[Axis]
    facts: Mapping[str, Any] = field(default_factory=dict)


def describe(path: str) -> list[dict[str, Any]]:
    """Return the images of a file, those of real numbers first.

    Returns
    -------
    images : list of dict
        name: the file's; array: its path inside the file; order: the axes that become
        (H, W) or (N, H, W); shape and dtype, so ordered; facts: arguments of `calibrated`.
    """
    images, faults = [], []
    with _opened(path) as root:
        for found in _layout_of(root)(root):
            try:
                images.append(_description(found))
            except MicrographError as fault:
                faults.append(fault)
    fault = "holds no image in a layout of Velox, Berkeley EMD or HyperSpy"
    remedy = "save it as .hspy, or export an image as TIFF"
    if not images:
        raise faults[0] if faults else MicrographError(f"{fault}; {remedy}")
    images.sort(key=lambda image: np.dtype(image["dtype"]).kind not in "iuf")
    return images


def _description(found: _Found) -> dict[str, Any]:
    array, axes = found.array, found.axes
    order = image_order(axes)
    shape = tuple(axes[index].size for index in order)
    nominal = math.prod(array.shape) * array.dtype.itemsize
    stored = _stored_bytes(array)
    fault = f"declares {nominal:,} bytes of pixels, but holds {stored:,}"
    refuse_if(nominal > _SMALL + _DENSEST * stored, f"{fault}; copy or save it again")
    chunk = math.prod(array.chunks or (0,)) * array.dtype.itemsize
    fault = f"has chunks of {chunk:,} bytes; save it again, in chunks of an image or less"
    refuse_if(chunk > _LARGEST_CHUNK, fault)
    y, x = (axes[index] for index in order[-2:])
    size = {"width": x.scale, "height": y.scale, "unit": x.unit, "height_unit": y.unit}
    return {
        # HyperSpy's name for what has none, in HSPY and Berkeley EMD.
        "name": found.name.replace("__unnamed__", ""),
        "array": found.path,
        "order": order,
        "shape": shape,
        "dtype": _number_type(array.dtype).str,
        "facts": {**size, **found.facts},
    }


def _number_type(dtype: np.dtype) -> np.dtype:
    """Return the type of a pixel, for Velox's pairs of numbers that of complex ones."""
    if dtype.names is None:
        return dtype
    pair = [name[:4] for name in dtype.names] == ["real", "imag"]
    return np.dtype("c8") if pair else np.dtype((np.void, dtype.itemsize))


def _stored_bytes(array: Array) -> int:
    if isinstance(array, h5py.Dataset):
        return array.id.get_storage_size()
    return array.stored_bytes


def read(
    path: str, array: str, order: list[int], start: list[int], stop: list[int]
) -> NDArray:
    """Return the block from `start` to `stop`, its axes in the order that is to come."""
    with _opened(path) as root:
        stored = _followed(root, array)
        if not isinstance(stored, h5py.Dataset | ZarrArray):
            raise KeyError(array)
        # Axes that are left out have one element.
        where: list[Any] = [0] * len(stored.shape)
        for axis, first, end in zip(order, start, stop, strict=True):
            where[axis] = slice(first, end)
        turn = [sorted(order).index(axis) for axis in order]
        frames, chunks = order[0], stored.chunks
        if len(order) == 3 and frames != 0 and chunks and chunks[frames] == 1:
            # HDF5 takes very long to spread chunks of one frame, Velox's, over a block.
            blocks = []
            for where[frames] in (slice(n, n + 1) for n in range(start[0], stop[0])):
                blocks.append(np.transpose(stored[tuple(where)], turn))
            return np.concatenate(blocks)
        return np.transpose(stored[tuple(where)], turn)


@contextmanager
def _opened(path: str) -> Iterator[Group]:
    if path.lower().endswith(".zspy"):
        with open_zarr(Path(path)) as root:
            yield root
    else:
        with h5py.File(path, "r", locking=False) as file:
            yield file


def _layout_of(root: Group) -> Callable[[Any], Iterator[_Found]]:
    if _followed(root, "Experiments"):
        return _hyperspy
    if _followed(root, "Data/Image"):
        return _velox
    return _berkeley


# Members of a group, never those of another file


def _member(group: Group, name: str, depth: int = 0) -> Group | Array | None:
    """Return a member, or None; refuse one of another file before it is opened."""
    if isinstance(group, ZarrGroup):
        return group.get(name)
    if name in (".", ""):
        return group
    key = name.encode("utf-8", "surrogateescape")
    if not group.id.links.exists(key):
        return None
    link = group.id.links.get_info(key).type
    refuse_if(link == h5l.TYPE_EXTERNAL, f"links {name!r} to {_ONE_FILE}")
    if link == h5l.TYPE_SOFT:
        refuse_if(depth > _DEEPEST, f"links {name!r} in a circle; copy or save it again")
        target = group.id.links.get_val(key).decode("utf-8", "surrogateescape")
        start = group.file if target.startswith("/") else group
        return _followed(start, target, depth + 1)
    member = group[name]
    if isinstance(member, h5py.Dataset):
        elsewhere = bool(member.external) or member.is_virtual
        refuse_if(elsewhere, f"has the pixels of {name!r} in {_ONE_FILE}")
        return member
    return member if isinstance(member, h5py.Group) else None


def _followed(
    start: Group | Array | None, path: str, depth: int = 0
) -> Group | Array | None:
    """Return what lies at a path of members, or None."""
    found = start
    for name in path.split("/"):
        if not isinstance(found, h5py.Group | ZarrGroup):
            return None
        found = _member(found, name, depth)
    return found


def _members(group: Group | Array | None) -> Iterator[tuple[str, Group | Array]]:
    """Yield names and members in the file's order: by name, or as made where it is kept."""
    if isinstance(group, h5py.Group | ZarrGroup):
        for name in map(str, group):
            if (member := _member(group, name)) is not None:
                yield name, member


def _attributes(group: Group | Array | None) -> Mapping[str, Any]:
    return {} if group is None else group.attrs


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value != "_None_" else ""


def _number(value: Any) -> float | None:
    """Return a number, also from a text or an array of one."""
    try:
        number = float(_text(value) or value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


# Velox


def _velox(root: h5py.Group) -> Iterator[_Found]:
    """Yield recorded images, then computed ones, each by time, then by detector's name."""
    recorded = {
        path: _text(told.get(_RECORDED[kind]))
        for kind, path, told in _velox_operations(root, _RECORDED)
    }
    computed = {
        path: _COMPUTED[kind] for kind, path, _ in _velox_operations(root, _COMPUTED)
    }
    found = []
    for key, group in _members(_followed(root, "Data/Image")):
        array = _followed(group, "Data")
        if not isinstance(array, h5py.Dataset) or array.ndim not in (2, 3):
            continue
        facts = _velox_json(_followed(group, "Metadata"))
        detector = _velox_detector(facts) or recorded.get(key, "")
        operation = computed.get(key, "")
        if "Half" in (array.dtype.names or ("",))[0]:
            operation = "FFT"  # of which Velox stores one half
        name = " of ".join(dict.fromkeys(each for each in (operation, detector) if each))
        started = _number(_in(facts, "Acquisition", "AcquisitionStartDatetime", "DateTime"))
        place = (bool(operation), started or 0.0, name, key)
        path = f"Data/Image/{key}/Data"
        found.append(
            (place, _Found(name, path, array, *_velox_facts(array, detector, facts)))
        )
    yield from (image for _, image in sorted(found, key=lambda each: each[0]))


def _velox_facts(
    array: h5py.Dataset, detector: str, facts: dict[str, Any]
) -> tuple[list[Axis], dict[str, Any]]:
    result = _in(facts, "BinaryResult")
    axes = [
        Axis(
            size,
            name,
            _text(_in(result, f"PixelUnit{name.upper()}") or _in(result, "PixelUnitX")),
            _number(_in(result, "PixelSize", side)),
            navigate=False,
        )
        for size, name, side in zip(array.shape, "yx", ("height", "width"), strict=False)
    ]
    axes += [Axis(frames, "frame", navigate=True) for frames in array.shape[2:]]
    voltage = _number(_in(facts, "Optics", "AccelerationVoltage"))
    told = {
        "detector": detector,
        "voltage": voltage and voltage / 1000,  # V
        "dwell_time": _in(facts, "Scan", "DwellTime"),
        "other": {"instrument": _text(_in(facts, "Instrument", "InstrumentModel"))},
    }
    return axes, told


def _velox_detector(facts: dict[str, Any]) -> str:
    """Return the detector's name, from the image's own facts or its entry in a list."""
    entry = f"Detector-{_in(facts, 'BinaryResult', 'DetectorIndex')}"
    listed = _in(facts, "Detectors", entry, "DetectorName")
    return _text(_in(facts, "BinaryResult", "Detector")) or _text(listed)


def _velox_operations(
    root: h5py.Group, kinds: Iterable[str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield kind, key of the image that it made, and all that is told of each operation."""
    for kind in kinds:
        for _, member in _members(_followed(root, f"Operations/{kind}")):
            told = _velox_json(member)
            for name in ("dataPath", "unfilteredDataPath", "imageOutputPath"):
                if path := _text(told.get(name)):
                    yield kind, path.rpartition("/")[2], told


def _velox_json(dataset: Group | Array | None) -> dict[str, Any]:
    """Return what a JSON text says: that of an image's first frame, or the only one."""
    if not isinstance(dataset, h5py.Dataset):
        return {}
    size = dataset.shape[0]
    refuse_if(size > _LONGEST_TEXT, f"has a text of {size:,} bytes; copy it again")
    text = dataset[:, 0].tobytes() if dataset.ndim == 2 else dataset[0]
    told = json.loads(bytes(text).split(b"\0")[0])
    return told if isinstance(told, dict) else {}


def _in(told: Any, *keys: str) -> Any:
    for key in keys:
        told = told.get(key) if isinstance(told, dict) else None
    return told


# Berkeley


def _berkeley(root: Group) -> Iterator[_Found]:
    """Yield the arrays of all groups that call themselves EMD's, in the file's order."""
    for path, group in _emd_groups(root, "", set()):
        for name, array in _members(group):
            if isinstance(array, h5py.Dataset) and name.startswith(_ARRAYS):
                title = path.rpartition("/")[2]
                yield _Found(title, f"{path}/{name}", array, _berkeley_axes(group, array))


def _emd_groups(
    group: Group | Array, path: str, seen: set[Any]
) -> Iterator[tuple[str, h5py.Group]]:
    if not isinstance(group, h5py.Group) or path.count("/") > _DEEPEST or group in seen:
        return
    seen.add(group)  # a group may contain itself
    if "emd_group_type" in group.attrs:
        yield path, group
    for name, member in _members(group):
        yield from _emd_groups(member, f"{path}/{name}", seen)


def _berkeley_axes(group: h5py.Group, array: h5py.Dataset) -> list[Axis]:
    first = 0 if _member(group, "dim0") is not None else 1
    axes = []
    for index, size in enumerate(array.shape):
        dimension = _member(group, f"dim{index + first}")
        told = _attributes(dimension)
        # py4DSTEM and emdfile name the images of a stack by an axis of texts, the last.
        labels = isinstance(dimension, h5py.Dataset) and dimension.dtype.kind in "OS"
        name, unit = _text(told.get("name")), _text(told.get("units"))
        axes.append(Axis(size, name, unit, _step(dimension), labels or None))
    return axes


def _step(positions: Group | Array | None) -> float | None:
    """Return the mean distance of neighbours in a list of positions."""
    if not isinstance(positions, h5py.Dataset | ZarrArray) or len(positions.shape) != 1:
        return None
    count = positions.shape[0]
    if count < 2 or positions.dtype.kind not in "iuf":
        return None
    first, last = (float(positions[n : n + 1][0]) for n in (0, count - 1))
    return abs(last - first) / (count - 1)


# HyperSpy


def _hyperspy(root: Group) -> Iterator[_Found]:
    """Yield the experiments in the file's order."""
    for name, group in _members(_followed(root, "Experiments")):
        if not isinstance(group, h5py.Group | ZarrGroup):
            continue
        array = _member(group, "data")
        if isinstance(array, h5py.Dataset | ZarrArray):
            axes = [_hyperspy_axis(group, array, n) for n in range(len(array.shape))]
            facts = _hyperspy_facts(group)
            yield _Found(name, f"Experiments/{name}/data", array, axes, facts)


def _hyperspy_axis(group: Group, array: Array, index: int) -> Axis:
    dimensions = len(array.shape)
    axis = _member(group, f"axis-{index}")
    axis = axis or _followed(group, f"_list_{dimensions}_axes/{index}")
    told = _attributes(axis)
    navigate = told.get("navigate")
    scale = _number(told.get("scale"))
    if scale is None and isinstance(axis, h5py.Group | ZarrGroup):
        scale = _step(_member(axis, "axis"))
    return Axis(
        array.shape[index],
        _text(told.get("name")),
        _text(told.get("units")),
        scale,
        None if navigate is None else bool(navigate),
    )


def _hyperspy_facts(group: Group) -> dict[str, Any]:
    for microscope in ("TEM", "SEM"):
        place = f"metadata/Acquisition_instrument/{microscope}"
        if (found := _followed(group, place)) is not None:
            told = _attributes(found)
            detector = _attributes(_followed(group, f"{place}/Detector"))
            return {
                "detector": _text(detector.get("detector_type")),
                "voltage": _number(told.get("beam_energy")),  # kV
                "dwell_time": _number(told.get("dwell_time")),
                "other": {
                    "instrument": _text(told.get("microscope")),
                    "magnification": _number(told.get("magnification")),
                },
            }
    return {}
