"""Look into networks, and run a block of one."""

import keras
import numpy as np
from keras import layers


def network(block, features, *arguments, **options):
    """Return a network of one block, for images of any size."""
    x = keras.Input((None, None, features))
    return keras.Model(x, block(x, *arguments, **options))


def fill(model, kind, value):
    """Set all kernels of one kind of layer to a value."""
    for layer in model.layers:
        if isinstance(layer, kind):
            layer.kernel.assign(np.full(layer.kernel.shape, value))


def trainable(model):
    return sum(np.prod(weight.shape) for weight in model.trainable_weights)


def of_kind(model, kind):
    """Return the layers of one kind in the order of the graph."""
    return [layer for layer in model.layers if isinstance(layer, kind)]


def predict(model, images):
    return keras.ops.convert_to_numpy(model(np.asarray(images, np.float32)))


def settle(model, rng):
    """Give each normalisation statistics and an affine map that are not the identity."""
    wide, positive = (-1, 1), (0.5, 2)
    for norm in of_kind(model, layers.BatchNormalization):
        # gamma, beta, mean and variance, and those of batch renormalisation, if there are
        ends = [positive, wide, wide, positive, wide, positive, positive]
        norm.set_weights(
            [
                rng.uniform(*pair, weights.shape)
                for pair, weights in zip(ends, norm.get_weights(), strict=False)
            ]
        )
    return model
