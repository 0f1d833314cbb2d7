"""Tiny files of every format, and what a message about a file looks like."""

import bz2
import gzip
import json
import struct
import zipfile
from pathlib import Path

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import rsciio.emd
import rsciio.hspy
import tifffile
from hypothesis import HealthCheck, settings

from emdn.io import READABLE, WRITABLE, MicrographError, read_micrograph

# Codes of pixel types: {dtype: (of an image in DM, of a number in DM, of an image in SER)}.
CODES = {"uint8": (6, 8, 1), "int16": (1, 2, 5), "uint16": (10, 4, 2), "float32": (2, 6, 7)}


def write_dm(
    path,
    *images,
    pixel_size=None,
    unit="nm",
    third_unit="",
    data_type=None,
    names=(),
    thumbnail=None,
    tags=None,
    extra=b"",
):
    """Write a DigitalMicrograph file, version 3 or 4 by its suffix.

    A tree of tags. Structure is big-endian, values are little-endian. Version 4 differs in
    having 8-byte integers where version 3 has 4-byte ones, and each tag's length. A type
    that is not in `CODES` must have pixels of 8 bytes and name DM's code, `data_type`.

    `third_unit` is that of a stack's first axis, `thumbnail` the index of an image that is
    one, `tags` a tree of dictionaries, texts and numbers that goes with every image, and
    `extra` a tag's information and values, as bytes, that stands before all else.
    """
    version = int(Path(path).suffix[-1])
    integer = ">q" if version == 4 else ">i"

    def tag(kind, name, body):
        length = struct.pack(">q", len(body)) if version == 4 else b""
        return struct.pack(">BH", kind, len(name)) + name.encode() + length + body

    def group(name, *tags):
        return tag(20, name, b"\1\0" + struct.pack(integer, len(tags)) + b"".join(tags))

    def data(name, info, values):
        header = b"%%%%" + b"".join(struct.pack(integer, n) for n in (len(info), *info))
        return tag(21, name, header + values)

    def number(name, value):
        return data(name, [5], struct.pack("<I", value))

    def real(name, value):
        return data(name, [6], struct.pack("<f", value))

    def text(name, value):
        return data(name, [20, 4, len(value)], value.encode("utf-16-le"))

    def calibration(name, scale, unit):
        return group(name, real("Origin", 0), real("Scale", scale), text("Units", unit))

    def tree(name, value):
        if isinstance(value, dict):
            return group(name, *(tree(*item) for item in value.items()))
        return text(name, value) if isinstance(value, str) else real(name, value)

    def image_of(index, image):
        image_code, number_code, _ = CODES.get(str(image.dtype), (data_type, 7, None))
        side = ("", pixel_size or 1, unit if pixel_size else "")
        third = calibration("", 1, third_unit)
        dimensions = [calibration(*side)] * 2 + [third] * (image.ndim - 2)
        image_data = group(
            "ImageData",
            group(
                "Calibrations",
                calibration("Brightness", 1, ""),
                group("Dimension", *dimensions),
            ),
            data("Data", [20, number_code, image.size], image.tobytes()),
            number("DataType", image_code),
            group("Dimensions", *(number("", side) for side in image.shape[::-1])),
        )
        name = [text("Name", names[index])] if names else []
        return group("", image_data, tree("ImageTags", tags or {}), *name)

    parts = [group("ImageList", *(image_of(*each) for each in enumerate(images)))]
    if thumbnail is not None:
        parts.append(group("Thumbnails", group("", number("ImageIndex", thumbnail))))
    if extra:
        parts.insert(0, tag(21, "Extra", b"%%%%" + extra))
    root = b"\1\0" + struct.pack(integer, len(parts)) + b"".join(parts)
    size = struct.pack(integer, len(root))
    Path(path).write_bytes(struct.pack(">i", version) + size + struct.pack(">i", 1) + root)


def write_ser(path, image, *, pixel_size=1e-9):
    """Write a TIA series of images, or of one; `pixel_size` is in metres.

    Header, one dimension (the series), the images, then the offsets of images and tags.
    """
    frames = image.reshape(-1, *image.shape[-2:])
    height, width = frames.shape[1:]
    dimension = struct.pack("<IddIII", len(frames), 0, 1, 0, 0, 0)
    start = 30 + len(dimension)
    elements = []
    for frame in frames:
        calibration = struct.pack("<ddI", 0, pixel_size, 0) * 2
        kind = struct.pack("<HII", CODES[str(image.dtype)][2], width, height)
        tag = struct.pack("<HHI", 0x4152, 0, 0)
        # The first row in the file is the lowest of the picture.
        elements.append(calibration + kind + frame[::-1].tobytes() + tag)
    offsets = [start + n * len(elements[0]) for n in range(len(frames))]
    tags = [offset + len(elements[0]) - 8 for offset in offsets]
    end = start + sum(map(len, elements))
    count = len(frames)
    header = struct.pack(
        "<HHHIIIIII", 0x4949, 0x197, 0x210, 0x4122, 0x4152, count, count, end, 1
    )
    index = struct.pack(f"<{2 * count}I", *offsets, *tags)
    Path(path).write_bytes(header + dimension + b"".join(elements) + index)


def write_velox(path, image, *, key="0123456789abcdef" * 2, **told):
    """Write a Velox EMD file, or one more image into it; `told` goes to `velox_metadata`.

    HDF5, the frames as the last axis, JSON for metadata.
    """
    frames = image.reshape(-1, *image.shape[-2:])
    metadata = velox_metadata(**told)
    text = np.frombuffer(json.dumps(metadata).encode() + b"\0", np.uint8)
    with h5py.File(path, "a") as file:
        if "Version" not in file:
            version = json.dumps({"format": "Velox", "version": "11"}).encode()
            file.create_dataset("Version", data=np.array([version]))
        group = file.create_group(f"Data/Image/{key}")
        group.create_dataset("Data", data=np.moveaxis(frames, 0, -1))
        group.create_dataset("Metadata", data=np.tile(text[:, np.newaxis], len(frames)))


def velox_metadata(pixel_size=1e-9, unit="m", detector="HAADF", started=0):
    """Return what Velox tells of an image; `started` is the time of acquisition in s."""
    return {
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "Instrument": {"InstrumentModel": "", "InstrumentId": ""},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": str(started)}},
        "Optics": {"AccelerationVoltage": "200000"},
        "Scan": {"FrameTime": "1", "DwellTime": "1e-6"},
        "BinaryResult": {
            "DetectorIndex": "0",
            "Detector": detector,
            "PixelSize": {"width": str(pixel_size), "height": str(pixel_size)},
            "PixelUnitX": unit,
            "Offset": {"x": "0", "y": "0"},
        },
        "Detectors": {"Detector-0": {"DetectorName": detector, "DetectorType": "x"}},
    }


def write_berkeley(path, image, axes, *, group="data/image", start=1, kind=1):
    """Write a Berkeley EMD file, or one more array into it.

    `axes` holds (name, unit, step) of each axis as stored, or a list of texts for an axis
    of labels. py4DSTEM and emdfile count their axes from `start` 0 and have a word as the
    `kind` of a group.
    """
    with h5py.File(path, "a") as file:
        array = file.create_group(group)
        array.attrs["emd_group_type"] = kind
        array["data"] = image
        for index, (axis, size) in enumerate(zip(axes, image.shape, strict=True), start):
            if isinstance(axis, list):
                array[f"dim{index}"] = axis
                array[f"dim{index}"].attrs["name"] = "_labels_"
                continue
            name, unit, step = axis
            array[f"dim{index}"] = np.arange(size) * step
            array[f"dim{index}"].attrs.update(name=name, units=unit)


def write_zspy(path, image, *, pixel_size=1.0, unit="nm", compressor="blosc", rows=4):
    """Write HyperSpy's ZSPY, Zarr 2, as a folder, or as a ZIP where `path` is a file's.

    Chunks hold `rows` rows of one image and all columns.
    """
    import imagecodecs

    pack = {
        "blosc": lambda raw: imagecodecs.blosc_encode(raw, compressor="zstd"),
        "zstd": imagecodecs.zstd_encode,
        "zlib": imagecodecs.zlib_encode,
        None: bytes,
    }[compressor]
    chunks = [*(1,) * (image.ndim - 2), rows, image.shape[-1]]
    place = "Experiments/__unnamed__"
    store = {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": {"file_format": "ZSpy", "file_format_version": "3.3"},
        "Experiments/.zgroup": {"zarr_format": 2},
        f"{place}/.zgroup": {"zarr_format": 2},
        f"{place}/data/.zarray": {
            "zarr_format": 2,
            "shape": image.shape,
            "chunks": chunks,
            "dtype": image.dtype.str,
            "compressor": compressor and {"id": compressor},
            "fill_value": 0,
            "filters": None,
            "order": "C",
            "dimension_separator": "/",
        },
    }
    for index, axis in enumerate(signal(image, pixel_size=pixel_size, unit=unit)["axes"]):
        store[f"{place}/axis-{index}/.zgroup"] = {"zarr_format": 2}
        store[f"{place}/axis-{index}/.zattrs"] = axis
    store = {name: json.dumps(told).encode() for name, told in store.items()}
    counts = [-(-size // chunk) for size, chunk in zip(image.shape, chunks, strict=True)]
    for index in np.ndindex(*counts):
        where = tuple(slice(n * c, (n + 1) * c) for n, c in zip(index, chunks, strict=True))
        chunk = np.zeros(chunks, image.dtype)
        part = image[where]
        chunk[tuple(slice(size) for size in part.shape)] = part
        store[f"{place}/data/" + "/".join(map(str, index))] = pack(chunk.tobytes())
    if Path(path).is_dir():
        for name, contents in store.items():
            (Path(path) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(path) / name).write_bytes(contents)
    else:
        with zipfile.ZipFile(path, "w") as file:
            for name, contents in store.items():
                file.writestr(name, contents)


def signal(image, *, pixel_size=1.0, unit="nm", axes=None):
    """Return the dictionary that RosettaSciIO's writers take."""
    names = axes or ["z", "y", "x"][-image.ndim :]
    return {
        "data": image,
        "axes": [
            {
                "name": name,
                "size": size,
                "index_in_array": index,
                "scale": pixel_size,
                "offset": 0.0,
                "units": unit,
                "navigate": name not in "yx",
            }
            for index, (name, size) in enumerate(zip(names, image.shape, strict=True))
        ],
        "metadata": {"General": {"title": ""}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "tmp_parameters": {},
        "attributes": {"_lazy": False},
        "package_info": {"package": "", "package_version": ""},
        "learning_results": {},
        "models": {},
    }


IMAGE = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1001
STACK = np.stack([IMAGE, IMAGE // 2])
NARROW = STACK[..., :3].copy()  # of the shape that a small RGB picture would have

PLAIN = {
    "metadata": None,
    "resolution": (2e7, 2e7),
    "resolutionunit": "CENTIMETER",
}
# Each format, written by its own library or by hand: {name: (writer, keeps a pixel size)}.
# The size written is 0.5 nm.
BUILDERS = {
    "imagej.tif": lambda path, image: write_tiff(
        path, image, imagej=True, resolution=(2, 2), metadata={"unit": "nm"}
    ),
    "big-endian.tif": lambda path, image: write_tiff(
        path,
        image,
        imagej=True,
        byteorder=">",
        resolution=(2, 2),
        metadata={"unit": "nm"},
    ),
    "ome.tif": lambda path, image: write_tiff(
        path,
        image,
        ome=True,
        metadata={"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "nm"},
    ),
    "plain.tif": lambda path, image: write_tiff(path, image, **PLAIN),
    "big.tiff": lambda path, image: write_tiff(path, image, **PLAIN, bigtiff=True),
    "tiles.tif": lambda path, image: write_tiff(
        path,
        image,
        tile=(16, 16),
        compression="zlib",
        resolution=(5.08e7, 5.08e7),
        resolutionunit="INCH",
    ),
    "lzw.tif": lambda path, image: write_tiff(path, image, **PLAIN, compression="lzw"),
    "deflate.tif": lambda path, image: write_tiff(
        path, image, **PLAIN, compression="deflate", predictor=True
    ),
    "zstd.tif": lambda path, image: write_tiff(path, image, **PLAIN, compression="zstd"),
    "a.npy": np.save,
    "a.mrc": lambda path, image: write_mrc(path, image),
    "big-endian.mrc": lambda path, image: write_mrc(path, image.astype(">u2")),
    "a.dm3": lambda path, image: write_dm(path, image, pixel_size=0.5),
    "a.dm4": lambda path, image: write_dm(path, image, pixel_size=0.5),
    "a.ser": lambda path, image: write_ser(path, image, pixel_size=5e-10),
    "velox.emd": lambda path, image: write_velox(path, image, pixel_size=5e-10),
    "ncem.emd": lambda path, image: rsciio.emd.file_writer(
        str(path), signal(image, pixel_size=0.5)
    ),
    "a.hspy": lambda path, image: rsciio.hspy.file_writer(
        str(path), signal(image, pixel_size=0.5)
    ),
    "a.hdf5": lambda path, image: rsciio.hspy.file_writer(
        str(path), signal(image, pixel_size=0.5)
    ),
}
# Names that MRC and TIFF have as well, packed or not.
OTHER_NAMES = {
    **{f"a{suffix}": "a.mrc" for suffix in (".mrcs", ".st", ".rec", ".map", ".ali")},
    "a.preali": "a.mrc",
    "a.mrc.gz": "a.mrc",
    "a.st.bz2": "a.mrc",
    "a.tif.gz": "plain.tif",
    "a.tiff.bz2": "imagej.tif",
}
BUILDERS |= {
    name: lambda path, image, like=like: build_as(like, path, image)
    for name, like in OTHER_NAMES.items()
}
# Pictures hold one image, and JPEG not its numbers.
ALL_BUILDERS = {
    **BUILDERS,
    "a.png": lambda path, image: iio.imwrite(path, image[0]),
    "a.bmp": lambda path, image: iio.imwrite(path, image[0].astype(np.uint8)),
    "a.jpg": lambda path, image: iio.imwrite(path, image[0].astype(np.uint8)),
    "a.jpeg": lambda path, image: iio.imwrite(path, image[0].astype(np.uint8)),
}

every_readable = pytest.mark.parametrize("suffix", READABLE)
every_writable = pytest.mark.parametrize("suffix", WRITABLE)
quick = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def write_tiff(path, image, **options):
    tifffile.imwrite(path, image, photometric="minisblack", **options)


def write_mrc(path, image):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(image)
        file.voxel_size = 5.0  # ångströms


def build_as(like, path, image):
    """Write a file like another builder's under a name of its own, packed if it says so."""
    plain = path.with_name(like)
    BUILDERS[like](plain, image)
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(plain.read_bytes()))
    plain.unlink()


def change(path, changes):
    """Overwrite bytes of a file, given as {offset: bytes}, negative from the end."""
    contents = bytearray(path.read_bytes())
    for offset, new in changes.items():
        start = offset % len(contents)
        contents[start : start + len(new)] = new
    path.write_bytes(contents)


def fault_of(path):
    """Read a file that must be refused, check the form of the message, and return it."""
    with pytest.raises(MicrographError) as caught:
        read_micrograph(path)
    return checked(str(caught.value), path)


def checked(message, path):
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message, "no remedy"
    assert len(message) < 400 + len(str(path))
    return message.removeprefix(f"{path}: ")


BAD_IMAGES = {
    "complex numbers; save their size, np.abs": IMAGE * 1j,
    "true and false": IMAGE > 3,
    "no pixels": IMAGE[:0],
    "array of shape (35,)": IMAGE.ravel(),
    "array of shape (2, 2, 5, 7)": np.stack([STACK, STACK]),
    "<U1 values": np.full((5, 7), "a"),
}
