"""Tiny files of the formats that no library at hand can write, byte by byte."""

import json
import struct
from pathlib import Path

import h5py
import numpy as np

# Codes of pixel types: {dtype: (of an image in DM, of a number in DM, of an image in SER)}.
CODES = {"uint8": (6, 8, 1), "int16": (1, 2, 5), "uint16": (10, 4, 2), "float32": (2, 6, 7)}


def write_dm(path, image, *, pixel_size=None, unit="nm", data_type=None):
    """Write a DigitalMicrograph file, version 3 or 4 by its suffix.

    A tree of tags. Structure is big-endian, values are little-endian. Version 4 differs in
    having 8-byte integers where version 3 has 4-byte ones, and each tag's length. A type
    that is not in `CODES` must have pixels of 8 bytes and name DM's code, `data_type`.
    """
    version = int(Path(path).suffix[-1])
    integer = ">q" if version == 4 else ">i"
    image_code, number_code, _ = CODES.get(str(image.dtype), (data_type, 7, None))

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

    sides = image.shape[::-1]
    side = ("", pixel_size or 1, unit if pixel_size else "")
    dimensions = [calibration(*side)] * 2 + [calibration("", 1, "")] * (image.ndim - 2)
    image_data = group(
        "ImageData",
        group(
            "Calibrations",
            calibration("Brightness", 1, ""),
            group("Dimension", *dimensions),
        ),
        data("Data", [20, number_code, image.size], image.tobytes()),
        number("DataType", data_type or image_code),
        group("Dimensions", *(number("", side) for side in sides)),
    )
    images = group("ImageList", group("", image_data, group("ImageTags")))
    root = b"\1\0" + struct.pack(integer, 1) + images
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


def write_velox(path, image, *, pixel_size=1e-9, unit="m", detector="HAADF"):
    """Write a Velox EMD file: HDF5, the frames as the last axis, JSON for metadata."""
    frames = image.reshape(-1, *image.shape[-2:])
    metadata = {
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "Instrument": {"InstrumentModel": "", "InstrumentId": ""},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "0"}},
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
    text = np.frombuffer(json.dumps(metadata).encode() + b"\0", np.uint8)
    with h5py.File(path, "w") as file:
        version = json.dumps({"format": "Velox", "version": "11"}).encode()
        file.create_dataset("Version", data=np.array([version]))
        group = file.create_group("Data/Image/0123456789abcdef0123456789abcdef")
        group.create_dataset("Data", data=np.moveaxis(frames, 0, -1))
        group.create_dataset("Metadata", data=np.tile(text[:, np.newaxis], len(frames)))


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
