"""A layer goes in, a layer comes out; it can be stopped, and says what is wrong."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from emdn import Denoiser
from emdn_napari.widget import DenoiseWidget
from emdn_napari.worker import Cancelled, denoise

LONG = 60_000  # milliseconds; a network is loaded meanwhile


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def widget(viewer):
    return DenoiseWidget(viewer)


def press_and_wait(qtbot, widget):
    """Press the button that starts, and wait until that can be done again."""
    widget.start.changed.emit(True)
    assert widget.cancel.enabled
    qtbot.waitUntil(lambda: widget.start.enabled, timeout=LONG)


def test_a_layer_becomes_a_denoised_one_in_the_same_place(qtbot, viewer, widget, noisy):
    place = {"scale": (0.5, 0.5), "units": ("nm", "nm"), "translate": (10.0, 20.0)}
    layer = viewer.add_image(noisy, name="grid", metadata={"voltage": 300}, **place)
    press_and_wait(qtbot, widget)
    _, denoised = viewer.layers
    expected = Denoiser(progress=False).denoise(noisy)
    np.testing.assert_array_equal(denoised.data, expected)
    assert denoised.name == "grid denoised"
    assert denoised.units == layer.units
    np.testing.assert_array_equal(denoised.scale, layer.scale)
    np.testing.assert_array_equal(denoised.translate, layer.translate)
    assert denoised.metadata["voltage"] == 300
    assert denoised.metadata["denoised by"].startswith("emdn ")
    np.testing.assert_array_equal(layer.data, noisy)


def test_network_and_gain_are_those_that_were_chosen(qtbot, viewer, widget, noisy):
    viewer.add_image(7.0 * noisy)
    widget.network.value = "auto"
    widget.tell_gain.value = True
    widget.gain.value = 14.0
    press_and_wait(qtbot, widget)
    expected = Denoiser("auto", progress=False).denoise(7.0 * noisy, gain=14.0)
    np.testing.assert_array_equal(viewer.layers[1].data, expected)
    widget.image.value = viewer.layers[0]
    widget.network.value = "low"
    press_and_wait(qtbot, widget)
    expected = Denoiser("low", progress=False).denoise(7.0 * noisy)
    np.testing.assert_array_equal(viewer.layers[2].data, expected)


def test_a_gain_can_be_typed_only_if_it_is_told(widget):
    assert not widget.gain.enabled
    widget.tell_gain.value = True
    assert widget.gain.enabled


def test_only_images_of_the_viewer_can_be_chosen(viewer, widget, noisy):
    viewer.add_labels(np.zeros((8, 8), int))
    viewer.add_image(np.zeros((8, 8, 3)), rgb=True)
    layer = viewer.add_image(noisy)
    assert widget.image.choices == (layer,)
    viewer.layers.remove(layer)
    assert widget.image.choices == ()


def test_nothing_happens_without_a_micrograph(viewer, widget):
    widget.start.changed.emit(True)
    assert widget.start.enabled
    assert len(viewer.layers) == 0


def test_what_is_cancelled_leaves_no_layer(qtbot, viewer, widget, noisy):
    viewer.add_image(np.stack([noisy] * 50))
    widget.start.changed.emit(True)
    widget.cancel.changed.emit(True)
    qtbot.waitUntil(lambda: widget.start.enabled, timeout=LONG)
    assert len(viewer.layers) == 1
    press_and_wait(qtbot, widget)  # and the widget is as good as new
    assert len(viewer.layers) == 2


def test_a_layer_that_is_no_micrograph_is_told_in_one_line(qtbot, viewer, widget):
    viewer.add_image(np.zeros((2, 2, 32, 32)), name="series")
    with notification_manager:
        before = len(notification_manager.records)
        press_and_wait(qtbot, widget)
        (record,) = notification_manager.records[before:]
    assert record.message.startswith("series: ")
    assert "\n" not in record.message
    assert len(viewer.layers) == 1


def test_progress_rises_from_0_to_1(noisy):
    shares = []
    denoise(np.stack([noisy] * 3), "low", None, shares.append)
    assert shares == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_progress_counts_the_tiles_of_a_large_image():
    shares = []
    image = np.random.default_rng(0).poisson(30, (600, 1200))
    denoise(image, "low", None, shares.append)
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert len(set(shares)) == len(shares)


def test_work_ends_at_once_when_it_is_cancelled(noisy):
    def stop(share):
        if share > 0:
            raise Cancelled

    with pytest.raises(Cancelled):
        denoise(np.stack([noisy] * 3), "low", None, stop)
