"""The paper's network: an Xception-like encoder, atrous pyramid pooling and a decoder.

The file reads from top to bottom as Figure 1 of the paper: the sizes, one convolution, the
blocks in the order in which an image meets them, the network. Feature maps are
(N, H, W, C). In a block each convolution is followed by batch normalisation and ReLU6,
shortcuts included; a sum is not activated again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

import keras
from keras import layers

from emdn.networks.counts import build_on_counts
from emdn.networks.layers import (
    BilinearUpsampling,
    CropLike,
    FusedBatchNormalization,
    Tensor,
)

# What is added to a variance before its root is taken (the original's code).
EPSILON = 1e-3


@dataclass(frozen=True)
class Ede2019Config:
    """Sizes and variants of the network. The defaults are the paper's trained network.

    `batch_renorm`, `image_pooling`, `upsampling` and `activation` serve the experiments of
    the paper's section 5 (`studies/paper/ablations.py`); no network that ships sets them.

    Parameters
    ----------
    first_features : int
        Channels of the first two convolutions, at stride 1.
    entry_features : tuple of 4 int
        Channels after each entry block, at strides 2, 4, 8 and 16.
    middle_blocks : int
        Number of residual blocks of three separable convolutions at stride 16.
    aspp_rates : tuple of int
        Atrous rates, in pixels of the feature map at stride 16.
    decoder_features : tuple of 3 int
        Channels of the decoder at strides 4, 2 and 1. The first is also the width of the
        ASPP bottleneck.
    unequal_features : bool
        Allow a decoder that more high-level than low-level features enter, or fewer. The
        paper wants as many of both (section 2.4): the first of `decoder_features` is then
        the sum of the first two of `entry_features`.
    batch_norm : {"twice", "once", "between"}
        Where separable convolutions are normalised: twice after the pointwise convolution,
        as the trained weights prove; once there, which can express the same; or between
        depthwise and pointwise as well as after, as section 2 says. "twice" also repeats
        the normalisation and activation of ASPP branches, which the paper does not mention.
    batch_norm_decay : float
        Share of the old moving statistics that a training step keeps, from 0 to 1.
    batch_renorm : bool
        Correct batch statistics towards the moving ones in training (section 5), which
        Keras can do from version 3.14 on.
    image_pooling : bool
        Pool 2 x 2 and upsample again in the ASPP's image-level branch, as Fig. 1 shows. The
        original's code leaves the branch unpooled.
    upsampling : {"transposed", "bilinear"}
        How the decoder doubles its resolution: by a transposed convolution, or by bilinear
        interpolation and a convolution (section 4.2).
    activation : {"relu6", "relu"}
        Activation of every convolution but the last.
    output : {"relu6", "linear"}
        Last activation: ReLU6 after batch normalisation, as trained, or neither of them.
    stabilised : bool
        Work on the Anscombe transform of the counts, and predict the noise of it, which is
        subtracted. The network is then gain-aware, with two inputs: the image, and the
        counts that a pixel of 1 stands for. Otherwise it is blind, as the paper's is.

    Raises
    ------
    ValueError
        If a size is not positive, a variant is unknown, a stabilised network has an output
        of ReLU6, or the numbers of high-level and low-level features differ without
        `unequal_features`.
    """

    first_features: int = 64
    entry_features: tuple[int, int, int, int] = (128, 128, 256, 728)
    middle_blocks: int = 12
    aspp_rates: tuple[int, ...] = (6, 12, 18)
    decoder_features: tuple[int, int, int] = (256, 128, 64)
    unequal_features: bool = False
    batch_norm: Literal["twice", "once", "between"] = "twice"
    batch_norm_decay: float = 0.999
    batch_renorm: bool = False
    image_pooling: bool = False
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    activation: Literal["relu6", "relu"] = "relu6"
    output: Literal["relu6", "linear"] = "relu6"
    stabilised: bool = False

    def __post_init__(self) -> None:
        for field, length in {"entry_features": 4, "decoder_features": 3}.items():
            if len(getattr(self, field)) != length:
                raise ValueError(
                    f"{field} must be {length} numbers, got {getattr(self, field)}"
                )
        sizes = (self.first_features, *self.entry_features, *self.decoder_features)
        if min(sizes, default=1) < 1 or min(self.aspp_rates, default=1) < 1:
            raise ValueError(f"features and rates must be at least 1, got {self}")
        if self.middle_blocks < 0:
            raise ValueError(
                f"middle_blocks must not be negative, got {self.middle_blocks}"
            )
        if not 0 <= self.batch_norm_decay < 1:
            raise ValueError(
                "batch_norm_decay must be at least 0 and below 1, "
                f"got {self.batch_norm_decay}"
            )
        for field in ("batch_norm", "upsampling", "activation", "output"):
            choices = get_args(get_type_hints(type(self))[field])
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"{field} must be one of {', '.join(choices)}, "
                    f"got {getattr(self, field)!r}"
                )
        if self.stabilised and self.output == "relu6":
            raise ValueError(
                "stabilised networks predict noise, which may be negative; set output to "
                "linear"
            )
        high, low = self.decoder_features[0], sum(self.entry_features[:2])
        if high != low and not self.unequal_features:
            raise ValueError(
                f"decoder_features[0] must be {low}, the sum of the first two of "
                f"entry_features, got {high}; or set unequal_features"
            )


PAPER = Ede2019Config()
"""The sizes of the published checkpoint, which has 25,413,620 trainable parameters."""

SMALL = Ede2019Config(
    first_features=16,
    entry_features=(32, 32, 64, 128),
    middle_blocks=4,
    aspp_rates=(2, 4, 6),  # all taps of the paper's would need training crops of 592 pixels
    decoder_features=(64, 32, 16),
    batch_norm="once",
    batch_norm_decay=0.99,
    output="linear",
)
"""The blind network that ships, once for low and once for ordinary doses."""

COMPACT = replace(SMALL, stabilised=True)
"""The gain-aware network that ships beside the U-Net, for a tenth of its operations."""

TINY = Ede2019Config(
    first_features=8,
    entry_features=(8, 16, 16, 24),
    middle_blocks=1,
    aspp_rates=(1, 2, 3),
    decoder_features=(24, 16, 8),
    batch_norm="once",
    batch_norm_decay=0.9,
    output="linear",
)
"""A network that a laptop trains in minutes."""


# One convolution.


def normalise(x: Tensor, config: Ede2019Config) -> Tensor:
    """Normalise each channel over the batch."""
    # Keras below 3.14 does not know the argument `renorm`.
    renorm: dict[str, Any] = {"renorm": True} if config.batch_renorm else {}
    return FusedBatchNormalization(
        momentum=config.batch_norm_decay, epsilon=EPSILON, **renorm
    )(x)


def normalise_and_activate(x: Tensor, config: Ede2019Config) -> Tensor:
    """Normalise each channel over the batch, then activate it."""
    return layers.Activation(config.activation)(normalise(x, config))


def conv(x: Tensor, features: int, config: Ede2019Config, *, size: int = 1) -> Tensor:
    """Convolve with size x size kernels, normalise, activate."""
    x = layers.Conv2D(features, size, padding="same")(x)
    return normalise_and_activate(x, config)


def separable_conv(
    x: Tensor, features: int, config: Ede2019Config, *, stride: int = 1, rate: int = 1
) -> Tensor:
    """Filter each channel by its own 3 x 3 kernel, mix channels, normalise, activate.

    A `rate` above 1 (Keras calls it dilation) spreads the nine taps that many pixels apart.
    """
    depthwise = layers.DepthwiseConv2D(
        3, strides=stride, dilation_rate=rate, padding="same", use_bias=False
    )
    x = depthwise(x)
    if config.batch_norm == "between":
        x = normalise(x, config)
    x = layers.Conv2D(features, 1, use_bias=False)(x)
    if config.batch_norm == "twice":
        x = normalise(x, config)
    return normalise_and_activate(x, config)


# The blocks, from the image on.


def entry_block(x: Tensor, inner: int, features: int, config: Ede2019Config) -> Tensor:
    """Halve H and W by three separable convolutions beside a strided shortcut."""
    # Slicing and a 1 x 1 convolution do what a strided 1 x 1 convolution does, whose
    # gradient corrupts memory on CPUs in TensorFlow 2.19 to 2.21.
    shortcut = conv(x[:, ::2, ::2], features, config)
    x = separable_conv(x, inner, config)
    x = separable_conv(x, inner, config)
    x = separable_conv(x, features, config, stride=2)
    return layers.Add()([x, shortcut])


def middle_block(x: Tensor, config: Ede2019Config) -> Tensor:
    """Add what three separable convolutions make of the features."""
    shortcut, features = x, x.shape[-1]
    for _ in range(3):
        x = separable_conv(x, features, config)
    return layers.Add()([x, shortcut])


def aspp(x: Tensor, features: int, config: Ede2019Config) -> Tensor:
    """Look at several distances at once: atrous spatial pyramid pooling.

    The original's code normalises and activates all branches but the first once more.
    """
    width = x.shape[-1]
    near = conv(x, width, config)
    others = [separable_conv(x, width, config, rate=rate) for rate in config.aspp_rates]
    others.append(pool_and_upsample(x) if config.image_pooling else x)
    if config.batch_norm == "twice":
        others = [normalise_and_activate(branch, config) for branch in others]
    return conv(layers.Concatenate()([near, *others]), features, config)


def pool_and_upsample(x: Tensor) -> Tensor:
    """Average 2 x 2 pixels and interpolate back to the same H and W."""
    pooled = layers.AveragePooling2D(2, padding="same")(x)
    upsampled = BilinearUpsampling(2)(pooled)
    return CropLike()([upsampled, x])  # an odd side was rounded up by the pooling


def decoder_block(inputs: Sequence[Tensor], features: int, config: Ede2019Config) -> Tensor:
    """Join the inputs and refine them by two separable convolutions beside a shortcut."""
    x = layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
    shortcut = conv(x, features, config)
    x = separable_conv(x, features, config)
    x = separable_conv(x, features, config)
    return layers.Add()([x, shortcut])


def upsample(x: Tensor, config: Ede2019Config) -> Tensor:
    """Double H and W, keep the channels, normalise, activate."""
    features = x.shape[-1]
    if config.upsampling == "bilinear":
        return conv(BilinearUpsampling(2)(x), features, config, size=3)
    x = layers.Conv2DTranspose(features, 3, strides=2, padding="same")(x)
    return normalise_and_activate(x, config)


def output_conv(x: Tensor, config: Ede2019Config) -> Tensor:
    """Make an image of one channel from the features."""
    x = layers.Conv2D(1, 3, padding="same")(x)
    if config.output == "linear":
        return x
    return layers.Activation("relu6")(normalise(x, config))


# The network.


def encode_and_decode(noisy: Tensor, config: Ede2019Config) -> Tensor:
    """Return the denoised image or, of a stabilised network, the noise of its input.

    The way leads through entry flow, middle flow, ASPP and decoder. Two skips carry the
    features at strides 4 and 2 around the coarse middle.
    """
    first, second, third, fourth = config.entry_features
    low, high, full = config.decoder_features
    at_2 = entry_block(noisy, config.first_features, first, config)
    at_4 = entry_block(at_2, second, second, config)
    at_8 = entry_block(at_4, third, third, config)
    x = entry_block(at_8, fourth, fourth, config)
    for _ in range(config.middle_blocks):
        x = middle_block(x, config)
    x = aspp(x, low, config)

    x = BilinearUpsampling(4)(x)
    x = decoder_block([x, at_4], low, config)
    x = decoder_block([upsample(x, config), at_2], high, config)
    x = decoder_block([upsample(x, config)], full, config)
    return output_conv(x, config)


def build(config: Ede2019Config) -> keras.Model:
    """Build the network for images of any size."""
    if config.stabilised:
        return build_on_counts(lambda noisy: encode_and_decode(noisy, config))
    noisy = keras.Input((None, None, 1), name="noisy")
    return keras.Model(noisy, encode_and_decode(noisy, config), name="denoiser")
