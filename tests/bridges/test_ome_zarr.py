"""OME-Zarr is what the models of its specification take for an image."""

import numpy as np
import pytest

from emdn.io import Metadata, write_micrograph

models = pytest.importorskip("ome_zarr_models")
zarr = pytest.importorskip("zarr")


@pytest.mark.parametrize("shape", [(40, 50), (600, 700), (3, 600, 700)])
@pytest.mark.parametrize(
    "metadata", [Metadata(), Metadata(0.5, "nm"), Metadata(2.0, "1/nm")]
)
def test_a_store_satisfies_the_specification(shape, metadata, tmp_path):
    image = np.zeros(shape, np.float32)
    write_micrograph(tmp_path / "a.zarr", image, metadata)
    store = models.open_ome_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    assert type(store) is models.v05.Image
    (multiscale,) = store.ome_attributes.multiscales
    assert [axis.name for axis in multiscale.axes] == list("tyx"[-len(shape) :])
    finest, *coarser = (store.members[each.path].shape for each in multiscale.datasets)
    assert finest == shape
    assert all(each[-1] < finest[-1] for each in coarser)
