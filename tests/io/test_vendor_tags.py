"""What makers of microscopes write, with values of real files.

The values are those of RosettaSciIO's test files: a Helios NanoLab 660, a Merlin and an
Ultra of Zeiss, an ARM200F of JEOL, an F416 of TVIPS, pictures of iTEM and of GMS.
"""

import os
import struct

import numpy as np
import pytest
import tifffile
from helpers.formats import IMAGE
from PIL import Image

from emdn.io import Metadata, list_images, read_micrograph


def tagged(path, *tags, image=IMAGE, **options):
    """Write a TIFF with private tags: (code, type, count, value)."""
    extra = [(*tag, True) for tag in tags]
    tifffile.imwrite(path, image, metadata=None, extratags=extra, **options)
    return read_micrograph(path)[1]


def close_to(size, unit):
    return (pytest.approx(size, rel=1e-5), unit)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (
            34682,  # FEI_HELIOS
            "[Scan]\nPixelWidth=2.5e-009\nPixelHeight=2.5e-009\n[Detectors]\nName=ETD\n",
            Metadata(2.5, "nm", "ETD"),
        ),
        (34682, "[Scan]\nPixelWidth=unknown\n", Metadata()),
        (
            34118,  # CZ_SEM
            "\nAP_IMAGE_PIXEL_SIZE\nImage Pixel Size = 2.5 nm\n"
            "DP_DETECTOR_TYPE\nDetector = InLens\n",
            Metadata(2.5, "nm", "InLens"),
        ),
    ],
)
def test_pixel_size_and_detector_of_a_scanning_microscope_are_read(
    code, text, expected, tmp_path
):
    tag = (code, "s", 0, text.encode(), True)
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, metadata=None, extratags=[tag])
    metadata = read_micrograph(tmp_path / "a.tif")[1]
    assert metadata.pixel_size == pytest.approx(expected.pixel_size)
    assert (metadata.unit, metadata.detector) == (expected.unit, expected.detector)


FEI = """[Beam]\r\nHV=5000\r\nBeam=EBeam\r\n[EBeam]\r\nHV=5000\r\nBeamCurrent=6.25e-012\r\n
[Scan]\r\nDwelltime=1e-005\r\nPixelWidth=3.3724e-006\r\nPixelHeight=3.3724e-006\r\n
[Detectors]\r\nNumber=1\r\nName=ETD\r\n[System]\r\nSystemType=Helios NanoLab" 660\r\n
[Stage]\r\nWorkingDistance=0.00403466\r\n"""


@pytest.mark.parametrize("code", [34680, 34682])
def test_thermo_fisher_tells_its_beam_and_scan(code, tmp_path):
    found = tagged(tmp_path / "a.tif", (code, "s", 0, FEI.encode()))
    assert (found.pixel_size, found.unit) == close_to(3372.4, "nm")
    assert (found.detector, found.voltage, found.dwell_time) == ("ETD", 5.0, 1e-5)
    assert found.other == {
        "microscope": 'Helios NanoLab" 660',
        "beam_current_A": 6.25e-12,
        "working_distance_m": 0.00403466,
    }


def test_thermo_fishers_navigation_camera_tells_its_field(tmp_path):
    text = (
        "[IRBeam]\nHFW=0.202732\nVFW=0.152049\n[Image]\nResolutionX=768\nResolutionY=576\n"
    )
    found = tagged(tmp_path / "a.tif", (34682, "s", 0, text.encode()))
    assert (found.pixel_size, found.unit) == (pytest.approx(263974, rel=1e-4), "nm")


def zeiss(unnamed, **named):
    lines = [str(number) for number in unnamed]
    for key, line in named.items():
        lines += [key.upper(), line]
    return (34118, "s", 0, "\r\n".join([*lines, ""]).encode("latin-1"))


MERLIN = [0, 0, 0, 2.614514e-06, 104.5845, 6, 25000.0]
ULTRA = [0, 0, 0, 5.824988e-09, 50000.0, 6, 5000.0]


def test_zeiss_tells_all_digits_without_a_name(tmp_path):
    tag = zeiss(
        MERLIN,
        ap_image_pixel_size="Image Pixel Size = 2.615 µm",
        ap_actualkv="EHT = 25.00 kV",
        dp_detector_type="Detector = HE-SE2",
        dp_dwell_time="Dwell Time = 50 ns",
        sv_serial_number="Serial No. = Merlin-61-08",
    )
    found = tagged(tmp_path / "a.tif", tag, image=np.zeros((768, 1024), np.uint8))
    assert (found.pixel_size, found.unit) == close_to(2614.514, "nm")
    assert (found.detector, found.voltage) == ("HE-SE2", 25.0)
    assert found.dwell_time == pytest.approx(5e-8)
    assert found.other == {"microscope": "Merlin-61-08"}


@pytest.mark.parametrize("unnamed", [ULTRA, []])
def test_zeisss_size_on_the_display_is_that_of_1024_pixels(unnamed, tmp_path):
    tag = zeiss(unnamed, ap_pixel_size="Pixel Size = 5.825 nm")
    found = tagged(tmp_path / "a.tif", tag, image=np.zeros((384, 512), np.uint8))
    assert (found.pixel_size, found.unit) == (pytest.approx(11.649976, rel=1e-4), "nm")


@pytest.mark.parametrize("text", ["2.5 nm", "2,5 nm", "0.0025 µm", "2.5e-9 m", "25 Å"])
def test_zeisss_named_size_stands_where_no_other_agrees(text, tmp_path):
    tag = zeiss(ULTRA, ap_image_pixel_size=f"Image Pixel Size = {text}")
    found = tagged(tmp_path / "a.tif", tag, image=np.zeros((384, 512), np.uint8))
    unit = {"µ": "um", "Å": "A"}.get(text[-2:][0], {"Å": "A"}.get(text[-1], "nm"))
    assert found.unit == unit
    assert found.pixel_size == pytest.approx({"um": 0.0025, "A": 25}.get(unit, 2.5))


TESCAN = """[MAIN]\r\nDevice=MIRA3 LMU\r\nMagnification=49999.4\r\nPixelSizeX=5.535e-009\r\n
PixelSizeY=5.535e-009\r\n[SEM]\r\nDetector=SE\r\nDwellTime=1e-005\r\nHV=10000.0\r\n"""


def check_tescan(found):
    assert (found.pixel_size, found.unit) == close_to(5.535, "nm")
    assert (found.detector, found.voltage, found.dwell_time) == ("SE", 10.0, 1e-5)
    assert found.other == {"microscope": "MIRA3 LMU"}


def test_tescan_writes_lines_into_a_tag(tmp_path):
    text = b"\x01\x08\0\xff" + TESCAN.encode()
    check_tescan(tagged(tmp_path / "a.tif", (50431, "B", len(text), text)))


@pytest.mark.parametrize("name", ["a.hdr", "a-tif.hdr", "A.HDR"])
def test_tescan_writes_lines_beside_the_image(name, tmp_path):
    (tmp_path / name).write_text(TESCAN)
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)
    check_tescan(read_micrograph(tmp_path / "a.tif")[1])


@pytest.mark.parametrize(
    ("units", "sizes", "expected"),
    [
        (("µm", "µm"), (0.16867469251155853,) * 2, (0.1686747, "um")),
        (("um", "um"), (0.1687, 0.1687), (0.1687, "um")),
        (("nm", "µm"), (500.0, 0.5), (500.0, "nm")),
        (("1/nm", "1/nm"), (0.02, 0.02), (0.02, "1/nm")),
        (("µm", "µm"), (0.16867, 1.68674), (None, None)),
        (("", ""), (1.0, 1.0), (None, None)),
    ],
)
def test_gatan_writes_units_and_scales(units, sizes, expected, tmp_path):
    tags = [
        (code, "s", 0, unit.encode("latin-1"))
        for code, unit in zip((65003, 65004), units, strict=True)
    ]
    tags += [(code, "d", 1, size) for code, size in zip((65009, 65010), sizes, strict=True)]
    found = tagged(tmp_path / "a.tif", *tags)
    size = expected[0] and pytest.approx(expected[0])
    assert (found.pixel_size, found.unit) == (size, expected[1])


def test_olympus_writes_a_size_in_a_power_of_ten(tmp_path):
    # The structure names where its data lie in the file: behind everything, here.
    path, size = tmp_path / "a.tif", 2.392791775876109
    data = struct.pack("<10xhdd8xd2x34s32s", -11, size, size, 6e5, b"Veleta", b"x")
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 0, 0, 1, 0, 100, b"scan", 1)
    tifffile.imwrite(path, IMAGE, metadata=None)
    start = path.stat().st_size + 200
    block = head + struct.pack("<hhI", 1, 1, start)
    tagged(path, (33560, "B", len(block), block))
    path.write_bytes(path.read_bytes().ljust(start, b"\0") + data)
    found = read_micrograph(path)[1]
    assert (found.pixel_size, found.unit) == close_to(0.02392792, "nm")
    assert (found.detector, found.other) == ("Veleta", {"magnification": 6e5})


@pytest.mark.parametrize(("mode", "known"), [(0, True), (3, False)])
def test_tvips_writes_sides_in_nm_but_in_diffraction(mode, known, tmp_path):
    first = np.zeros(1, tifffile.TIFF.TVIPS_HEADER_V1)
    second = np.zeros(1, tifffile.TIFF.TVIPS_HEADER_V2)
    first["Version"], second["Magic"], second["TemMode"] = 2, 0xAAAAAAAA, mode
    second["PixelSizeX"] = second["PixelSizeY"] = 1.4208036661148071
    second["TemHighTension"], second["ExposureTime"] = 99000.0, 400.0
    second["TemMagnification"] = 32000.0
    camera = "F416".encode("utf-16-le")
    second["CameraType"] = np.void(camera.ljust(second["CameraType"].itemsize, b"\0"))
    block = first.tobytes() + second.tobytes()
    found = tagged(tmp_path / "a.tif", (37706, "B", len(block), block))
    assert found.pixel_size == (pytest.approx(1.4208037) if known else None)
    assert (found.detector, found.voltage) == ("F416", 99.0)
    assert found.other == {"magnification": 32000.0, "exposure_time_s": 0.4}


@pytest.mark.parametrize(
    ("eos", "mode", "value", "unit", "expected"),
    [
        ("eosTEM", "MAG", 150000, "X", (1.8208, "nm")),
        ("eosTEM", "DIFF", 400, "mm", (0.2723, "1/nm")),
        ("eosTEM", "DIFF", 40, "cm", (0.2723, "1/nm")),
        ("eosASID", "MAG", 400000, "X", (None, None)),
    ],
)
def test_jeols_size_follows_from_camera_and_optics(
    eos, mode, value, unit, expected, tmp_path
):
    text = f"""<?xml version="1.0"?>\r\n<TemReporter>\r\n<Eos><EosMode>{eos}</EosMode></Eos>
<ElectronGun><AccelerationVoltage>200000</AccelerationVoltage></ElectronGun>
<ImageFormingSystem><ModeString>{mode}</ModeString><SelectorValue>{value}</SelectorValue>
<SelectorUnitString>{unit}</SelectorUnitString></ImageFormingSystem></TemReporter>"""
    found = tagged(
        tmp_path / "a.tif",
        (271, "s", 0, b"JEOL Ltd."),
        description=text,
        resolution=(93, 93),
        resolutionunit="INCH",
    )
    assert found.pixel_size == (expected[0] and pytest.approx(expected[0], rel=1e-3))
    assert (found.unit, found.voltage) == (expected[1], 200.0)


HITACHI = (
    "[SemImageFile]\r\nInstructName=SU8230\r\nSignalName=SE(U)\r\nMagnification=10000\r\n"
    "AcceleratingVoltage=15000 Volt\r\nPixelSize=9.921875\r\nDataSize=1280x960\r\n"
)
JEOL = (
    "$CM_FORMAT JPG\r\n$CM_INSTRUMENT JSM-7800F\r\n$CM_ACCEL_VOLT 15.00\r\n"
    "$CM_MAG 5000\r\n$CM_DETECTOR_NAME LED\r\n$$SM_MICRON_BAR 160\r\n"
    "$$SM_MICRON_MARKER 5um\r\n"
)


@pytest.mark.filterwarnings("ignore:.*is packed by JPEG")
@pytest.mark.parametrize("image", ["a.tif", "a.jpg", "a.bmp", "a.png", "A.TIF"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_hitachi_and_jeol_write_texts_beside_their_images(image, encoding, tmp_path):
    path = tmp_path / image
    Image.fromarray(IMAGE.astype(np.uint8)).save(path)
    path.with_suffix(".txt").write_bytes(HITACHI.encode(encoding))
    found = read_micrograph(path)[1]
    assert (found.pixel_size, found.unit) == (9.921875, "nm")
    assert (found.detector, found.voltage) == ("SE(U)", 15.0)
    assert found.other == {"microscope": "SU8230", "magnification": 10000.0}
    path.with_suffix(".txt").write_bytes(JEOL.encode(encoding))
    found = read_micrograph(path)[1]
    assert (found.pixel_size, found.unit) == (0.03125, "um")
    assert (found.detector, found.voltage) == ("LED", 15.0)
    assert found.other == {"microscope": "JSM-7800F", "magnification": 5000.0}


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "huge", "prose", "bytes"])
def test_what_is_no_companion_is_passed_over(kind, tmp_path, rng):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)
    beside, elsewhere = tmp_path / "a.txt", tmp_path / "elsewhere"
    elsewhere.write_text(HITACHI)
    {
        "link": lambda: beside.symlink_to(elsewhere),
        "pipe": lambda: os.mkfifo(beside),
        "folder": beside.mkdir,
        "huge": lambda: beside.write_text(HITACHI + "x" * 2**20),
        "prose": lambda: beside.write_text("Ask about PixelSize=5 again."),
        "bytes": lambda: beside.write_bytes(rng.bytes(999)),
    }[kind]()
    assert read_micrograph(tmp_path / "a.tif")[1] == Metadata()


def test_pages_of_several_detectors_are_images_of_their_own(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for number, detector in enumerate(["ETD", "TLD", "ETD"]):
            text = FEI.replace("Name=ETD", f"Name={detector}").encode()
            extra = [(34682, "s", 0, text, True)]
            file.write(IMAGE + np.uint16(number), metadata=None, extratags=extra)
    assert [each.name for each in list_images(path)] == ["ETD", "TLD"]
    with pytest.warns(UserWarning, match="'ETD' is read, left out: 'TLD'"):
        image, metadata = read_micrograph(path)
    np.testing.assert_array_equal(image, [IMAGE, IMAGE + np.uint16(2)])
    assert metadata.detector == "ETD"
    image, metadata = read_micrograph(path, "TLD")
    np.testing.assert_array_equal(image, IMAGE + np.uint16(1))
    assert metadata.detector == "TLD"


def test_pages_of_several_magnifications_are_images_of_their_own(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for size in (3.3724e-6, 1e-9):
            text = FEI.replace("3.3724e-006", str(size)).encode()
            extra = [(34682, "s", 0, text, True)]
            file.write(IMAGE, metadata=None, extratags=extra)
    sizes = [each.metadata.pixel_size for each in list_images(path)]
    assert sizes == [pytest.approx(3372.4), pytest.approx(1.0)]


def test_pages_of_one_detector_are_a_stack(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for _ in range(3):
            extra = [(34682, "s", 0, FEI.encode(), True)]
            file.write(IMAGE, metadata=None, extratags=extra)
    assert read_micrograph(path)[0].shape == (3, 5, 7)


@pytest.mark.parametrize("code", [34118, 34680, 34682, 33560, 33471, 37706, 50431])
def test_damaged_tags_of_makers_do_not_cost_the_image(code, tmp_path, rng):
    for junk in (b"", b"\0", b"[Scan]", b"SIS0", rng.bytes(300), b"=\n" * 99):
        path = tmp_path / "a.tif"
        options = {
            "metadata": None,
            "extratags": [(code, "B", len(junk) or 1, junk or b"\0", True)],
        }
        tifffile.imwrite(path, IMAGE, **options)
        image, metadata = read_micrograph(path)
        np.testing.assert_array_equal(image, IMAGE)
        assert metadata.pixel_size is None


@pytest.mark.parametrize("text", ["", "<TemReporter>", "<a><b></a>", "&lol;", "\0"])
def test_a_damaged_description_of_jeol_does_not_cost_the_image(text, tmp_path):
    make = (271, "s", 0, b"JEOL Ltd.")
    assert tagged(tmp_path / "a.tif", make, description=text).pixel_size is None
