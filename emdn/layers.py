"""The blocks of the networks, as functions from one Keras tensor to the next.

Feature maps are (N, H, W, C). In the paper's blocks each convolution is followed by batch
normalisation and ReLU6, shortcuts included; what is added is not activated again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import layers, ops

# Keras types the sum of two tensors as None, so precise types would only breed casts.
Tensor = Any


@dataclass(frozen=True)
class ModelConfig:
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


@keras.saving.register_keras_serializable(package="emdn")
class BilinearUpsampling(layers.Layer):
    """Enlarge (N, H, W, C) feature maps by a whole factor, by bilinear interpolation.

    Keras's own layer can't be compiled for images of more than one size.
    """

    def __init__(self, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Tensor) -> Tensor:
        """Return (N, factor H, factor W, C) maps; pixels lie at half-pixel centres."""
        return tf.image.resize(inputs, self.factor * tf.shape(inputs)[1:3])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the enlarged maps; unknown sides stay unknown."""
        count, *sides, channels = input_shape
        return (count, *(side and self.factor * side for side in sides), channels)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer from a saved model."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="emdn")
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation that trains by TensorFlow's fused kernel, as the original did.

    Keras builds the same from a dozen operations, which take half of a training step.
    The moving variance is fed with the unbiased estimate, the batch's sum of squares over
    one less than the number of values. Of several replicas, each normalises by its own
    share of the batch, and the moving statistics are those of their means. Inputs are
    (N, H, W, C), channels last.
    """

    def add_weight(self, *args: Any, **options: Any) -> Any:
        """Average over replicas what Keras would take from the first of them."""
        if options.get("name", "").startswith(("moving_", "renorm_")):
            options |= {"aggregation": "mean"}
        return super().add_weight(*args, **options)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Any = None
    ) -> Tensor:
        """Normalise by the batch in training, else by the moving statistics."""
        if not (training and self.trainable) or self.renorm:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
        )
        statistics: Any = (self.moving_mean, mean), (self.moving_variance, variance)
        for moving, found in statistics:
            moving.assign(self.momentum * moving + (1 - self.momentum) * found)
        return outputs


def normalise(x: Tensor, config: ModelConfig) -> Tensor:
    """Normalise each channel over the batch."""
    return FusedBatchNormalization(
        momentum=config.batch_norm_decay, epsilon=1e-3, renorm=config.batch_renorm
    )(x)


def activate(x: Tensor, config: ModelConfig) -> Tensor:
    """Normalise, then activate."""
    return layers.Activation(config.activation)(normalise(x, config))


def conv(x: Tensor, features: int, config: ModelConfig, *, size: int = 1) -> Tensor:
    """Convolve with size x size kernels, normalise, activate."""
    return activate(layers.Conv2D(features, size, padding="same")(x), config)


def separable_conv(
    x: Tensor, features: int, config: ModelConfig, *, stride: int = 1, rate: int = 1
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


def entry_block(x: Tensor, inner: int, features: int, config: ModelConfig) -> Tensor:
    """Three separable convolutions that halve H and W, beside a strided shortcut."""
    # Slicing and a 1 x 1 convolution do what a strided 1 x 1 convolution does, whose
    # gradient corrupts memory on CPUs in TensorFlow 2.19 to 2.21.
    shortcut = conv(x[:, ::2, ::2], features, config)
    x = separable_conv(x, inner, config)
    x = separable_conv(x, inner, config)
    x = separable_conv(x, features, config, stride=2)
    return layers.Add()([x, shortcut])


def middle_block(x: Tensor, config: ModelConfig) -> Tensor:
    """Three separable convolutions beside the identity."""
    shortcut, features = x, x.shape[-1]
    for _ in range(3):
        x = separable_conv(x, features, config)
    return layers.Add()([x, shortcut])


def aspp(x: Tensor, features: int, config: ModelConfig) -> Tensor:
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


@keras.saving.register_keras_serializable(package="emdn")
class CropLike(layers.Layer):
    """Cut feature maps to the H and W of others.

    A slice in the functional graph cannot do this: there, H and W are not known yet.
    """

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the top left of the first input, of the second input's H and W."""
        x, like = inputs
        shape: Tensor = ops.shape(like)
        return x[:, : shape[1], : shape[2]]


def decoder_block(inputs: Sequence[Tensor], features: int, config: ModelConfig) -> Tensor:
    """Join the inputs; two separable convolutions beside a 1 x 1 shortcut."""
    x = layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
    shortcut = conv(x, features, config)
    x = separable_conv(x, features, config)
    x = separable_conv(x, features, config)
    return layers.Add()([x, shortcut])


def upsample(x: Tensor, config: ModelConfig) -> Tensor:
    """Double H and W, keep the channels, normalise, activate."""
    features = x.shape[-1]
    if config.upsampling == "bilinear":
        x = BilinearUpsampling(2)(x)
        return conv(x, features, config, size=3)
    x = layers.Conv2DTranspose(features, 3, strides=2, padding="same")(x)
    return activate(x, config)


@keras.saving.register_keras_serializable(package="emdn")
class Stabilise(layers.Layer):
    """Make shot noise the same in all pixels and at all doses: the Anscombe transform.

    Images in [0, 1], of which 1 stands for `counts`, become ``2 sqrt(x counts + 3/8)``,
    whose noise has a deviation of 1, divided by `UNIT`.
    """

    # Most values are then of the order of 1 to 10. No file of weights tells it, so all that
    # were trained with it would be lost with another.
    UNIT = 5.0

    def call(self, image: Tensor, counts: Tensor) -> Tensor:
        """Return stabilised (N, H, W, 1) images for counts of shape (N,)."""
        electrons = ops.maximum(image * _each_image(counts), 0.0)
        return ops.sqrt(electrons + 3 / 8) * (2 / self.UNIT)


@keras.saving.register_keras_serializable(package="emdn")
class Unstabilise(layers.Layer):
    """Return stabilised images to [0, 1], by plain algebra.

    The mean of a root is not the root of a mean; a network in between learns what is
    missing, since its loss is that of the images that come out here.
    """

    def call(self, stabilised: Tensor, counts: Tensor) -> Tensor:
        """Return (N, H, W, 1) images of which 1 stands for counts of shape (N,)."""
        root = ops.maximum(stabilised * (Stabilise.UNIT / 2), 0.0)
        return (root * root - 3 / 8) / _each_image(counts)


def _each_image(counts: Tensor) -> Tensor:
    return ops.reshape(counts, (-1, 1, 1, 1))


@keras.saving.register_keras_serializable(package="emdn")
class SpaceToDepth(layers.Layer):
    """Take each 2 x 2 pixels for four channels of one."""

    def call(self, x: Tensor) -> Tensor:
        """Return (N, H / 2, W / 2, 4 C) for (N, H, W, C)."""
        return tf.nn.space_to_depth(x, 2)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the halved sides; unknown ones stay unknown."""
        count, *sides, channels = input_shape
        return (count, *(side and side // 2 for side in sides), 4 * channels)


@keras.saving.register_keras_serializable(package="emdn")
class DepthToSpace(layers.Layer):
    """Take four channels of each pixel for 2 x 2 pixels of one channel."""

    def call(self, x: Tensor) -> Tensor:
        """Return (N, 2 H, 2 W, C / 4) for (N, H, W, C)."""
        return tf.nn.depth_to_space(x, 2)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the doubled sides; unknown ones stay unknown."""
        count, *sides, channels = input_shape
        return (count, *(side and 2 * side for side in sides), channels // 4)


def residual_block(x: Tensor) -> Tensor:
    """Two 3 x 3 convolutions beside the identity, without normalisation."""
    features = x.shape[-1]
    inner = layers.Conv2D(features, 3, padding="same", activation="relu")(x)
    return layers.Add()([x, layers.Conv2D(features, 3, padding="same")(inner)])


def output_conv(x: Tensor, config: ModelConfig) -> Tensor:
    """Make the denoised image of one channel."""
    x = layers.Conv2D(1, 3, padding="same")(x)
    if config.output == "linear":
        return x
    return layers.Activation("relu6")(normalise(x, config))
