"""The widget: choose a layer, a network and perhaps the gain; a layer comes back."""

from importlib.metadata import version
from typing import Any

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FloatSpinBox,
    ProgressBar,
    PushButton,
)
from napari.components import ViewerModel
from napari.layers import Image
from napari.utils.notifications import show_error, show_warning

from emdn.weights import Name
from emdn_napari.worker import DenoiseWorker

NETWORKS: dict[str, Name] = {
    "every dose (auto)": "auto",
    "compact, in less time": "compact",
    "the paper's, low dose": "low",
    "the paper's, ordinary dose": "ordinary",
}
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""Where a layer lies and how large its pixels are; a denoised layer lies there too."""

PER_CENT = 100


class DenoiseWidget(Container):
    """Denoise a layer of a viewer into a new one, in a thread of its own.

    Parameters
    ----------
    viewer : napari.Viewer
        Viewer whose layers to choose from, and which gets the new layer.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._worker: DenoiseWorker | None = None
        self.image = ComboBox(label="micrograph", choices=self._images)
        self.network = ComboBox(label="network", choices=list(NETWORKS.items()))
        self.tell_gain = CheckBox(
            text="tell the gain", tooltip="Otherwise the gain is measured in each image."
        )
        self.gain = FloatSpinBox(
            label="gain",
            value=1.0,
            min=-1e9,
            max=1e9,
            step=0.1,
            tooltip="What one electron adds to a pixel, in units of the image.",
        )
        self.start = PushButton(text="Denoise")
        self.cancel = PushButton(text="Cancel")
        self.progress = ProgressBar(label="done", max=PER_CENT, value=0)
        rows = (self.image, self.network, self.tell_gain, self.gain)
        super().__init__(widgets=[*rows, self.start, self.cancel, self.progress])
        self.gain.enabled = self.cancel.enabled = False
        self.tell_gain.changed.connect(self._allow_gain)
        self.start.changed.connect(self._start)
        self.cancel.changed.connect(self._cancel)
        viewer.layers.events.inserted.connect(self._layers_changed)
        viewer.layers.events.removed.connect(self._layers_changed)

    def _images(self, _: Any) -> list[Image]:
        return [e for e in self._viewer.layers if isinstance(e, Image) and not e.rgb]

    def _layers_changed(self, _: Any) -> None:
        self.image.reset_choices()

    def _allow_gain(self, told: bool) -> None:
        self.gain.enabled = told

    def _start(self) -> None:
        layer = self.image.value
        if layer is None or self._worker is not None:
            return
        told = {
            "weights": self.network.value,
            "gain": self.gain.value if self.tell_gain.value else None,
        }
        worker = DenoiseWorker(layer.data[0] if layer.multiscale else layer.data, **told)
        settings = _settings(layer, told)
        worker.progressed.connect(self._show_progress)
        worker.returned.connect(lambda image: self._viewer.add_image(image, **settings))
        worker.errored.connect(lambda error: show_error(f"{layer.name}: {error}"))
        worker.warned.connect(lambda warning: show_warning(f"{layer.name}: {warning[0]}"))
        worker.finished.connect(self._finish)
        self._worker, self.start.enabled, self.cancel.enabled = worker, False, True
        worker.start()

    def _show_progress(self, share: float) -> None:
        self.progress.value = int(PER_CENT * share)

    def _cancel(self) -> None:
        if self._worker is not None:
            self._worker.quit()

    def _finish(self) -> None:
        self._worker, self.start.enabled, self.cancel.enabled = None, True, False
        self.progress.value = 0


def _settings(layer: Image, told: dict[str, Any]) -> dict[str, Any]:
    """Return name, place and look of the denoised layer, and where it comes from."""
    place = {name: getattr(layer, name) for name in PLACE}
    return {
        "name": f"{layer.name} denoised",
        "colormap": layer.colormap,
        "contrast_limits": layer.contrast_limits,
        "metadata": {**layer.metadata, "denoised by": f"emdn {version('emdn')}", **told},
        **place,
    }
