"""An ONNX graph predicts what its network does, whatever the sizes of the images."""

from dataclasses import replace

import keras
import numpy as np
import onnxruntime
import pytest
from helpers.graphs import of_kind, settle
from keras import layers

from emdn.networks import build
from emdn.networks.dncnn import DnCNNConfig
from emdn.networks.ede2019 import TINY
from emdn.networks.inference import remove_noise
from emdn.networks.onnx_graph import to_onnx, write_onnx
from emdn.networks.unet import UNetConfig

CONFIGS = {
    "the paper's": replace(TINY, batch_norm="twice", output="relu6"),
    "the paper's, as its figure": replace(TINY, image_pooling=True),
    "the paper's, renormalised": replace(TINY, batch_renorm=True),
    "the paper's, other variants": replace(
        TINY, batch_norm="between", upsampling="bilinear", activation="relu"
    ),
    "the paper's, of counts": replace(TINY, stabilised=True),
    "DnCNN": DnCNNConfig(depth=4, features=8),
    "U-Net": UNetConfig((4, 6, 8), (1, 1, 1)),
    "U-Net, blind": UNetConfig((4,), (1,), stabilised=False),
}


def outputs(model, images, gains):
    """Return what ONNX Runtime and Keras make of (N, H, W, 1) images."""
    session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString())
    names = [each.name for each in session.get_inputs()]
    given = {"noisy": images, "counts": 1 / gains}
    (ours,) = session.run(["denoised"], {name: given[name] for name in names})
    tensors = map(keras.ops.convert_to_tensor, (images, gains))
    return ours, np.asarray(remove_noise(model, *tensors, training=False))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_graph_of_any_network_predicts_the_same(config, rng):
    keras.utils.set_random_seed(0)
    model = settle(build(config), rng)
    if isinstance(config, UNetConfig):  # which begins as the identity
        last = of_kind(model, layers.Conv2D)[-1]
        last.kernel.assign(rng.normal(0, 0.1, last.kernel.shape))
    for shape in ((1, 16, 16), (3, 32, 48), (2, 80, 16)):
        images = rng.uniform(size=(*shape, 1)).astype(np.float32)
        gains = rng.uniform(0.001, 0.1, size=shape[0]).astype(np.float32)
        ours, theirs = outputs(model, images, gains)
        size = np.abs(theirs).max()
        assert size > 0.01
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * max(size, 1))


def test_a_layer_that_no_network_of_ours_has_is_refused_by_its_name(tmp_path):
    image = keras.Input((None, None, 1))
    model = keras.Model(image, layers.Conv2D(1, 1, activation="tanh", name="odd")(image))
    with pytest.raises(ValueError, match="odd: an activation tanh cannot be written"):
        to_onnx(model)
    model = keras.Model(image, layers.UnitNormalization(name="odd")(image))
    with pytest.raises(ValueError, match="odd: a layer UnitNormalization cannot"):
        write_onnx(model, tmp_path / "odd.onnx")
    assert not list(tmp_path.iterdir())
