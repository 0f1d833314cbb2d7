"""The network: an Xception-like encoder, atrous pyramid pooling and a decoder (section 2).

`PAPER` is the trained network of the paper, `SMALL` the same graph for a laptop, which
ships with weights for low and for ordinary doses, and `TINY` a toy for tests and the book.
`UNET` is another graph, which is told the noise and ships with weights for every dose;
`SHALLOW` is one to compare with.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from emdn.layers import (
    BilinearUpsampling,
    DepthToSpace,
    FusedBatchNormalization,
    ModelConfig,
    SpaceToDepth,
    Stabilise,
    Unstabilise,
    aspp,
    decoder_block,
    entry_block,
    middle_block,
    output_conv,
    residual_block,
    upsample,
)

STRIDE = 16  # the sides of an input are multiples of it

PAPER = ModelConfig()
SMALL = ModelConfig(
    first_features=16,
    entry_features=(32, 32, 64, 128),
    middle_blocks=4,
    aspp_rates=(2, 4, 6),  # all taps of the paper's would need training crops of 592 pixels
    decoder_features=(64, 32, 16),
    batch_norm="once",
    batch_norm_decay=0.99,
    output="linear",
)
TINY = ModelConfig(
    first_features=8,
    entry_features=(8, 16, 16, 24),
    middle_blocks=1,
    aspp_rates=(1, 2, 3),
    decoder_features=(24, 16, 8),
    batch_norm="once",
    batch_norm_decay=0.9,
    output="linear",
)


@dataclass(frozen=True)
class ShallowConfig:
    """Sizes of a plain stack of convolutions that predicts the noise, as DnCNN does.

    The paper found such networks weaker than its own (section 5).

    Parameters
    ----------
    depth : int
        Number of 3 x 3 convolutions. DnCNN's 17 see 35 x 35 pixels.
    features : int
        Channels of all but the last.
    batch_norm_decay : float
        Share of the old moving statistics that a training step keeps.

    References
    ----------
    K. Zhang, W. Zuo, Y. Chen, D. Meng and L. Zhang, "Beyond a Gaussian denoiser: residual
    learning of deep CNN for image denoising", IEEE Transactions on Image Processing 26
    (2017), 3142-3155.
    """

    depth: int = 17
    features: int = 64
    batch_norm_decay: float = 0.99


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net of residual blocks that predicts the noise of stabilised counts.

    Plain convolutions without batch normalisation: on a processor they train in less time
    than separable ones of a tenth of their work, which wait for memory.

    Parameters
    ----------
    features : tuple of int
        Channels at strides 2, 4, 8 and 16, or at the first of these.
    blocks : tuple of int
        Residual blocks at each of these strides, as many down as up again.
    stabilised : bool
        Work on the Anscombe transform of the counts: then the network takes two inputs,
        the image and the counts that its 1 stands for. Otherwise it is as blind as the
        paper's.

    References
    ----------
    O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for biomedical
    image segmentation", MICCAI (2015), 234-241.
    """

    features: tuple[int, ...] = (64, 96, 128)
    blocks: tuple[int, ...] = (2, 2, 2)
    stabilised: bool = True

    def __post_init__(self) -> None:
        levels = len(self.features)
        if not 1 <= levels <= 4 or len(self.blocks) != levels:  # 2**4 is STRIDE
            raise ValueError(
                "features and blocks must be of the same length, from 1 to 4, got "
                f"{self.features} and {self.blocks}"
            )


AnyConfig = ModelConfig | ShallowConfig | UNetConfig

SHALLOW = ShallowConfig()
UNET = UNetConfig()
MODELS: dict[str, AnyConfig] = {
    "PAPER": PAPER,
    "SMALL": SMALL,
    "TINY": TINY,
    "SHALLOW": SHALLOW,
    "UNET": UNET,
}


def build_model(config: AnyConfig = PAPER) -> keras.Model:
    """Build a network with random weights.

    Kernels are drawn by Xavier's uniform rule and biases are zero, Keras's defaults and the
    paper's choice; `keras.utils.set_random_seed` makes them reproducible. The last kernel
    of a U-Net is zero.

    Parameters
    ----------
    config : ModelConfig, ShallowConfig or UNetConfig
        Sizes and variants.

    Returns
    -------
    keras.Model
        Takes and returns float32 images of shape (N, H, W, 1), H and W multiples of 16,
        scaled to about [0, 1]. One that works on stabilised counts takes a list of images
        and of the counts that their 1 stands for, shape (N,); 0 then stands for no counts.
    """
    image = keras.Input((None, None, 1), name="noisy")
    if isinstance(config, UNetConfig):
        return _u_net(image, config)
    shallow = isinstance(config, ShallowConfig)
    output = _stack(image, config) if shallow else _encode_and_decode(image, config)
    return keras.Model(image, output, name="denoiser")


def _encode_and_decode(x: Any, config: ModelConfig) -> Any:
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


def _stack(image: Any, config: ShallowConfig) -> Any:
    """Take a noise off that 3 x 3 convolutions find."""
    decay = config.batch_norm_decay
    x = layers.Conv2D(config.features, 3, padding="same", activation="relu")(image)
    for _ in range(config.depth - 2):
        x = layers.Conv2D(config.features, 3, padding="same", use_bias=False)(x)
        x = FusedBatchNormalization(momentum=decay, epsilon=1e-3)(x)
        x = layers.Activation("relu")(x)
    return layers.Subtract()([image, layers.Conv2D(1, 3, padding="same")(x)])


def _u_net(image: Any, config: UNetConfig) -> keras.Model:
    """Take the noise off an image, or off its stabilised counts."""
    if not config.stabilised:
        return keras.Model(image, _take_off(image, config), name="denoiser")
    counts = keras.Input((), name="counts")
    stabilised = Stabilise(dtype="float32")(image, counts)
    output = Unstabilise(dtype="float32")(_take_off(stabilised, config), counts)
    return keras.Model([image, counts], output, name="denoiser")


def _take_off(image: Any, config: UNetConfig) -> Any:
    """Subtract what residual blocks at several strides take for noise.

    The two ends are float32 in any case: an image in half precision has more rounding
    than noise.
    """
    x = SpaceToDepth(dtype="float32")(image)
    x = layers.Conv2D(config.features[0], 3, padding="same", dtype="float32")(x)
    skips: list[Any] = []
    for features, blocks in zip(config.features, config.blocks, strict=True):
        if skips:
            x = layers.Conv2D(features, 2, strides=2)(x)
        for _ in range(blocks):
            x = residual_block(x)
        skips.append(x)
    for skip, blocks in zip(skips[-2::-1], config.blocks[-2::-1], strict=True):
        x = layers.Conv2DTranspose(skip.shape[-1], 2, strides=2)(x)
        x = layers.Add()([x, skip])
        for _ in range(blocks):
            x = residual_block(x)
    # From zeros: the network begins as the identity, not with noise of its own.
    last = layers.Conv2D(4, 3, padding="same", kernel_initializer="zeros", dtype="float32")
    noise = last(x)
    return layers.Subtract(dtype="float32")([image, DepthToSpace(dtype="float32")(noise)])


def count_macs(model: keras.Model, shape: tuple[int, int] = (512, 512)) -> int:
    """Count the multiply-accumulate operations (MAC) of all convolutions.

    Nothing else counts: normalisations fold into convolutions, and all interpolation of
    `PAPER` is 0.02 % of its total.

    Parameters
    ----------
    model : keras.Model
        A network of `build_model`.
    shape : tuple of 2 int
        Height and width of the image, multiples of 16.

    Examples
    --------
    >>> print(f"{count_macs(build_model(TINY), (64, 64)) / 1e6:.1f} million")
    10.7 million
    """
    kinds = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)
    convs = [layer for layer in model.layers if isinstance(layer, kinds)]
    features = keras.Model(model.inputs, [conv.output for conv in convs])
    inputs = [(1, *shape, 1), (1,)][: len(model.inputs)]
    outputs = features.compute_output_shape(inputs if len(inputs) > 1 else inputs[0])
    macs = 0
    for conv, output in zip(convs, outputs, strict=True):
        uses = output[1] * output[2]  # of each weight in the kernel
        if isinstance(conv, layers.Conv2DTranspose):  # it visits input pixels instead
            uses //= conv.strides[0] * conv.strides[1]
        kernel: Any = conv.kernel  # (h, w, in, out), or with ends swapped, or (h, w, in, 1)
        macs += uses * math.prod(kernel.shape)
    return macs


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """Return a network that predicts the same with fewer operations.

    At inference a batch normalisation is a fixed affine map of each channel, so one that
    follows a convolution can be multiplied into its kernel and added to its bias.

    Parameters
    ----------
    model : keras.Model
        A network of `build_model`, trained or not; it is left alone.

    Returns
    -------
    keras.Model
        For inference only. Normalisations that follow no convolution stay.
    """
    affine = _affine_maps(model)
    folded_norms = {norm for _, _, norms in affine.values() for norm in norms}

    def clone(layer: keras.Layer) -> keras.Layer:
        bias = {"use_bias": True} if layer.name in affine else {}
        return type(layer).from_config({**layer.get_config(), **bias})

    def call(layer: keras.Layer, x: Any, *rest: Any, **options: Any) -> Any:
        return x if layer.name in folded_norms else layer(x, *rest, **options)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        weights = layer.get_weights()
        if layer.name in affine:
            scale, offset, _ = affine[layer.name]
            # A convolution's kernel ends in (..., out), the two others' in (..., out, *).
            plain = type(layer) is layers.Conv2D
            kernel = weights[0] * (scale if plain else scale[:, np.newaxis])
            bias = weights[1] if layer.use_bias else np.zeros_like(offset)
            weights = [kernel, bias * scale + offset]
        if layer.name not in folded_norms:
            folded.get_layer(layer.name).set_weights(weights)
    return folded


def _affine_maps(model: keras.Model) -> dict[str, tuple[NDArray, NDArray, list[str]]]:
    """Return scale, offset and names of the normalisations that follow each convolution."""
    maps, source = {}, {}
    for norm in model.layers:
        if not isinstance(norm, layers.BatchNormalization):
            continue
        tensor: Any = norm.input
        before = tensor._keras_history.operation
        conv = source.get(before.name, before)
        if not isinstance(
            conv, (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)
        ):
            continue
        gamma, beta, mean, variance = norm.get_weights()
        gain = gamma / np.sqrt(variance + norm.epsilon)
        scale, offset, norms = maps.get(conv.name, (1.0, 0.0, []))
        maps[conv.name] = (scale * gain, (offset - mean) * gain + beta, [*norms, norm.name])
        source[norm.name] = conv
    return maps
