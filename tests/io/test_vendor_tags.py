"""What makers of microscopes write, with values of real files."""

import pytest
import tifffile
from formats import (
    IMAGE,
)

from emdn.io import (
    Metadata,
    read_micrograph,
)


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
