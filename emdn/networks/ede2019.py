"""The paper's network: an Xception-like encoder, atrous pyramid pooling and a decoder.

The file reads from top to bottom as Figure 1 of the paper: the sizes, one convolution, the
blocks, the network. In a block each convolution is followed by batch normalisation and
ReLU6, shortcuts included; a sum is not activated again. Feature maps are (N, H, W, C).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from keras import layers

from emdn.networks.layers import (
    BilinearUpsampling,
    CropLike,
    FusedBatchNormalization,
    Tensor,
)


@dataclass(frozen=True)
class Ede2019Config:
    """Sizes and variants of the network. The defaults are the paper's trained network.

    Parameters
    ----------
    first_features : int
        Channels of the first two convolutions, at stride 1.
    entry_features : tuple of 4 int
        Channels after each entry block, at strides 2, 4, 8 and 16.
    middle_blocks : int
        Residual blocks of three separable convolutions at stride 16.
    aspp_rates : tuple of int
        Atrous rates, in pixels of the feature map at stride 16.
    decoder_features : tuple of 3 int
        Channels of the decoder at strides 4, 2 and 1. The first is also the width of the
        ASPP bottleneck and should equal the sum of the two first `entry_features`, so that
        as many high-level as low-level features enter the decoder (section 2.4).
    batch_norm : {"twice", "once", "between"}
        Where separable convolutions are normalised: twice after the pointwise convolution,
        as the trained weights prove; once there, which can express the same; or between
        depthwise and pointwise as well as after, as section 2 says. "twice" also repeats
        the normalisation and activation of ASPP branches, which the paper does not mention.
    batch_norm_decay : float
        Share of the old moving statistics that a training step keeps.
    batch_renorm : bool
        Correct batch statistics towards the moving ones in training (section 5).
    image_pooling : bool
        Pool 2 x 2 and upsample again in the ASPP's image-level branch, as Fig. 1 shows. The
        code leaves the branch unpooled.
    upsampling : {"transposed", "bilinear"}
        How the decoder doubles its resolution: by a transposed convolution, or by bilinear
        interpolation and a convolution (section 4.2).
    activation : {"relu6", "relu"}
        Activation of every convolution but the last.
    output : {"relu6", "linear"}
        Last activation: ReLU6 after batch normalisation, as trained, or neither of them.
    """

    first_features: int = 64
    entry_features: tuple[int, int, int, int] = (128, 128, 256, 728)
    middle_blocks: int = 12
    aspp_rates: tuple[int, ...] = (6, 12, 18)
    decoder_features: tuple[int, int, int] = (256, 128, 64)
    batch_norm: Literal["twice", "once", "between"] = "twice"
    batch_norm_decay: float = 0.999
    batch_renorm: bool = False
    image_pooling: bool = False
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    activation: Literal["relu6", "relu"] = "relu6"
    output: Literal["relu6", "linear"] = "relu6"


PAPER = Ede2019Config()
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


def normalise(x: Tensor, config: Ede2019Config) -> Tensor:
    """Normalise each channel over the batch."""
    return FusedBatchNormalization(
        momentum=config.batch_norm_decay, epsilon=1e-3, renorm=config.batch_renorm
    )(x)


def activate(x: Tensor, config: Ede2019Config) -> Tensor:
    """Normalise, then activate."""
    return layers.Activation(config.activation)(normalise(x, config))


def conv(x: Tensor, features: int, config: Ede2019Config, *, size: int = 1) -> Tensor:
    """Convolve with size x size kernels, normalise, activate."""
    return activate(layers.Conv2D(features, size, padding="same")(x), config)


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
    return activate(x, config)


def entry_block(x: Tensor, inner: int, features: int, config: Ede2019Config) -> Tensor:
    """Three separable convolutions that halve H and W, beside a strided shortcut."""
    # Slicing and a 1 x 1 convolution do what a strided 1 x 1 convolution does, whose
    # gradient corrupts memory on CPUs in TensorFlow 2.19 to 2.21.
    shortcut = conv(x[:, ::2, ::2], features, config)
    x = separable_conv(x, inner, config)
    x = separable_conv(x, inner, config)
    x = separable_conv(x, features, config, stride=2)
    return layers.Add()([x, shortcut])


def middle_block(x: Tensor, config: Ede2019Config) -> Tensor:
    """Three separable convolutions beside the identity."""
    shortcut, features = x, x.shape[-1]
    for _ in range(3):
        x = separable_conv(x, features, config)
    return layers.Add()([x, shortcut])


def aspp(x: Tensor, features: int, config: Ede2019Config) -> Tensor:
    """Atrous spatial pyramid pooling: look at several distances at once.

    The original's code normalises and activates all branches but the first once more.
    """
    width = x.shape[-1]
    near = conv(x, width, config)
    others = [separable_conv(x, width, config, rate=rate) for rate in config.aspp_rates]
    others.append(pool_and_upsample(x) if config.image_pooling else x)
    if config.batch_norm == "twice":
        others = [activate(branch, config) for branch in others]
    return conv(layers.Concatenate()([near, *others]), features, config)


def pool_and_upsample(x: Tensor) -> Tensor:
    """Average 2 x 2 pixels and interpolate back to the same H and W."""
    pooled = layers.AveragePooling2D(2, padding="same")(x)
    upsampled = BilinearUpsampling(2)(pooled)
    return CropLike()([upsampled, x])  # an odd side was rounded up by the pooling


def decoder_block(inputs: Sequence[Tensor], features: int, config: Ede2019Config) -> Tensor:
    """Join the inputs; two separable convolutions beside a 1 x 1 shortcut."""
    x = layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
    shortcut = conv(x, features, config)
    x = separable_conv(x, features, config)
    x = separable_conv(x, features, config)
    return layers.Add()([x, shortcut])


def upsample(x: Tensor, config: Ede2019Config) -> Tensor:
    """Double H and W, keep the channels, normalise, activate."""
    features = x.shape[-1]
    if config.upsampling == "bilinear":
        x = BilinearUpsampling(2)(x)
        return conv(x, features, config, size=3)
    x = layers.Conv2DTranspose(features, 3, strides=2, padding="same")(x)
    return activate(x, config)


def output_conv(x: Tensor, config: Ede2019Config) -> Tensor:
    """Make the denoised image of one channel."""
    x = layers.Conv2D(1, 3, padding="same")(x)
    if config.output == "linear":
        return x
    return layers.Activation("relu6")(normalise(x, config))


def encode_and_decode(x: Any, config: Ede2019Config) -> Any:
    """Run the paper's network: entry flow, middle flow, ASPP and decoder."""
    low, high, full = config.decoder_features
    inner = (config.first_features, *config.entry_features[1:])
    strides = []  # feature maps at strides 2, 4, 8 and 16
    for inside, features in zip(inner, config.entry_features, strict=True):
        x = entry_block(x, inside, features, config)
        strides.append(x)
    for _ in range(config.middle_blocks):
        x = middle_block(x, config)
    x = aspp(x, low, config)

    x = BilinearUpsampling(4)(x)
    x = decoder_block([x, strides[1]], low, config)
    x = decoder_block([upsample(x, config), strides[0]], high, config)
    x = decoder_block([upsample(x, config)], full, config)
    return output_conv(x, config)
