"""The network: an Xception-like encoder, atrous pyramid pooling and a decoder (section 2).

`PAPER` is the trained network of the paper, `SMALL` the same graph for a laptop, which is
what ships with weights, and `TINY` a toy for tests and the book.
"""

import keras
import numpy as np
from keras import layers

from emdn.layers import (
    ModelConfig,
    aspp,
    decoder_block,
    entry_block,
    middle_block,
    output_conv,
    upsample,
)

STRIDE = 16  # the sides of an input are multiples of it

PAPER = ModelConfig()
SMALL = ModelConfig(
    first_features=16,
    entry_features=(32, 32, 64, 128),
    middle_blocks=4,
    decoder_features=(64, 32, 16),
    batch_norm="once",
    batch_norm_decay=0.99,
    output="linear",
)
TINY = ModelConfig(
    first_features=8,
    entry_features=(8, 16, 16, 24),
    middle_blocks=1,
    decoder_features=(24, 16, 8),
    batch_norm="once",
    batch_norm_decay=0.9,
    output="linear",
)


def build_model(config: ModelConfig = PAPER) -> keras.Model:
    """Build the network with random weights.

    Kernels are drawn by Xavier's uniform rule and biases are zero, Keras's defaults and the
    paper's choice; `keras.utils.set_random_seed` makes them reproducible.

    Parameters
    ----------
    config : ModelConfig
        Sizes and variants.

    Returns
    -------
    keras.Model
        Takes and returns float32 images of shape (N, H, W, 1), H and W multiples of 16,
        scaled to about [0, 1].
    """
    low, high, full = config.decoder_features
    image = keras.Input((None, None, 1), name="noisy")

    x = image
    inner = (config.first_features, *config.entry_features[1:])
    strides = []  # feature maps at strides 2, 4, 8 and 16
    for inside, features in zip(inner, config.entry_features, strict=True):
        x = entry_block(x, inside, features, config)
        strides.append(x)
    for _ in range(config.middle_blocks):
        x = middle_block(x, config)
    x = aspp(x, low, config)

    x = layers.UpSampling2D(4, interpolation="bilinear")(x)
    x = decoder_block([x, strides[1]], low, config)
    x = decoder_block([upsample(x, config), strides[0]], high, config)
    x = decoder_block([upsample(x, config)], full, config)
    return keras.Model(image, output_conv(x, config), name="denoiser")
