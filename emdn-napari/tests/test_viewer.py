"""The plugin in a real viewer, which needs a screen and OpenGL: see the README."""

import os

import pytest

from emdn.io import Metadata, write_micrograph

pytestmark = pytest.mark.skipif(
    "DISPLAY" not in os.environ, reason="needs a screen; xvfb-run has one"
)


def test_a_file_is_opened_and_denoised(make_napari_viewer, qtbot, noisy, tmp_path):
    write_micrograph(tmp_path / "grid.mrc", noisy, Metadata(pixel_size=0.5, unit="nm"))
    viewer = make_napari_viewer()
    viewer.open(str(tmp_path / "grid.mrc"), plugin="emdn-napari")
    _, widget = viewer.window.add_plugin_dock_widget("emdn-napari", "Denoise a micrograph")
    widget.start.native.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=60_000)
    original, denoised = viewer.layers
    assert denoised.name == "grid denoised"
    assert denoised.data.std() < original.data.std()
    assert tuple(denoised.scale) == tuple(original.scale)
