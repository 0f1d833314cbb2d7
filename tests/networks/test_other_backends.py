"""Networks run and learn by another library than TensorFlow, if Keras is set to it."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# JAX is no part of the lock: .ci/bridges installs it and runs this.
pytestmark = pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")

RUN = """
import sys
sys.modules["tensorflow"] = None
import numpy as np
from emdn.weights import load, read_model

tiles = np.random.default_rng(0).uniform(size=(2, 64, 96)).astype(np.float32)
for name in ("auto", "compact", "low"):
    model, network = read_model(name), load(name, backend="onnx")
    images, counts = tiles[..., np.newaxis], np.full(2, 50, np.float32)
    found = np.asarray(model([images, counts] if network.gain_aware else images))
    np.testing.assert_allclose(found[..., 0], network(tiles, 0.02), atol=2e-6)
"""

LEARN = """
import sys
sys.modules["tensorflow"] = None
import keras, numpy as np
from emdn.losses import HuberisedMSE
from emdn.networks import build
from emdn.networks.unet import UNetConfig

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
clean = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (8, 32, 1))[..., np.newaxis]
noisy = (rng.poisson(50 * clean) / 50).astype(np.float32)
model = build(UNetConfig((8,), (1,)))
model.compile(keras.optimizers.Adam(1e-3), HuberisedMSE())
counts = np.full(8, 50, np.float32)
history = model.fit([noisy, counts], clean, batch_size=8, epochs=15, verbose=0).history
losses = history["loss"]
assert losses[-1] < losses[0], losses
"""


@pytest.mark.parametrize("code", [RUN, LEARN], ids=["run", "learn"])
def test_a_network_works_by_jax(code):
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "KERAS_BACKEND": "jax"}
    )
