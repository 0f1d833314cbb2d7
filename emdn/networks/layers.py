"""The layers that Keras lacks. Feature maps are (N, H, W, C).

They are written with `keras.ops`, so that a network runs and trains by TensorFlow, JAX or
PyTorch, whichever Keras is set to.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

# Keras types the sum of two tensors as None, so precise types would only breed casts.
Tensor = Any


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
        tall = self._enlarge(inputs)
        turned = ops.transpose(tall, (0, 2, 1, 3))
        return ops.transpose(self._enlarge(turned), (0, 2, 1, 3))

    def _enlarge(self, x: Tensor) -> Tensor:
        """Enlarge the first side: each pixel becomes several, mixed with a neighbour."""
        before = ops.concatenate([x[:, :1], x[:, :-1]], axis=1)
        after = ops.concatenate([x[:, 1:], x[:, -1:]], axis=1)
        pixels: list[Tensor] = []
        for number in range(self.factor):
            away = (number + 0.5) / self.factor - 0.5  # pixels, from the old to the new
            neighbour = before if away < 0 else after
            pixels.append(x + abs(away) * (neighbour - x))
        height, width, channels = _sides(x)
        shape = (-1, self.factor * height, width, channels)
        return ops.reshape(ops.stack(pixels, axis=2), shape)

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

    Keras builds the same from a dozen operations, which take half of a training step; by
    JAX and PyTorch, its own layer is used. The moving variance is fed with the unbiased
    estimate, the batch's sum of squares over one less than the number of values, as long as
    TensorFlow trains. Of several replicas, each normalises by its own
    share of the batch, and the moving statistics are those of their means. Inputs are
    (N, H, W, C), channels last. Renormalisation is left to Keras.
    """

    def add_weight(self, *args: Any, **options: Any) -> Any:
        """Average the moving statistics over replicas; Keras takes the first's."""
        if options.get("name", "").startswith(("moving_", "renorm_")):
            options |= {"aggregation": "mean"}
        return super().add_weight(*args, **options)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Any = None
    ) -> Tensor:
        """Normalise by the batch in training, else by the moving statistics."""
        renorm = getattr(self, "renorm", False)  # Keras below 3.14 has no such attribute
        fused = keras.backend.backend() == "tensorflow" and not renorm
        if not (training and self.trainable and fused):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
        )
        statistics: Any = (self.moving_mean, mean), (self.moving_variance, variance)
        for moving, batch in statistics:
            moving.assign(self.momentum * moving + (1 - self.momentum) * batch)
        return outputs


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


def _sides(x: Tensor) -> Any:
    """Return H, W and C of feature maps, which are numbers or tensors of one."""
    shape: Any = ops.shape(x)
    return shape[1:]


UNIT = 5.0
"""Deviations of the noise that a stabilised value of 1 stands for.

Most values are then of the order of 1 to 10, as initial weights expect. Files saved before
the layers kept it in their configuration were trained with this one.
"""


@keras.saving.register_keras_serializable(package="emdn")
class Stabilise(layers.Layer):
    """Give shot noise the same deviation in all pixels and at all doses.

    This is the Anscombe transform: images in [0, 1], of which 1 stands for `counts`, become
    ``2 sqrt(x counts + 3/8)``, whose noise has a deviation of 1, divided by `unit`.

    Parameters
    ----------
    unit : float
        Deviations of the noise that a stabilised value of 1 stands for.
    """

    def __init__(self, unit: float = UNIT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unit = unit

    def call(self, image: Tensor, counts: Tensor) -> Tensor:
        """Return stabilised (N, H, W, 1) images for counts of shape (N,)."""
        electrons: Tensor = ops.maximum(image * _per_image(counts), 0.0)
        root: Tensor = ops.sqrt(electrons + 3 / 8)
        return root * (2 / self.unit)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer from a saved model."""
        return {**super().get_config(), "unit": self.unit}


@keras.saving.register_keras_serializable(package="emdn")
class Unstabilise(layers.Layer):
    """Return stabilised images to [0, 1], by plain algebra.

    The mean of a root is not the root of a mean. A network between the two layers learns
    the difference, since its loss is that of the images that come out here.

    Parameters
    ----------
    unit : float
        Deviations of the noise that a stabilised value of 1 stands for.
    """

    def __init__(self, unit: float = UNIT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unit = unit

    def call(self, stabilised: Tensor, counts: Tensor) -> Tensor:
        """Return (N, H, W, 1) images of which 1 stands for counts of shape (N,)."""
        # A negative root has no counts; its square would.
        root: Tensor = ops.maximum(stabilised * (self.unit / 2), 0.0)
        return (root * root - 3 / 8) / _per_image(counts)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer from a saved model."""
        return {**super().get_config(), "unit": self.unit}


def _per_image(counts: Tensor) -> Tensor:
    """Return a number for each image in the shape that multiplies (N, H, W, 1) images."""
    return ops.reshape(counts, (-1, 1, 1, 1))


@keras.saving.register_keras_serializable(package="emdn")
class SpaceToDepth(layers.Layer):
    """Make one pixel of four channels from each square of 2 x 2 pixels."""

    def call(self, x: Tensor) -> Tensor:
        """Return (N, H / 2, W / 2, 4 C) for (N, H, W, C)."""
        height, width, channels = _sides(x)
        squares = ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels))
        aside = ops.transpose(squares, (0, 1, 3, 2, 4, 5))
        return ops.reshape(aside, (-1, height // 2, width // 2, 4 * channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the halved sides; unknown ones stay unknown."""
        count, *sides, channels = input_shape
        return (count, *(side and side // 2 for side in sides), 4 * channels)


@keras.saving.register_keras_serializable(package="emdn")
class DepthToSpace(layers.Layer):
    """Make a square of 2 x 2 pixels from each pixel's four channels."""

    def call(self, x: Tensor) -> Tensor:
        """Return (N, 2 H, 2 W, C / 4) for (N, H, W, C)."""
        height, width, channels = _sides(x)
        squares = ops.reshape(x, (-1, height, width, 2, 2, channels // 4))
        aside = ops.transpose(squares, (0, 1, 3, 2, 4, 5))
        return ops.reshape(aside, (-1, 2 * height, 2 * width, channels // 4))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the doubled sides; unknown ones stay unknown."""
        count, *sides, channels = input_shape
        return (count, *(side and 2 * side for side in sides), channels // 4)
