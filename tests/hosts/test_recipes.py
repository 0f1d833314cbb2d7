"""Each recipe denoises as `Denoiser` does, and keeps what its program knows of an image."""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

# Other programs warn of other packages.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

SAME = 1e-3  # counts of 60; threads and blocks of other sizes may round in another way


@pytest.mark.parametrize("lazy", [False, True])
def test_hyperspy_keeps_axes_and_metadata(lazy, run_recipe, frames, denoised, tmp_path):
    hs = pytest.importorskip("hyperspy.api")
    signal = hs.signals.Signal2D(frames)
    for number, units in enumerate(("s", "nm", "nm")):
        axis = signal.axes_manager[number]
        axis.name, axis.units = "txy"[number], units
        axis.scale, axis.offset = 0.2 + number, 1.0
    signal.metadata.General.title = "grid"
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 300.0)
    signal.save(tmp_path / "session.hspy")
    change = ('session.hspy")', 'session.hspy", lazy=True)') if lazy else ("", "")
    with contextlib.chdir(tmp_path):
        result = run_recipe("HyperSpy", change)["denoised"]
        again = hs.load("denoised.hspy")
    assert result._lazy == lazy
    np.testing.assert_allclose(again.data, denoised, atol=SAME)
    assert again.data.dtype == np.float32
    for number in range(3):
        kept, axis = again.axes_manager[number], signal.axes_manager[number]
        for name in ("name", "units", "scale", "offset", "size"):
            assert getattr(kept, name) == getattr(axis, name)
    assert again.metadata.General.title == "grid"
    assert again.metadata.Acquisition_instrument.TEM.beam_energy == 300.0


def test_napari_keeps_scale_and_units(run_recipe, frames, denoised):
    components = pytest.importorskip("napari.components")
    viewer = components.ViewerModel()
    place = {"scale": (1.0, 0.2, 0.2), "units": ("pixel", "nm", "nm")}
    layer = viewer.add_image(frames, name="grid", **place)
    run_recipe("napari", viewer=viewer)
    result = viewer.layers["grid denoised"]
    np.testing.assert_allclose(result.data, denoised, atol=SAME)
    np.testing.assert_array_equal(result.scale, layer.scale)
    assert result.units == layer.units


def test_nion_swift_keeps_the_calibrations(run_recipe, frames, denoised):
    contexts = pytest.importorskip("nion.swift.test.TestContext")
    from nion.data import Calibration, DataAndMetadata
    from nion.swift import Facade
    from nion.swift.model import DataItem

    Facade.initialize()  # as the application does
    lengths = [
        Calibration.Calibration(1.0, 0.2, "nm"),
        Calibration.Calibration(2, 0.2, "nm"),
    ]
    counts = Calibration.Calibration(units="counts")
    image = DataAndMetadata.new_data_and_metadata(frames[0], counts, lengths)
    run_recipe("Nion Swift")
    with contexts.create_memory_context() as context:
        document = context.create_document_model()
        source = DataItem.new_data_item(image)
        document.append_data_item(source)
        shown = document.get_display_item_for_data_item(source)
        result = document.get_processing_new("emdn.denoise", shown, source)
        document.recompute_all()
        np.testing.assert_allclose(result.data, denoised[0], atol=SAME)
        assert list(result.dimensional_calibrations) == lengths
        assert result.intensity_calibration == counts


def test_libertem_returns_each_frame_of_a_scan(run_recipe, frames, denoised):
    api = pytest.importorskip("libertem.api")
    scan = np.stack([frames, frames[::-1]])
    with api.Context.make_with("inline") as context:
        dataset = context.load("memory", data=scan, sig_dims=2, num_partitions=2)
        results = context.run_udf(dataset=dataset, udf=run_recipe("LiberTEM")["Denoise"]())
    result = results["denoised"].data
    np.testing.assert_allclose(result, np.stack([denoised, denoised[::-1]]), atol=SAME)


def test_abtem_keeps_sampling_and_metadata(run_recipe, frames):
    abtem = pytest.importorskip("abtem")
    clean = np.full_like(frames[0], 2.0)
    metadata = {"label": "intensity", "units": "arb. unit"}
    images = abtem.Images(clean, sampling=(0.2, 0.2), metadata=metadata)
    names = run_recipe("abTEM", images=images)
    result, noisy = names["denoised"], names["noisy"]
    assert result.sampling == noisy.sampling == images.sampling
    assert result.metadata == noisy.metadata
    assert result.array.std() < noisy.array.std() / 2
    assert result.array.mean() == pytest.approx(noisy.array.mean(), rel=1e-3)


class _Front:
    """Stand-in for an image of GMS, as its documentation describes it."""

    def __init__(self, array, name="", calibration=None):
        self.array, self.name = array, name
        self.calibration = calibration or {}

    def GetNumArray(self):
        return self.array

    def GetName(self):
        return self.name

    def SetName(self, name):
        self.name = name

    def GetDimensionCalibration(self, axis, _):
        return self.calibration[axis]

    def SetDimensionCalibration(self, axis, origin, scale, unit, _):
        self.calibration[axis] = (origin, scale, unit)

    def ShowImage(self):
        self.shown = True


def test_gms_keeps_the_calibrations(run_recipe, frames, denoised, monkeypatch):
    front = _Front(frames[0], "grid", {0: (1.0, 0.2, "nm"), 1: (2.0, 0.3, "nm")})
    made = []

    def create(array):
        made.append(_Front(array))
        return made[-1]

    stand_in = SimpleNamespace(GetFrontImage=lambda: front, CreateImage=create)
    monkeypatch.setitem(sys.modules, "DigitalMicrograph", stand_in)
    names = run_recipe("GMS")
    (result,) = made
    np.testing.assert_allclose(result.array, denoised[0], atol=SAME)
    assert result.array.base is None  # memory of its own
    assert result.name == "grid denoised"
    assert result.calibration == front.calibration
    assert result.shown
    assert "front" not in names


@pytest.mark.parametrize("program", ["cryoSPARC"])
def test_what_cannot_be_run_here_is_python_at_least(program, run_recipe):
    with pytest.raises(ModuleNotFoundError, match="cryosparc"):
        run_recipe(program)
